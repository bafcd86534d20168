/**
 * Bench: one, two and four workers of one listener, on both cores together with the load and the upstream. Session,
 * policy, signed assertion and audit are on; the requests are those of `bench/proxy.ts`. It prints
 *
 * - processor time per request, with 64 connections for each worker, beside as many separate processes under the same
 *   load in turns, the median of the rounds: what workers cost. Beside one process alone it also shows what the machine
 *   costs: its cores share caches and are shared with the load. Two cores do 1.8 times the work of one if a request
 *   costs at most 1 / 0.9 as much.
 * - how requests spread over the workers: the share of the busiest beside an equal one, with 16 and 64 connections.
 * - while idle: processor time per second and resident memory, of all processes together.
 * - per change (a new session), of all processes together: each worker follows the log.
 *
 *   node bench/workers.ts [--seconds 2] [--rounds 7] [--changes 60]
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { freePorts } from "../test/support/free-port.ts";
import { waitFor } from "../test/support/wait-for.ts";
import { peopleCount, writeBrowserScript } from "./support/browsers.ts";
import { type Budget, reportBudgets, whole } from "./support/budget.ts";
import { type Cardea, connectBroker, newSession, startCardea } from "./support/cardea.ts";
import { byWrk, type Figure } from "./support/load.ts";
import { helloServer, writeNginxConf } from "./support/nginx-conf.ts";
import { coreOfLoad, coreOfProxy, type Stand, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "2" },
    rounds: { type: "string", default: "7" },
    changes: { type: "string", default: "60" },
  },
});
const seconds = Number(values.seconds);
const changes = Number(values.changes);
const counts = [1, 2, 4];
const connectionsPerWorker = 64;
const spreadConnections = [16, 64];
const changesPerSecond = 20;
const idleMs = 3_000;
const costMax = 1 / 0.9;

type Subject = Readonly<{ workers: number; cardea: Cardea; script: string }>;

await withStand(async (stand) => {
  const [upstream = 0] = await freePorts(1);
  await stand.start(
    coreOfLoad,
    "nginx",
    ["-c", writeNginxConf(stand.folder, "upstream", helloServer(upstream))],
    upstream,
  );
  const subjects: Subject[] = [];
  for (const workers of counts) subjects.push(await startSubject(stand, workers, upstream));
  const budgets: Budget[] = [];

  console.log("idle, with no connection");
  for (const { workers, cardea } of subjects) {
    const before = cardea.pinned.cpuMs();
    await sleep(idleMs);
    const msPerSecond = ((cardea.pinned.cpuMs() - before) / idleMs) * 1_000;
    const memory = Math.round(cardea.pinned.rssBytes() / 1e6);
    console.log(`${nameOf(workers).padEnd(12)} ${msPerSecond.toFixed(1)} ms/s   ${memory} MB resident`);
  }

  for (const subject of subjects)
    console.log(`${nameOf(subject.workers).padEnd(12)} ${(await msPerChange(subject)).toFixed(2)} ms per change`);

  const [alone, two, four] = subjects as [Subject, Subject, Subject];
  const separate = [alone, await startSubject(stand, 1, upstream, "separate")];
  const runs: readonly Readonly<{ name: string; run: (forS: number) => Promise<Figure> }>[] = [
    { name: "one process", run: (forS) => loadEach([alone], forS) },
    { name: "two processes", run: (forS) => loadEach(separate, forS) },
    { name: "2 workers", run: (forS) => loadEach([two], forS) },
    { name: "4 workers", run: (forS) => loadEach([four], forS) },
  ];
  for (const { run } of runs) await run(2);
  const figures = new Map<string, Figure[]>(runs.map(({ name }) => [name, []]));
  // Every other round runs backwards: other jobs come and go, and the first in a round finds idle processes.
  for (let round = 0; round < Number(values.rounds); round++)
    for (const { name, run } of round % 2 === 0 ? runs : runs.toReversed()) figures.get(name)?.push(await run(seconds));
  const middles = runs.map(({ name }) => ({ name, ...middle(figures.get(name) ?? []) }));
  for (const { name, perSecond, cpuUs, errors } of middles) {
    if (errors > 0) throw new Error(`${name}: ${errors} errors, so the figures are invalid`);
    console.log(`${name.padEnd(14)} ${whole(perSecond)} requests/s   CPU ${cpuUs.toFixed(1)} µs/request`);
  }
  const costOf = (wanted: string): number => middles.find(({ name }) => name === wanted)?.cpuUs ?? Number.NaN;
  const costsOf = (wanted: string): readonly number[] => (figures.get(wanted) ?? []).map(({ cpuUs }) => cpuUs);
  const ratios = costsOf("2 workers").map((cost, round) => cost / (costsOf("two processes")[round] ?? Number.NaN));
  const ratio = medianOf(ratios);
  budgets.push(
    {
      what: "2 workers: processor time of a request beside two separate processes",
      result: `${ratio.toFixed(2)} × (${costOf("2 workers").toFixed(1)} and ${costOf("two processes").toFixed(1)} µs; rounds ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})`,
      ...{ budget: `≤ ${costMax.toFixed(2)} ×`, met: ratio <= costMax },
    },
    ...["two processes", "2 workers", "4 workers"].map((name) => ({
      what: `${name}: processor time of a request beside one process`,
      ...{ result: `${(costOf(name) / costOf("one process")).toFixed(2)} ×`, budget: "", met: null },
    })),
  );

  for (const connections of spreadConnections)
    for (const subject of subjects.slice(1)) {
      const before = await requestsOf(subject);
      await runOnce(subject, connections, seconds);
      const served = (await requestsOf(subject)).map((n, index) => n - (before[index] ?? 0));
      const uneven = (Math.max(...served) * served.length) / served.reduce((sum, n) => sum + n, 0);
      budgets.push({
        what: `${subject.workers} workers, ${connections} connections: share of the busiest beside an equal one`,
        ...{ result: `${uneven.toFixed(2)} ×`, budget: "", met: null },
      });
    }
  reportBudgets(budgets);
});

function nameOf(workers: number): string {
  return workers === 1 ? "one process" : `${workers} workers`;
}

async function startSubject(
  stand: Stand,
  workers: number,
  upstream: number,
  name = `cardea-${workers}`,
): Promise<Subject> {
  const cardea = await startCardea(stand, {
    upstreamPort: upstream,
    people: peopleCount,
    name,
    core: `${coreOfProxy},${coreOfLoad}`,
    settings: [`workers: ${workers}`, `node_name: ${name}`],
  });
  const isReady = async (): Promise<boolean> =>
    (await fetch(cardea.readyUrl)).ok &&
    (workers === 1 || (await metricsOf(cardea)).includes(`cardea_workers ${workers}`));
  await waitFor(`${name} to be ready`, isReady, { withinMs: 30_000 });
  return { workers, cardea, script: writeBrowserScript(stand.folder, name, cardea) };
}

function runOnce({ workers, cardea, script }: Subject, connections: number, forS: number): Promise<Figure> {
  const { port, pinned } = cardea;
  const load = byWrk(connections);
  return load({ name: nameOf(workers), url: `http://127.0.0.1:${port}/`, headers: [], pinned, script }, forS);
}

async function metricsOf({ readyUrl }: Cardea): Promise<string> {
  return (await fetch(new URL("/metrics", readyUrl))).text();
}

/** The requests that each worker has answered; of one process, all. */
async function requestsOf({ workers, cardea }: Subject): Promise<readonly number[]> {
  const served = new Array<number>(workers).fill(0);
  for (const [, labels = "", count] of (await metricsOf(cardea)).matchAll(
    /^cardea_proxy_requests_total\{(.*)\} (\S+)$/gm,
  )) {
    const worker = workers === 1 ? 1 : Number(/worker="(\d+)"/.exec(labels)?.[1]);
    served[worker - 1] = (served[worker - 1] ?? 0) + Number(count);
  }
  return served;
}

