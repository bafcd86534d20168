/**
 * Bench: what a decision record costs on the request path, how many records a second go through the spool and into
 * JetStream, and what strict audit costs a proxy.
 *
 *   node bench/audit.ts [--records 400000] [--rounds 5] [--seconds 5] [--connections 128]
 *
 * - On the request path: the time inside `record`, and inside `recordDurably` until it returns its promise.
 * - The spool: from the first decision until every record is durable and a sink that accepts everything has it, beside
 *   plain appends of finished lines: as many bytes, in groups of the same sizes, each joined, written and synced.
 *   For information: beside appends of lines that `JSON.stringify` makes from the same decisions.
 * - JetStream: from the first decision until the stream of a private NATS server has acknowledged every record, beside
 *   plain publications of finished messages: as many, of the same sizes, and one in flight, as the sink has it.
 * - The proxy: authorised requests under wrk, on a strict route beside a best-effort one (budget: at least 0.7).
 *
 * Both sides run in turns, in an order that alternates. The result is the median of the ratios of neighbours (budget:
 * at least 0.5). Processor time is that of this process, for one record: on a busy machine it says more than the clock.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { auditStreamName, createNatsAuditSink, toLine } from "../src/audit/index.ts";
import { node, signerOf } from "../test/audit/support.ts";
import { freePorts } from "../test/support/free-port.ts";
import { startNats } from "../test/support/nats.ts";
import { boot, type Cost, measure, requestOf, runSpool, type SpoolRun } from "./support/audit-load.ts";
import { type Budget, reportBudgets, whole } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { percentile } from "./support/histogram.ts";
import { byWrk, inRounds, type Subject } from "./support/load.ts";
import { helloServer, writeNginxConf } from "./support/nginx-conf.ts";
import { coreOfLoad, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: {
    records: { type: "string", default: "400000" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "5" }, // 0: without the proxy
    connections: { type: "string", default: "128" },
    folder: { type: "string", default: "/var/tmp" },
  },
});
const [records, rounds, folder] = [Number(values.records), Number(values.rounds), values.folder];
const pathUsMax = 3;
const ratioMin = 0.5;
const strictRatioMin = 0.7;
const cluster = "bench";
const streamBytesMax = 4_000_000_000;

type Mode = "best_effort" | "strict";
type Round = Readonly<{ ours: SpoolRun; plains: readonly Cost[] }>;

const median = (all: readonly number[]): number => all.toSorted((a, b) => a - b)[all.length >> 1] ?? Number.NaN;
const sum = (all: readonly number[]): number => all.reduce((total, each) => total + each, 0);

/** After a warm-up, whose sizes the plain side repeats where it goes first. */
async function inTurns(
  ours: () => Promise<SpoolRun>,
  plains: readonly ((like: SpoolRun) => Promise<Cost>)[],
): Promise<readonly Round[]> {
  const runPlains = async (like: SpoolRun): Promise<readonly Cost[]> => {
    const costs: Cost[] = [];
    for (const plain of plains) costs.push(await plain(like));
    return costs;
  };
  let like = await ours();
  await runPlains(like);
  const all: Round[] = [];
  for (let round = 0; round < rounds; round++) {
    const first = round % 2 === 1 ? await runPlains(like) : null;
    like = await ours();
    all.push({ ours: like, plains: first ?? (await runPlains(like)) });
  }
  return all;
}

/** Prints the rounds beside one of the plain sides. @returns the budget of their ratio */
function report(what: string, beside: string, all: readonly Round[], { at = 0, isPromised = true } = {}): Budget {
  const pairs = all.flatMap(({ ours, plains }) => plains.slice(at, at + 1).map((plain) => ({ ours, plain })));
  const of = (side: "ours" | "plain", key: keyof Cost): number => median(pairs.map((pair) => pair[side][key]));
  const ratios = pairs.map(({ ours, plain }) => ours.perSecond / plain.perSecond);
  const cpuRatios = pairs.map(({ ours, plain }) => plain.cpuUs / ours.cpuUs);
  const shown = (each: readonly number[]): string => each.map((ratio) => ratio.toFixed(2)).join(", ");
  const [ourRate, plainRate] = [whole(of("ours", "perSecond")), whole(of("plain", "perSecond"))];
  const [ourUs, plainUs] = [of("ours", "cpuUs").toFixed(2), of("plain", "cpuUs").toFixed(2)];
  console.log(`${what}: ${ourRate} records/s; ${beside}: ${plainRate}`);
  console.log(`${what}: processor time per record ${ourUs} µs; ${beside}: ${plainUs} µs`);
  console.log(`${what}: ratios ${shown(ratios)}; by processor time ${shown(cpuRatios)}`);
  return {
    what: `records ${what}, beside ${beside}`,
    result: `${median(ratios).toFixed(2)} × (${ourRate}/s; by processor time ${median(cpuRatios).toFixed(2)} ×)`,
    budget: isPromised ? `≥ ${ratioMin} ×` : "",
    met: isPromised ? median(ratios) >= ratioMin : null,
  };
}

/** Lines of the mean length of a record, for so many bytes. */
const linesOf = (bytes: number): readonly string[] =>
  Array.from({ length: 1_024 }, (_, i) => `${"x".repeat(Math.max(1, Math.round(bytes / records) - 6))}${10_000 + i}\n`);

