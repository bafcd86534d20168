/**
 * Bench: snapshots. It folds a projection of the given sessions, a tenth as many people and a fiftieth as many groups
 * from its events, which is what a cold start from the log costs. It builds and saves a snapshot of it, and starts from
 * that snapshot: from a disk (a warm start), and from a broker over HTTP with an empty disk. Each part runs in its own
 * process, and prints its memory and its longest pause of the collector.
 *
 * Beside it, in the same run: the fold of the same events, and a bare msgpackr pack of the same entities with zlib's
 * fastest deflate. Also appends to a Postgres log by the same process, with and without snapshots being built.
 *
 *   node bench/snapshot.ts [--sessions 1000000]      10000000 takes an hour and about 6 GB
 */
import { fork } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PerformanceObserver } from "node:perf_hooks";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";
import zlib from "node:zlib";
import { Packr } from "msgpackr";
import { buildSnapshot, startDatabrokerServer } from "../src/broker/index.ts";
import {
  type BrokerId,
  type CardeaEvent,
  decodeEvents,
  type Epoch,
  encodeEvent,
  type GroupId,
  genesis,
  type Incarnation,
  type Link,
  linkOf,
  type Position,
  Projection,
  parseBootId,
  type SessionId,
  sessionStream,
  type UnixMs,
  type UserId,
  userStream,
} from "../src/events/index.ts";
import { createMemoryLog, openPostgresLog } from "../src/replication/log/index.ts";
import { createNodeSnapshots } from "../src/replication/node/index.ts";
import { systemClock } from "../src/replication/runtime/index.ts";
import { SnapshotFolder, sealManifest, supplyFrom } from "../src/replication/snapshot/index.ts";
import {
  createBrokerClient,
  createBrokerOpener,
  enrolKey,
  enrolmentRoot,
  signingPairFromSeed,
} from "../src/replication/wire/index.ts";
import { brokerOn, cluster, quiet, secret } from "../test/broker/support.ts";
import { aSession, LogWriter } from "../test/support/log-writer.ts";
import { startPostgres } from "../test/support/postgres.ts";
import { reportBudgets, whole } from "./support/budget.ts";

const { values } = parseArgs({
  options: {
    sessions: { type: "string", default: "1000000" },
    folder: { type: "string" },
    part: { type: "string" },
    url: { type: "string" },
  },
});
const sessions = Number(values.sessions);
const people = Math.max(1, Math.floor(sessions / 10));
const groups = Math.max(1, Math.floor(sessions / 50));
const groupsPerPerson = 5;
const profileBytes = 350; // twelve claims, sealed
const pageEvents = 2_000;
/** Appends notice each turn of a snapshot, not the number of turns. */
const appendSessionsMax = 100_000;
const budgetMs = { cold: 5_000, warm: 2_000 };
const now = 1_800_000_000_000 as UnixMs;
const opener = createBrokerOpener({ cluster, secrets: [secret] });

type Built = Readonly<
  Record<
    "events" | "foldMs" | "buildMs" | "files" | "bytes" | "packMs" | "packBytes" | "foldPauseMs" | "buildPauseMs",
    number
  >
