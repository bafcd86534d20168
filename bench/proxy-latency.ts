/**
 * Bench: how long an authorised request takes at half load, beside nginx `proxy_pass` without any authentication at
 * the same rate.
 *
 * node bench/proxy-latency.ts [--seconds 8] [--rounds 5] [--connections 64]
 *
 * Half load is half of what this proxy handled under wrk just before. nginx gets the same rate, which is less than
 * half of its capacity, so the comparison favours nginx. `h2load --rps` keeps no fixed rate over HTTP/1.1: each of
 * its clients keeps its own rate, and all of them send in the same instant, 64 requests at once every few milliseconds.
 * It also counts from the sending, not from when a request was due. So the load is our own open loop
 * (support/open-loop.ts). Its time directly at the upstream is printed as the floor.
 */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { freePorts } from "../test/support/free-port.ts";
import { peopleCount, requestsOf, writeBrowserScript } from "./support/browsers.ts";
import { reportBudgets } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { byWrk, inRounds } from "./support/load.ts";
import { helloServer, passingServer, writeNginxConf } from "./support/nginx-conf.ts";
import type { OpenLoopResult, OpenLoopSetup } from "./support/open-loop.ts";
import { coreOfLoad, coreOfProxy, withStand } from "./support/stand.ts";

const run = promisify(execFile);
const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "8" },
    rounds: { type: "string", default: "5" },
    connections: { type: "string", default: "64" },
  },
});
const [seconds, rounds, connections] = [Number(values.seconds), Number(values.rounds), Number(values.connections)];
const warmUpS = 2;
const p99RatioMax = 2;

await withStand(async (stand) => {
  const [upstream = 0, nginx = 0] = await freePorts(2);
  const { folder } = stand;
  await stand.start(coreOfLoad, "nginx", ["-c", writeNginxConf(folder, "upstream", helloServer(upstream))], upstream);
  const nginxConf = writeNginxConf(folder, "proxy", passingServer(nginx, upstream));
  await stand.start(coreOfProxy, "nginx", ["-c", nginxConf], nginx);
  const cardea = await startCardea(stand, { upstreamPort: upstream, people: peopleCount });
  const script = writeBrowserScript(folder, "browsers", cardea);
  const url = `http://127.0.0.1:${cardea.port}/`;
  const [full] = await inRounds(
    [{ name: "cardea, full load", url, script, ...cardea }],
    { seconds: 3, rounds: 2 },
    byWrk(connections),
  );
  const perSecond = Math.round((full?.perSecond ?? 0) / 2);
  console.log(`half of it: ${perSecond.toLocaleString("en")} requests/s, evenly spaced`);

  const subjects = [
    { name: "the upstream itself (floor)", port: upstream },
    { name: "nginx proxy_pass, no auth", port: nginx },
    { name: "cardea, authorised", port: cardea.port },
  ];
  const requestsFile = join(folder, "requests.json");
  writeFileSync(requestsFile, JSON.stringify(Array.from({ length: peopleCount }, (_, n) => requestsOf(n, cardea))));
  const results = new Map<string, OpenLoopResult[]>(subjects.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const { name, ...subject } of subjects)
      results.get(name)?.push(await openLoop({ ...subject, requestsFile, perSecond, seconds, warmUpS, connections }));
  }
  const best = subjects.map(({ name }) => ({ name, ...bestOf(results.get(name) ?? []) }));
  for (const { name, ...figure } of best) console.log(`${name.padEnd(28)} ${figureText(figure)}`);
  const [, second, third] = best;
  if (second === undefined || third === undefined) throw new Error("a subject has no figure");
  if (best.some(({ errors }) => errors > 0)) throw new Error("there were errors, so the figures are invalid");
  const ratio = third.p99 / second.p99;
  reportBudgets([
    {
      what: "p99 at half load, beside nginx without auth at the same rate",
      result: `${ratio.toFixed(2)} × (${third.p99.toFixed(2)} and ${second.p99.toFixed(2)} ms)`,
      budget: `≤ ${p99RatioMax} ×`,
      met: ratio <= p99RatioMax,
    },
  ]);
});

async function openLoop(setup: OpenLoopSetup): Promise<OpenLoopResult> {
  const program = new URL("./support/open-loop.ts", import.meta.url).pathname;
  const args = ["-c", coreOfLoad, process.execPath, program, JSON.stringify(setup)];
  const { stdout } = await run("taskset", args, { timeout: (setup.warmUpS + setup.seconds + 30) * 1_000 });
  return JSON.parse(stdout) as OpenLoopResult;
}

/** The round with the smallest p99, and the errors of all rounds. */
function bestOf(rounds: readonly OpenLoopResult[]): OpenLoopResult {
  const [best] = rounds.toSorted((a, b) => a.p99 - b.p99);
  if (best === undefined) throw new Error("there was no round");
  return { ...best, errors: rounds.reduce((sum, { errors }) => sum + errors, 0) };
}

function figureText({ p50, p90, p99, p999, max, lateP99, errors }: OpenLoopResult): string {
  const times = Object.entries({ p50, p90, p99, "p99.9": p999, max, "own lateness p99": lateP99 });
  return `${times.map(([name, ms]) => `${name} ${ms.toFixed(2)} ms`).join("   ")}   errors ${errors}`;
}
