/**
 * Bench: appends by 1,000 concurrent callers, one event each, beside plain inserts of 100 rows with as many bytes on
 * the same server.
 *
 * Two subjects: the Postgres log alone, fed as a leader feeds it (one batch in flight, the next one encoded, chained
 * and checked meanwhile, and sent before any caller gets its answer), and a whole broker, from the check of a command
 * to its answer. Rounds alternate, each is compared with the plain one beside it, and the result is the median of these
 * ratios (budget: at least 0.5). The processor time of this process, callers included, depends less on other load.
 *
 *   node bench/append.ts [--seconds 18]
 *
 * The broker's command is the cheapest one (which configuration a node runs: no key, no seal). A sign-in is
 * measured by append-sign-ins.ts. The server is the test server with `fsync` on. CARDEA_BENCH_POSTGRES names another
 * one, with or without a standby.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { setImmediate as turn } from "node:timers/promises";
import { parseArgs } from "node:util";
import { batchEventsMax } from "../src/broker/leader/batch.ts";
import {
  type CommandId,
  type ConfigHash,
  linkOf,
  type NodeId,
  readsLevel,
  type SessionCreated,
  streamOf,
  uuidFromBytes,
  WrittenEvent,
} from "../src/events/index.ts";
import type { AppendBatch } from "../src/replication/log/index.ts";
import { systemClock } from "../src/replication/runtime/index.ts";
import { aCommandId, aSession, aSessionId, LogWriter } from "../test/support/log-writer.ts";
import {
  byAllCallers,
  callers,
  type Feed,
  formatRatios,
  formatRounds,
  openLog,
  preparePlain,
  type Round,
  startBenchBroker,
  startStore,
  timed,
} from "./support/append-stand.ts";
import { reportBudgets, whole } from "./support/budget.ts";
import { percentile } from "./support/histogram.ts";

const rounds = 9;
const ratioMin = 0.5;
const { values } = parseArgs({ options: { seconds: { type: "string", default: "18" } } });
const roundMs = (Number(values.seconds) * 1_000) / rounds / 3;

const store = await startStore();
const { connectionString } = store;
try {
  const { feed: log, eventBytes } = await prepareLog();
  const { feed: broker, batchEvents } = await prepareBroker();
  const insert = await preparePlain(connectionString, { rowBytes: eventBytes, roundMs });
  const feeds = [insert, log, broker] as const;
  for (const feed of feeds) await feed.run(); // warm-up: plans exist, code is compiled
  const results = feeds.map((): Round[] => []);
  for (let round = 0; round < rounds; round++)
    for (const [n, feed] of feeds.entries()) results[n]?.push(await feed.run());
  const inBatch = whole(batchEvents());
  for (const feed of feeds) await feed.close();
  const [plain = [], ofLog = [], ofBroker = []] = results;
  const against = (all: readonly Round[]) => all.map(({ rate }, n) => rate / (plain[n]?.rate ?? Number.NaN));
  console.log(`plain inserts of 100 rows of ${eventBytes} B`.padEnd(44), formatRounds(plain));
  console.log(`log, ${callers} callers, batches of ≤ ${batchEventsMax}`.padEnd(44), formatRounds(ofLog));
  console.log("ratio of each pair".padEnd(44), formatRatios(against(ofLog)));
  console.log(`broker, ${callers} callers, ${inBatch} events a batch`.padEnd(44), formatRounds(ofBroker));
  console.log("ratio of each pair".padEnd(44), formatRatios(against(ofBroker)));
  reportBudgets([
    verdict("append, the log, beside plain inserts", against(ofLog)),
    verdict("append, a whole broker", against(ofBroker)),
  ]);
} finally {
  await store.stop();
}

function verdict(what: string, ratios: readonly number[]) {
  const ratio = percentile(ratios, 50);
  return { what, result: `${ratio.toFixed(2)} ×`, budget: `≥ ${ratioMin} ×`, met: ratio >= ratioMin };
}

/** The log without a broker: sessions, each in its own stream. */
async function prepareLog(): Promise<Readonly<{ feed: Feed; eventBytes: number }>> {
  const log = await openLog(connectionString);
  const writer = await LogWriter.open(log);
  const { epoch, incarnation } = writer;
  const sample = aSession({ profile: randomBytes(40) });
  const waiting: (() => void)[] = [];

  function make(): Readonly<{ batch: AppendBatch; done: readonly (() => void)[] }> | undefined {
    const done = waiting.splice(0, batchEventsMax);
    if (done.length === 0) return undefined;
    const previous = writer.head;
    const entries = done.map(() => {
      const entry = writeSession({ ...sample, sessionId: aSessionId() });
      writer.head = linkOf(entry.recorded);
      return entry;
    });
    const commands = entries.map(({ recorded: { position } }) => ({
      commandId: aCommandId(),
      first: position,
      count: 1,
    }));
    const streams = entries.map(({ recorded: { stream } }) => ({ stream, expected: 0, next: 1 }));
    const none = { newKeys: [], erasedKeys: [], vault: [], vaultRemoved: [], configurations: [] };
    return { batch: { ...none, epoch, incarnation, previous, entries, last: writer.head, commands, streams }, done };
  }

  /** As a leader writes it. */
  function writeSession(event: SessionCreated): WrittenEvent {
    const eventId = uuidFromBytes(randomBytes(16));
    const of = { eventId, stream: streamOf(event), version: 1, recordedAt: systemClock.wall(), cause: aCommandId() };
    return WrittenEvent.write({ ...of, epoch, actor: "system", event }, readsLevel, writer.head);
  }

  async function feed(): Promise<void> {
    let answered: readonly (() => void)[] = [];
    for (let next = make(); next !== undefined || answered.length > 0; ) {
      const current = next;
      const outcome = current && log.append(current.batch);
      await turn(); // the append leaves
      for (const done of answered) done();
      await turn(); // answered callers send their next event
      next = make();
      if (next !== undefined) log.layOut?.(next.batch);
      if (outcome !== undefined && (await outcome).type !== "appended") throw new Error("not appended");
      answered = current?.done ?? [];
    }
  }

  async function run(): Promise<Round> {
    return timed(roundMs, async (until) => {
      let events = 0;
      const call = async (): Promise<void> => {
        while (performance.now() < until) {
          await new Promise<void>((done) => waiting.push(done));
          events += 1;
        }
      };
      const all = Promise.all(Array.from({ length: callers }, call));
      await feed();
      await all;
      return events;
    });
  }
  const eventBytes = writer.batch([{ events: [sample] }]).entries[0]?.bytes.length ?? 0;
  return { feed: { run, close: () => log.close() }, eventBytes };
}