/** Appends lines in groups of the same sizes, each synced. `made`: it makes them, too; otherwise they are finished. */
async function appendPlainly({ groups }: SpoolRun, { made }: Readonly<{ made: boolean }>): Promise<Cost> {
  const parent = mkdtempSync(join(folder, "cardea-bench-plain-"));
  const file = await open(join(parent, "plain"), "w");
  const lines = linesOf(sum(groups));
  const lineAt = (seq: number): string =>
    made ? toLine({ kind: "decision", seq, ...requestOf(seq) }) : (lines[seq % lines.length] ?? "");
  const cost = await measure(records, async () => {
    let seq = 0;
    let [written, due] = [0, 0];
    for (const bytes of groups) {
      due += bytes;
      const group: string[] = [];
      while (written < due) {
        const line = lineAt(seq++);
        group.push(line);
        written += line.length;
      }
      await file.write(group.join(""));
      await file.datasync();
    }
  });
  await file.close();
  rmSync(parent, { recursive: true });
  return cost;
}

async function measureSpool(mode: Mode): Promise<readonly Budget[]> {
  const sink = { write: async () => undefined };
  const all = await inTurns(
    () => runSpool({ records, mode, folder, sink }),
    [(like) => appendPlainly(like, { made: false }), (like) => appendPlainly(like, { made: true })],
  );
  const usOf = all.flatMap(({ ours }) => ours.usOf);
  const [p50, p99] = [percentile(usOf, 50), percentile(usOf, 99)];
  console.log(`${mode}: on the request path ${p50.toFixed(2)} µs, p99 of 50 together ${p99.toFixed(2)} µs`);
  console.log(`${mode}: ${median(all.map(({ ours }) => ours.groups.length))} syncs`);
  return [
    {
      what: `audit on the request path, ${mode}`,
      result: `${p50.toFixed(2)} µs`,
      budget: `≤ ${pathUsMax} µs`,
      met: p50 <= pathUsMax,
    },
    report(`through the spool, ${mode}`, "plain append and sync", all),
    report(`through the spool, ${mode}`, "lines made, appended and synced", all, { at: 1, isPromised: false }),
  ];
}

async function runJetStream(connection: NatsConnection): Promise<SpoolRun> {
  const sink = createNatsAuditSink({
    ...{ connection, cluster, region: "here", node, boot, replicas: 1, streamBytesMax },
    signer: signerOf({ cluster, node, boot }),
  });
  const run = await runSpool({ records, mode: "best_effort", folder, sink });
  const manager = await jetstreamManager(connection);
  const { state } = await manager.streams.info(auditStreamName(cluster));
  if (state.bytes < sum(run.batches)) throw new Error("the stream lacks records");
  await manager.streams.delete(auditStreamName(cluster));
  return { ...run, batches: messagesOf(run.batches, state.messages) };
}

/** The sizes of the messages; a batch that was split counts as equal parts. */
function messagesOf(batches: readonly number[], messages: number): readonly number[] {
  if (batches.length === messages) return batches;
  return Array.from({ length: messages }, () => Math.round(sum(batches) / messages));
}

/** Publishes messages of the same sizes, one after the other's acknowledgement. */
async function publishPlainly(connection: NatsConnection, { batches }: SpoolRun): Promise<Cost> {
  const name = "PLAIN";
  const manager = await jetstreamManager(connection);
  await manager.streams.add({ name, subjects: ["plain"], max_bytes: streamBytesMax });
  const client = jetstream(connection);
  const lines = Buffer.from(linesOf(sum(batches)).join(""));
  const content = Buffer.alloc(Math.max(...batches), lines.subarray(0, Math.max(...batches)));
  const cost = await measure(records, async () => {
    for (const bytes of batches) await client.publish("plain", content.subarray(0, bytes));
  });
  await manager.streams.delete(name);
  return cost;
}

async function measureJetStream(): Promise<Budget> {
  const nats = await startNats();
  const connection = await connect({ servers: [...nats.urls] });
  try {
    const all = await inTurns(() => runJetStream(connection), [(like) => publishPlainly(connection, like)]);
    const count = median(all.map(({ ours }) => ours.batches.length));
    const size = median(all.map(({ ours }) => sum(ours.batches) / ours.batches.length));
    console.log(`JetStream: ${count} messages of ${whole(size)} bytes`);
    return report("through spool and JetStream", "plain publications", all);
  } finally {
    await connection.close();
    await nats.stop();
  }
}

async function measureProxy(): Promise<readonly Budget[]> {
  const budgets: Budget[] = [];
  await withStand(async (stand) => {
    const [upstream = 0] = await freePorts(1);
    const conf = writeNginxConf(stand.folder, "upstream", helloServer(upstream));
    await stand.start(coreOfLoad, "nginx", ["-c", conf], upstream);
    const subjects: Subject[] = [];
    for (const mode of ["best_effort", "strict"]) {
      const cardea = await startCardea(stand, { upstreamPort: upstream, name: mode, route: [`audit: ${mode}`] });
      subjects.push({ name: mode, url: `http://127.0.0.1:${cardea.port}/`, ...cardea });
    }
    const seconds = Number(values.seconds);
    const [bestEffort, strict] = await inRounds(subjects, { seconds, rounds: 3 }, byWrk(Number(values.connections)));
    const ratio = (strict?.perSecond ?? 0) / (bestEffort?.perSecond ?? 0);
    budgets.push({
      what: "requests/s of a strict route, beside best effort",
      result: `${ratio.toFixed(2)} × (${whole(strict?.perSecond ?? 0)}/s; p99 ${strict?.p99.toFixed(1)} and ${bestEffort?.p99.toFixed(1)} ms)`,
      budget: `≥ ${strictRatioMin} ×`,
      met: ratio >= strictRatioMin,
    });
  });
  return budgets;
}

reportBudgets([
  ...(await measureSpool("best_effort")),
  ...(await measureSpool("strict")),
  await measureJetStream(),
  ...(Number(values.seconds) > 0 ? await measureProxy() : []),
]);