/** Beyond what the process uses while idle. */
async function msPerChange({ cardea }: Subject): Promise<number> {
  const { config, pinned } = cardea;
  const client = connectBroker(config);
  const idleFrom = pinned.cpuMs();
  await sleep(2_000);
  const idlePerMs = (pinned.cpuMs() - idleFrom) / 2_000;
  const [from, startedAt] = [pinned.cpuMs(), performance.now()];
  for (let n = 0; n < changes; n++) {
    const result = await client.submit(newSession(config, { person: randomUUID(), issuer: "https://idp.example" }));
    if (result.type !== "done") throw new Error(result.message);
    await sleep(Math.max(0, startedAt + ((n + 1) * 1_000) / changesPerSecond - performance.now()));
  }
  await sleep(500);
  const used = pinned.cpuMs() - from - idlePerMs * (performance.now() - startedAt);
  await client.close();
  return used / changes;
}

/**
 * Loads all at the same time, with one program for each process or worker: more load programs make each batch of
 * requests larger, and so each request cheaper.
 */
async function loadEach(subjects: readonly Subject[], forS: number): Promise<Figure> {
  const loads = subjects.flatMap((subject) => new Array<Subject>(subject.workers).fill(subject));
  const figures = await Promise.all(loads.map((subject) => runOnce(subject, connectionsPerWorker, forS)));
  const sum = (of: (figure: Figure, index: number) => number): number =>
    figures.reduce((total, figure, index) => total + of(figure, index), 0);
  const perSecond = sum((figure) => figure.perSecond);
  // Each load has measured all workers of its subject.
  const cpu = sum((figure, index) => (figure.cpuUs * figure.perSecond) / (loads[index]?.workers ?? 1));
  return { perSecond, p50: Number.NaN, p99: Number.NaN, errors: sum(({ errors }) => errors), cpuUs: cpu / perSecond };
}

function medianOf(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
}

/** The medians of the rounds, with the errors of all. */
function middle(figures: readonly Figure[]): Figure {
  const median = (of: (figure: Figure) => number): number => medianOf(figures.map(of));
  return {
    perSecond: median(({ perSecond }) => perSecond),
    p50: median(({ p50 }) => p50),
    p99: median(({ p99 }) => p99),
    cpuUs: median(({ cpuUs }) => cpuUs),
    errors: figures.reduce((sum, { errors }) => sum + errors, 0),
  };
}
