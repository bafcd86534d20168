/**
 * Bench: appends. 1,000 callers feed the Postgres log as the leader of a cluster does: one batch at a time, of whatever waits, as many
 * events as a batch may have. Beside it, on the same server, plain inserts of 100 rows with the same number of bytes. Rounds of both
 * stand in turns, and each is compared with the one beside it; what counts is the median of these ratios (budget: at least 0.5).
 *
 *   node bench/append.ts [--seconds 12] [--batch 512] [--in-flight 1]
 *
 * The server is the test server with `fsync` on. CARDEA_BENCH_POSTGRES names another one, with or without a standby.
 */
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import pg from "pg";
import { batchEventsMax } from "../src/broker/leader/batch.ts";
import { openPostgresLog } from "../src/replication/index.ts";
import { aSession, aSessionId, type Draft, LogWriter } from "../test/support/log-writer.ts";
import { startPostgres } from "../test/support/postgres.ts";
import { tellBudgets, whole } from "./support/budget.ts";
import { percentile } from "./support/histogram.ts";

const callers = 1_000;
const rounds = 9;
const ratioMin = 0.5;
const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "12" },
    batch: { type: "string", default: String(batchEventsMax) },
    "in-flight": { type: "string", default: "1" },
  },
});
const batchMax = Number(values.batch);
const inFlightMax = Number(values["in-flight"]);
const roundMs = (Number(values.seconds) * 1_000) / rounds / 2;

type Feed = Readonly<{ run(): Promise<number>; close(): Promise<void> }>;

const given = process.env["CARDEA_BENCH_POSTGRES"];
const server = given === undefined ? await startPostgres({ settings: { fsync: "on" } }) : undefined;
const connectionString = given ?? (await server?.newDatabase()) ?? "";
try {
  const { feed, eventBytes } = await prepareLog();
  const insert = await preparePlain(eventBytes);
  await insert.run(); // both warm: plans are made, code is compiled
  await feed.run();
  const plain: number[] = [];
  const log: number[] = [];
  for (let round = 0; round < rounds; round++) {
    plain.push(await insert.run());
    log.push(await feed.run());
  }
  await Promise.all([feed.close(), insert.close()]);
  const ratios = log.map((events, round) => events / (plain[round] ?? Number.NaN));
  console.log(`plain inserts of 100 rows of ${eventBytes} B`.padEnd(44), line(plain));
  console.log(`log, ${callers} callers, batches of ≤ ${batchMax}`.padEnd(44), line(log));
  console.log("ratio of each pair".padEnd(44), ratios.map((ratio) => ratio.toFixed(2)).join(", "));
  const ratio = percentile(ratios, 50);
  tellBudgets([
    {
      what: "append, 1,000 callers, beside plain inserts",
      seen: `${ratio.toFixed(2)} ×`,
      budget: `≥ ${ratioMin} ×`,
      met: ratio >= ratioMin,
    },
  ]);
} finally {
  await server?.stop();
}

function line(rates: readonly number[]): string {
  return `${whole(percentile(rates, 50)).padStart(8)}/s   (rounds: ${rates.map(whole).join(" ")})`;
}

async function prepareLog(): Promise<Readonly<{ feed: Feed; eventBytes: number }>> {
  const log = await openPostgresLog({
    connectionString,
    cluster: "bench",
    schema: `bench_${randomBytes(4).toString("hex")}`,
  });
  const writer = await LogWriter.open(log);
  const sample = aSession({ profile: randomBytes(40) });
  const waiting: { draft: Draft; done: () => void }[] = [];
  let inFlight = 0;

  // Group commit: what arrives while a commit is in flight forms the next batch.
  async function flush(): Promise<void> {
    if (inFlight === inFlightMax || waiting.length === 0) return;
    const group = waiting.splice(0, batchMax);
    const batch = writer.batch(group.map(({ draft }) => draft));
    writer.head = batch.last;
    inFlight += 1;
    const outcome = await log.append(batch);
    inFlight -= 1;
    if (outcome.type !== "appended")
      throw new Error(`not appended: ${outcome.type}`, { cause: "cause" in outcome ? outcome.cause : undefined });
    for (const { done } of group) done();
    setImmediate(() => void flush());
  }

  async function run(): Promise<number> {
    const from = performance.now();
    const end = from + roundMs;
    let events = 0;
    const call = async (): Promise<void> => {
      while (performance.now() < end) {
        await new Promise<void>((done) => {
          waiting.push({ draft: { events: [{ ...sample, sessionId: aSessionId() }] }, done });
          if (inFlight === 0) setImmediate(() => void flush());
        });
        events += 1;
      }
    };
    await Promise.all(Array.from({ length: callers }, call));
    return (events * 1_000) / (performance.now() - from);
  }
  const eventBytes = writer.batch([{ events: [sample] }]).entries[0]?.bytes.length ?? 0;
  return { feed: { run, close: () => log.close() }, eventBytes };
}

/** The floor: one connection, one transaction for 100 rows, one index. */
async function preparePlain(rowBytes: number): Promise<Feed> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  const table = `plain_${randomBytes(4).toString("hex")}`;
  await client.query(
    `create table ${table} (pos bigint generated always as identity primary key, payload bytea not null)`,
  );
  const places = Array.from({ length: 100 }, (_, i) => `($${i + 1})`).join(", ");
  const statement = { name: "plain", text: `insert into ${table} (payload) values ${places}` };

  async function run(): Promise<number> {
    const from = performance.now();
    let rows = 0;
    while (performance.now() < from + roundMs) {
      await client.query({ ...statement, values: Array.from({ length: 100 }, () => randomBytes(rowBytes)) });
      rows += 100;
    }
    return (rows * 1_000) / (performance.now() - from);
  }
  return { run, close: () => client.end() };
}
