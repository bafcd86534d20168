/**
 * Bench: how many audit records a second the Postgres sink stores, beside raw COPY of the same rows.
 *
 *   node bench/audit-postgres.ts [--records 60000] [--rounds 5]
 *
 * - The server is a private one with fsync on. Batches are those of the spool: 512 KiB of lines, one transaction each.
 * - The sink parses each line, encodes its row, and copies it into the table of the day.
 * - Raw COPY sends the finished bytes of the same rows, over one connection, with one COPY per batch, into a table with
 *   the same columns, indexes and partitions: what Postgres itself can do for such a table. Rounds alternate; the
 *   result is the median of the ratios of neighbours (budget: at least 0.5).
 * - For information: raw COPY of the lines alone in one transaction into a table without an index; all of it through a
 *   spool on disk; a batch that the server has already; and a search by person.
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import {
  type AuditBatch,
  type AuditSink,
  createPostgresAuditSink,
  createPostgresSource,
  createRecorder,
  emptyCounts,
  findRecords,
  openSpoolFolder,
  schemaScript,
  toLine,
} from "../src/audit/index.ts";
import { columns, dayOf, encodeRows, rowsOf } from "../src/audit/postgres/copy-rows.ts";
import { AuditConnection } from "../src/audit/postgres/index.ts";
import type { BootId } from "../src/events/index.ts";
import { HostOrder, parsePostgresHosts } from "../src/replication/log/index.ts";
import { decision, node } from "../test/audit/support.ts";
import { startPostgres } from "../test/support/postgres.ts";
import { withClient } from "../test/support/postgres-client.ts";
import { type Budget, reportBudgets, whole } from "./support/budget.ts";

const { values } = parseArgs({
  options: {
    records: { type: "string", default: "60000" },
    rounds: { type: "string", default: "5" },
    folder: { type: "string", default: "/var/tmp" },
  },
});
const [records, rounds] = [Number(values.records), Number(values.rounds)];
const batchBytesMax = 512 * 1_024;
const ratioMin = 0.5;

const people = Array.from({ length: 1_000 }, () => ({
  sessionId: randomUUID() as never,
  userId: randomUUID() as never,
}));
const reasons = ["user-ok"];
const userAgent =
  "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36";
const decisionOf = (i: number, boot: string) =>
  decision(`/reports/${i * 7}/pages/${i % 13}`, {
    ...{ boot: boot as BootId, at: (Date.now() - (i % 1_000)) as never, requestId: randomUUID() },
    ...people[(i * 7_919) % people.length],
    ...{ routeId: `route-${i % 50}`, routeName: "Reports", userAgent, reasons, rule: "policy[0].allow.or" },
    allow: { met: true, reasons },
    deny: { met: false, reasons: [] },
    latencyMs: 0.4,
  });

/** The batches that a sink gets for so many new records. */
function makeBatches(boot: string): readonly AuditBatch[] {
  const batches: AuditBatch[] = [];
  let lines: string[] = [];
  let bytes = 0;
  let first = 1;
  for (let seq = 1; seq <= records; seq++) {
    const line = toLine({ kind: "decision", seq, ...decisionOf(seq, boot) });
    if (bytes + line.length > batchBytesMax || seq === records) {
      if (seq === records) lines.push(line);
      batches.push({ boot: boot as BootId, first, last: first + lines.length - 1, bytes: Buffer.from(lines.join("")) });
      first += lines.length;
      lines = [];
      bytes = 0;
    }
    lines.push(line);
    bytes += line.length;
  }
  return batches;
}

const server = await startPostgres({
  settings: { fsync: "on", shared_buffers: "256MB", max_wal_size: "4GB", checkpoint_timeout: "30min" },
});
const url = await server.newDatabase();
const hosts = new HostOrder(parsePostgresHosts(url));
const limits = { connectMs: 5_000, statementMs: 60_000 };
const connection = await AuditConnection.open(hosts, { name: "raw", access: "write", limits });
const makeSink = (): AuditSink =>
  createPostgresAuditSink({
    ...{ connectionString: url, schema: "audit", cluster: "bench", retentionDays: null, node },
    onTrouble: (problem, error) => console.error(problem, error),
  });
await withClient(url, async (client) => {
  await client.query(schemaScript({ schema: "raw", cluster: "bench", retentionDays: null, roles: {} }));
  await client.query("select raw.ensure_days(array[current_date - 1, current_date, current_date + 1])");
  await client.query("create table raw.lines (line text)");
});

const perSecondOf = (began: number): number => records / ((performance.now() - began) / 1_000);

async function runSink(batches: readonly AuditBatch[]): Promise<Readonly<{ perSecond: number; cpuUs: number }>> {
  const sink = makeSink();
  await sink.write({ ...(batches[0] as AuditBatch), boot: randomUUID() as BootId }); // it is connected
  const cpu = process.cpuUsage();
  const began = performance.now();
  for (const batch of batches) await sink.write(batch);
  const perSecond = perSecondOf(began);
  const { user, system } = process.cpuUsage(cpu);
  await sink.close();
  return { perSecond, cpuUs: (user + system) / records };
}

