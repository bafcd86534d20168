/**
 * Append stand: the server, the broker and the plain inserts of the benches of appends (append.ts, append-sign-ins.ts).
 */
import { randomBytes } from "node:crypto";
import pg from "pg";
import { createLeaderClient, startBroker } from "../../src/broker/index.ts";
import type { BrokerId } from "../../src/events/index.ts";
import { createLocalFanout } from "../../src/replication/fanout/index.ts";
import type { Logger } from "../../src/replication/index.ts";
import { type EventLog, openPostgresLog } from "../../src/replication/log/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { startPostgres } from "../../test/support/postgres.ts";
import { whole } from "./budget.ts";
import { percentile } from "./histogram.ts";

export const callers = 1_000;

/** `cpuUs`: processor time of this process, callers included, for each. */
export type Round = Readonly<{ rate: number; cpuUs: number }>;
export type Feed = Readonly<{ run: () => Promise<Round>; close: () => Promise<void> }>;

const quiet: Logger = { debug() {}, info() {}, warn: console.warn, error: console.error };

/** The test server with `fsync` on. CARDEA_BENCH_POSTGRES names another one, with or without a standby. */
export async function startStore(): Promise<Readonly<{ connectionString: string; stop: () => Promise<void> }>> {
  const given = process.env["CARDEA_BENCH_POSTGRES"];
  if (given !== undefined) return { connectionString: given, stop: async () => {} };
  const server = await startPostgres({ settings: { fsync: "on" } });
  return { connectionString: await server.newDatabase(), stop: () => server.stop() };
}

export async function openLog(connectionString: string): Promise<EventLog> {
  const schema = `bench_${randomBytes(4).toString("hex")}`;
  return openPostgresLog({ connectionString, cluster: "bench", schema });
}

export function startBenchBroker(log: EventLog): ReturnType<typeof startBroker> {
  const secret = randomBytes(32);
  const overHttp = { cluster: "bench", secret, clock: systemClock, tlsCa: null, allowPlaintext: false };
  return startBroker({
    ...{ log, cluster: "bench", brokerId: "bench" as BrokerId, secret, clock: systemClock, random: randomBytes },
    ...{ advertisedUrl: null, duties: [], logger: quiet, takeoverMs: 3_000, commandMs: 60_000 },
    lease: { deltaMs: 5_000, drift: 0.01, beatMs: 200, windowMaxMs: 120_000 },
    fanout: createLocalFanout({ logger: quiet }),
    leaderClient: createLeaderClient(overHttp),
  });
}

/** @param run makes as many as it can until this moment and returns their number */
export async function timed(roundMs: number, run: (until: number) => Promise<number>): Promise<Round> {
  const from = performance.now();
  const before = process.cpuUsage();
  const count = await run(from + roundMs);
  const { user, system } = process.cpuUsage(before);
  return { rate: (count * 1_000) / (performance.now() - from), cpuUs: (user + system) / count };
}

/** All callers at once, each with one request in flight. @returns how many were answered */
export async function byAllCallers(until: number, ask: (caller: number) => Promise<void>): Promise<number> {
  let answered = 0;
  const call = async (_: unknown, caller: number): Promise<void> => {
    while (performance.now() < until) {
      await ask(caller);
      answered += 1;
    }
  };
  await Promise.all(Array.from({ length: callers }, call));
  return answered;
}

/** The floor: one connection, one transaction for 100 rows, one index. */
export async function preparePlain(connectionString: string, of: { rowBytes: number; roundMs: number }): Promise<Feed> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  const table = `plain_${randomBytes(4).toString("hex")}`;
  await client.query(
    `create table ${table} (pos bigint generated always as identity primary key, payload bytea not null)`,
  );
  const placeholders = Array.from({ length: 100 }, (_, i) => `($${i + 1})`).join(", ");
  const statement = { name: "plain", text: `insert into ${table} (payload) values ${placeholders}` };

  async function run(): Promise<Round> {
    return timed(of.roundMs, async (until) => {
      let rows = 0;
      while (performance.now() < until) {
        await client.query({ ...statement, values: Array.from({ length: 100 }, () => randomBytes(of.rowBytes)) });
        rows += 100;
      }
      return rows;
    });
  }
  return { run, close: () => client.end() };
}

export function formatRounds(all: readonly Round[]): string {
  const rates = all.map(({ rate }) => rate);
  const us = percentile(
    all.map(({ cpuUs }) => cpuUs),
    50,
  );
  return `${whole(percentile(rates, 50)).padStart(8)}/s, ${us.toFixed(1)} µs of this process each   (rounds: ${rates.map(whole).join(" ")})`;
}

export function formatRatios(ratios: readonly number[]): string {
  return ratios.map((ratio) => ratio.toFixed(2)).join(", ");
}