async function prepareBroker(): Promise<Readonly<{ feed: Feed; batchEvents: () => number }>> {
  const log = await openLog(connectionString);
  const broker = startBenchBroker(log);
  const port = broker.databroker("proxy");
  const hashes = [randomBytes(32), randomBytes(32)].map((bytes) => bytes.toString("hex") as ConfigHash);
  const turns = new Uint32Array(callers);

  /** One event: this node activates another configuration. */
  async function ask(caller: number): Promise<void> {
    const turn = (turns[caller] ?? 0) + 1;
    turns[caller] = turn;
    const configHash = hashes[turn % 2] ?? ("" as ConfigHash);
    const command = { type: "activateConfiguration", nodeId: `node-${caller}` as NodeId, configHash } as const;
    const result = await port.submit({ commandId: randomUUID() as CommandId, actor: "system", command });
    if (result.type !== "done" || !result.changed) throw new Error(`not appended: ${JSON.stringify(result)}`);
  }

  const run = (): Promise<Round> => timed(roundMs, (until) => byAllCallers(until, ask));

  async function close(): Promise<void> {
    await broker.stop();
    await log.close();
  }
  const batchEvents = (): number => {
    const { events = 0, batches = 0 } = broker.metrics();
    return events / batches;
  };
  return { feed: { run, close }, batchEvents };
}