async function runRaw(batches: readonly AuditBatch[]): Promise<number> {
  const encoded = batches.map((batch) =>
    encodeRows(rowsOf(batch) ?? [], { boot: batch.boot, storedDay: ({ atMs }) => dayOf(atMs ?? 0) }),
  );
  const began = performance.now();
  for (const bytes of encoded)
    await connection.copy(`copy raw.records (${columns.join(", ")}) from stdin with (format binary)`, bytes);
  return perSecondOf(began);
}

async function runLines(batches: readonly AuditBatch[]): Promise<number> {
  const text = Buffer.concat(batches.map(({ bytes }) => bytes));
  const began = performance.now();
  await connection.copy("copy raw.lines from stdin with (format csv, delimiter e'\\x01', quote e'\\x02')", text);
  return perSecondOf(began);
}

async function runSpool(): Promise<number> {
  const folder = mkdtempSync(join(values.folder, "cardea-bench-audit-"));
  const disk = openSpoolFolder(join(folder, "spool"));
  const boot = randomUUID() as BootId;
  const recorder = await createRecorder({
    ...{ node, boot },
    spool: { disk, bytesMax: 10_000_000_000, sinks: [makeSink()] },
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    sleep: (ms, signal) => delay(ms, undefined, signal === undefined ? {} : { signal }),
    onFailure: (what, error) => console.error(what, error),
    onDamage: (damage) => console.error(damage),
  });
  const began = performance.now();
  for (let i = 0; i < records; ) {
    for (let k = 0; k < 500 && i < records; k++, i++) recorder.record(decisionOf(i, boot));
    await delay(0);
    while (recorder.stats().pending > 20_000) await delay(1);
  }
  while ((recorder.stats().sinks[0]?.written ?? 0) < records) await delay(2);
  const perSecond = perSecondOf(began);
  await recorder.close(5_000);
  disk.release();
  rmSync(folder, { recursive: true });
  return perSecond;
}

const median = (all: readonly number[]): number => all.toSorted((a, b) => a - b)[all.length >> 1] ?? Number.NaN;

async function measure(): Promise<readonly Budget[]> {
  const sinks: number[] = [];
  const raws: number[] = [];
  const plain: number[] = [];
  const cpus: number[] = [];
  let batches = makeBatches(randomUUID());
  await runSink(batches); // warm-up
  await runRaw(makeBatches(randomUUID()));
  for (let round = 0; round < rounds; round++) {
    batches = makeBatches(randomUUID());
    const { perSecond, cpuUs } = await runSink(batches);
    sinks.push(perSecond);
    cpus.push(cpuUs);
    raws.push(await runRaw(batches));
    plain.push(await runLines(batches));
  }
  const ratios = sinks.map((perSecond, i) => perSecond / (raws[i] ?? Number.NaN));
  const again = await runSink(batches);
  const spool = await runSpool();
  const user = String(people[7]?.userId);
  const searched = performance.now();
  const counts = emptyCounts();
  let found = 0;
  const query = { users: [user] };
  for await (const _ of findRecords(createPostgresSource({ connectionString: url, schema: "audit", query }), query, {
    counts,
  }))
    found++;
  const searchMs = performance.now() - searched;
  const bytes = batches.reduce((sum, batch) => sum + batch.bytes.length, 0) / records;
  console.log(`${whole(records)} records of ${whole(bytes)} bytes in ${batches.length} batches, ${rounds} rounds`);
  console.log(
    `ratios ${ratios.map((ratio) => ratio.toFixed(2)).join(", ")}; sink ${sinks.map(whole).join(" ")}; raw ${raws.map(whole).join(" ")}`,
  );
  console.log(`${median(cpus).toFixed(1)} µs of processor time of the node per record`);
  console.log(`a search by person found ${found} records in ${searchMs.toFixed(0)} ms`);
  return [
    {
      what: "records into Postgres, beside raw COPY into the same table",
      result: `${median(ratios).toFixed(2)} × (${whole(median(sinks))}/s)`,
      budget: `≥ ${ratioMin} ×`,
      met: median(ratios) >= ratioMin,
    },
    {
      what: "the same, beside one COPY of the lines into a table without index",
      result: `${median(sinks.map((perSecond, i) => perSecond / (plain[i] ?? Number.NaN))).toFixed(2)} × (${whole(median(plain))}/s)`,
      budget: "",
      met: null,
    },
    { what: "records through a spool on disk into Postgres", result: `${whole(spool)}/s`, budget: "", met: null },
    { what: "records that Postgres has already", result: `${whole(again.perSecond)}/s`, budget: "", met: null },
  ];
}

try {
  reportBudgets(await measure());
} finally {
  await connection.end();
  await server.stop();
}