>;
type Started = Readonly<Record<"ms" | "coreMs" | "bytesEach" | "pauseMs" | "pauses", number>>;
type Appended = Readonly<{ alone: readonly number[]; during: readonly number[] }>;

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "cardea-bench-snapshot-"));
  try {
    const built = await inProcess<Built>("build", ["--folder", folder]);
    const warm = await inProcess<Started>("disk", ["--folder", folder]);
    const served = await serve(folder);
    const cold = await inProcess<Started>("broker", ["--url", served.url]);
    await served.close();
    const appended = await inProcess<Appended>("append", []);
    print({ built, warm, cold, appended });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function inProcess<T>(part: string, args: readonly string[]): Promise<T> {
  const child = fork(import.meta.filename, ["--part", part, "--sessions", String(sessions), ...args], {
    execArgv: ["--expose-gc", "--max-old-space-size=12288"],
  });
  const exited = once(child, "exit");
  const answer = await Promise.race([
    once(child, "message").then(([message]) => message as T),
    exited.then(() => null),
  ]);
  await exited;
  if (answer === null) throw new Error(`nothing was measured of: ${part}`);
  console.log(
    `${part}: ${JSON.stringify(answer, (_key, value) => (typeof value === "number" ? Math.round(value) : value))}`,
  );
  return answer;
}

function print(of: Readonly<{ built: Built; warm: Started; cold: Started; appended: Appended }>): void {
  const { built, warm, cold, appended } = of;
  const beside = (ms: number, other: number): string => `${(ms / other).toFixed(2)} ×`;
  const rows = [
    ["", "ms", "beside the fold", "beside the pack", "longest pause, ms"],
    ["fold of the log", whole(built.foldMs), "1", "", built.foldPauseMs.toFixed(1)],
    ["bare pack and deflate", whole(built.packMs), beside(built.packMs, built.foldMs), "1", ""],
    ...[
      ["snapshot built and saved", built.buildMs, built.buildPauseMs] as const,
      ["begun from this disk", warm.ms, warm.pauseMs] as const,
      ["begun from a broker", cold.ms, cold.pauseMs] as const,
    ].map(([name, ms, pause]) => [
      ...[name, whole(ms), beside(ms, built.foldMs), beside(ms, built.packMs), pause.toFixed(1)],
    ]),
  ];
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  console.log(
    `${whole(sessions)} sessions, ${whole(people)} people, ${whole(groups)} groups, ${whole(built.events)} events`,
  );
  for (const row of rows) console.log(row.map((cell, column) => cell.padStart(widths[column] ?? 0)).join("   "));
  console.log(
    `snapshot: ${whole(built.bytes / 1e6)} MB in ${built.files} chunks; bare pack: ${whole(built.packBytes / 1e6)} MB; a node that started from it: ${whole(warm.bytesEach)} B a session`,
  );
  console.log(
    `of the start, its own thread was busy for ${whole(warm.coreMs)} ms (disk), ${whole(cold.coreMs)} ms (broker): the rest is waiting, or other work of the machine`,
  );
  const [alone, during] = [median(appended.alone), median(appended.during)];
  console.log(`appends: ${whole(alone)} events/s; while the same process builds snapshots: ${whole(during)}`);
  reportBudgets([
    {
      what: `cold start from a broker, ${whole(sessions)} sessions`,
      result: `${whole(cold.ms)} ms`,
      budget: `≤ ${whole(budgetMs.cold)} ms`,
      met: cold.ms <= budgetMs.cold,
    },
    {
      what: `warm start from this disk, ${whole(sessions)} sessions`,
      result: `${whole(warm.ms)} ms`,
      budget: `≤ ${whole(budgetMs.warm)} ms`,
      met: warm.ms <= budgetMs.warm,
    },
    {
      what: "appends while a snapshot is built, beside none",
      result: `${(during / alone).toFixed(2)} ×`,
      budget: "",
      met: null,
    },
  ]);
}

// --- the parts

/** Folds the log from its bytes, page by page as a reader would, and builds a snapshot of the result. */
async function build(folder: SnapshotFolder): Promise<Built> {
  const pauses = watchPauses();
  const { projection, events, foldMs } = foldAll(sessions);
  const foldPauseMs = await pauses.longest();
  globalThis.gc?.();
  pauses.reset();
  const startedAt = performance.now();
  const built = await snapshotOf(projection, folder);
  const signed = sealManifest(speaker(), { ...built, cluster, takenAt: now });
  await folder.putManifest(signed);
  const buildMs = performance.now() - startedAt;
  const buildPauseMs = await pauses.longest();
  const sizes = await Promise.all(built.chunks.map(async ({ hash }) => (await folder.packedChunk(hash))?.length ?? 0));
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  return {
    ...{ events, foldMs, buildMs, bytes, files: sizes.length, foldPauseMs, buildPauseMs },
    ...(await barePack(projection)),
  };
}

function snapshotOf(projection: Projection, folder: SnapshotFolder) {
  const epochs = () => [{ epoch: 1 as Epoch, start: 1 as Position, incarnation: "bench" as Incarnation }];
  const signal = new AbortController().signal;
  return buildSnapshot({ projection: projection, signal, epochs }, { folder, turn: async () => void (await turn()) });
}

/** The yardstick: every entity unchanged, in pieces of a thousand, packed and deflated at zlib's fastest level. */
async function barePack(projection: Projection): Promise<Readonly<{ packMs: number; packBytes: number }>> {
  const deflate = promisify(zlib.deflate);
  const packr = new Packr({ useRecords: true });
  const startedAt = performance.now();
  const capture = projection.capture();
  let packBytes = 0;
  while (!capture.over) {
    const piece = packr.pack([...capture.next(1_000)]);
    packBytes += (await deflate(piece, { level: 1 })).length;
  }
  return { packMs: performance.now() - startedAt, packBytes };
}

async function startFromDisk(folder: SnapshotFolder): Promise<Started> {
  const source = createNodeSnapshots({
    ...{ supply: supplyFrom(folder, async () => []), open: opener, logger: quiet, folder, deniedFile: null },
  });
  return startWith(() => source.local(new AbortController().signal));
}

async function startFromBroker(url: string): Promise<Started> {
  const client = createBrokerClient({
    ...{ urls: [new URL(url)], cluster, role: "proxy", name: "bench", secret, clock: systemClock, logger: quiet },
    randomBytes: (size) => randomBytes(size),
  });
  const path = mkdtempSync(join(tmpdir(), "cardea-bench-node-"));
  const folder = new SnapshotFolder({ path, open: opener });
  const source = createNodeSnapshots({
    ...{ supply: client.snapshots, open: opener, logger: quiet, folder, deniedFile: null },
  });
  try {
    return await startWith(() => source.load({ first: null, signal: new AbortController().signal }));
  } finally {
    await client.close();
    rmSync(path, { recursive: true, force: true });
  }
}

async function startWith(load: () => Promise<Readonly<{ projection: Projection }> | null>): Promise<Started> {
  globalThis.gc?.();
  const empty = process.memoryUsage.rss();
  const pauses = watchPauses();
  const startedAt = performance.now();
  const cpuAt = process.threadCpuUsage();
  const loaded = await load();
  const ms = performance.now() - startedAt;
  const { user, system } = process.threadCpuUsage(cpuAt);
  const coreMs = (user + system) / 1_000;
  const pauseMs = await pauses.longest();
  const count = pauses.count();
  if (loaded?.projection.counts.sessions !== sessions) throw new Error("it is not what was saved");
  globalThis.gc?.();
  return { ms, coreMs, pauseMs, pauses: count, bytesEach: (process.memoryUsage.rss() - empty) / sessions };
}

/** Like a leader: batches of a hundred, one after another, in the process whose event loop builds the snapshots. */
async function append(): Promise<Appended> {
  const server = await startPostgres({ settings: { fsync: "on" } });
  const folderPath = mkdtempSync(join(tmpdir(), "cardea-bench-append-"));
  try {
    const log = await openPostgresLog({ connectionString: await server.newDatabase(), cluster });
    const writer = await LogWriter.open(log);
    const { projection } = foldAll(Math.min(sessions, appendSessionsMax));
    const perSecond = async (until: () => boolean): Promise<number> => {
      const startedAt = performance.now();
      let events = 0;
      do {
        const outcome = await writer.appendEach(...Array.from({ length: 100 }, () => aSession()));
        if (outcome.type !== "appended") throw new Error(`not appended: ${outcome.type}`);
        events += 100;
      } while (!until());
      return (events / (performance.now() - startedAt)) * 1_000;
    };
    const alone: number[] = [];
    const during: number[] = [];
    for (let round = 0; round < 4; round++) {
      const folder = new SnapshotFolder({ path: join(folderPath, String(round)), open: opener });
      let [over, startedAt] = [false, performance.now()];
      const making = snapshotOf(projection, folder).then(() => {
        over = true;
      });
      const figure = await perSecond(() => over);
      await making;
      const asLong = performance.now() - startedAt;
      startedAt = performance.now();
      const beside = await perSecond(() => performance.now() - startedAt >= asLong);
      if (round === 0) continue; // warm-up
      during.push(figure);
      alone.push(beside);
    }
    await log.close();
    return { alone, during };
  } finally {
    await server.stop();
    rmSync(folderPath, { recursive: true, force: true });
  }
}

async function serve(path: string): Promise<Readonly<{ url: string; close: () => Promise<void> }>> {
  const folder = new SnapshotFolder({ path, open: opener });
  const log = createMemoryLog();
  const broker = brokerOn(log);
  const server = await startDatabrokerServer({
    ...{ broker, cluster, secret, clock: systemClock, logger: quiet, listen: { host: "127.0.0.1", port: 0 } },
    snapshots: supplyFrom(folder, async () => []),
  });
  return {
    url: server.url,
    async close() {
      await server.close();
      await broker.stop();
    },
  };
}

// --- what is in it

function foldAll(sessions: number): Readonly<{ projection: Projection; events: number; foldMs: number }> {
  const projection = new Projection();
  const people = Math.max(1, Math.floor(sessions / 10));
  let [at, foldMs, page]: [Link, number, CardeaEvent[]] = [genesis, 0, []];
  const flush = (): void => {
    const entries = page.map((event, n) => encoded(event, (at.position + n + 1) as Position));
    const startedAt = performance.now();
    for (const recorded of decodeEvents(entries, at)) {
      projection.apply(recorded);
      at = linkOf(recorded);
    }
    foldMs += performance.now() - startedAt;
    page = [];
  };
  for (let person = 0; person < people; person++) {
    const groupIds = Array.from(
      { length: groupsPerPerson },
      (_, n) => `group-${(person * 7 + n * 13) % groups}` as GroupId,
    );
    const userId = idOf(`person ${person}`) as UserId;
    const profile = randomBytes(profileBytes);
    page.push({ type: "UserGroupsReplaced", userId, source: "idp", groupIds });
    for (let n = person; n < sessions; n += people) {
      const expiresAt = (now + 36_000_000) as UnixMs;
      const sessionId = idOf(`session ${n}`) as SessionId;
      page.push({ type: "SessionCreated", sessionId, userId, idpId: "bench", profile, issuedAt: now, expiresAt });
    }
    if (page.length >= pageEvents) flush();
  }
  flush();
  return { projection, events: at.position, foldMs };
}

function encoded(event: CardeaEvent, position: Position): Uint8Array {
  return encodeEvent({
    ...{
      epoch: 1 as Epoch,
      position,
      eventId: uuidOf(position),
      recordedAt: now,
      actor: "system",
      cause: null,
      version: 1,
    },
    stream:
      event.type === "SessionCreated"
        ? sessionStream(event.sessionId)
        : userStream((event as { userId: UserId }).userId),
    event,
  });
}

function uuidOf(n: number): Parameters<typeof encodeEvent>[0]["eventId"] {
  return `00000000-0000-4000-8000-${n.toString(16).padStart(12, "0")}` as Parameters<typeof encodeEvent>[0]["eventId"];
}

function idOf(text: string): string {
  return createHash("md5").update(text).digest("base64url");
}

function speaker() {
  const identity = { cluster, role: "broker", name: "bench" as BrokerId, boot: parseBootId("bench") } as const;
  return enrolKey(
    { ...identity, epoch: 1 as Epoch, incarnation: "bench" as Incarnation },
    signingPairFromSeed(randomBytes(32)),
    enrolmentRoot(secret, "broker"),
  );
}

function watchPauses() {
  let durations: number[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) durations.push(duration);
  });
  observer.observe({ entryTypes: ["gc"] });
  return {
    reset: () => {
      observer.takeRecords();
      durations = [];
    },
    count: () => durations.length,
    async longest() {
      await delay(50); // they are reported a little later
      for (const { duration } of observer.takeRecords()) durations.push(duration);
      return Math.max(0, ...durations);
    },
  };
}

function median(figures: readonly number[]): number {
  return figures.toSorted((a, b) => a - b)[figures.length >> 1] ?? Number.NaN;
}

const folderGiven = new SnapshotFolder({ path: values.folder ?? "", open: opener });
const parts: Readonly<Record<string, () => Promise<unknown>>> = {
  build: () => build(folderGiven),
  disk: () => startFromDisk(folderGiven),
  broker: () => startFromBroker(values.url ?? ""),
  append,
};
if (values.part === undefined) await main();
else {
  const answer = await parts[values.part]?.();
  await new Promise((sent) => process.send?.(answer, sent));
  process.exit();
}
