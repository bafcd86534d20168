/** Sources of stored records: files, spool folders and Postgres answer a query as a plain filter would. */
import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { gzipSync } from "node:zlib";
import {
  type AuditRecord,
  auditFiles,
  createFileSource,
  createPostgresSource,
  createSpoolSource,
  emptyCounts,
  findRecords,
  nodeOfSpoolFolder,
  openSpoolFolder,
  parseLine,
  type RecordSource,
  recordIdOf,
  type StoredRecordQuery,
  toLine,
  withFormat,
} from "../../../src/audit/index.ts";
import { matchesQuery } from "../../../src/audit/sources/index.ts";
import { splitLines } from "../../../src/audit/sources/record-file.ts";
import { SpoolUnusableError } from "../../../src/audit/spool/index.ts";
import type { BootId, NodeId } from "../../../src/events/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { startPostgres } from "../../support/postgres.ts";
import { runSeed, SeededRandom } from "../../support/seeded-random.ts";
import type { PostgresServer } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type AuditDatabase, newAuditDatabase } from "../postgres/audit-database.ts";
import { samples } from "../samples.ts";
import { startSpool } from "../spool/spool-support.ts";
import { batchOf, decision, node } from "../support.ts";

const dayMs = 86_400_000;
const start = Math.floor(Date.now() / dayMs) * dayMs - 4 * dayMs;
const random = new SeededRandom(runSeed);

/** Records of two nodes over some days, in the order of each boot. */
function randomRecords(count: number): AuditRecord[] {
  const records: AuditRecord[] = [];
  const boots = ["a", "b"].map((name) => ({ node: `node-${name}` as NodeId, boot: `boot-${name}` as BootId, seq: 0 }));
  for (let i = 0; i < count; i++) {
    const of = random.pick(boots as [(typeof boots)[0], (typeof boots)[1]]);
    const at = (start + Math.floor((i / count) * 4 * dayMs) + random.int(1_000)) as never;
    const { node, boot } = of;
    const kind = random.int(20);
    if (kind === 0) {
      const first = of.seq + 1;
      of.seq += 1 + random.int(30);
      const fromMs = at - random.int(dayMs);
      const least = random.int(2) === 0 ? {} : { atLeast: 1 };
      records.push({
        kind: "gap",
        seq: of.seq,
        node,
        boot,
        at,
        first,
        last: of.seq,
        fromMs,
        toMs: at,
        ...least,
        why: "",
      });
    } else if (kind === 1)
      records.push({
        ...(samples["operator"] as AuditRecord),
        seq: ++of.seq,
        node,
        boot,
        at,
        region: "eu",
      } as AuditRecord);
    else
      records.push({
        ...{ kind: "decision", seq: ++of.seq },
        ...decision("/", {
          ...{ node, boot, at, region: random.pick(["eu", "us"]), requestId: `request-${random.int(count)}` },
          ...{ routeId: random.pick(["r-1", "r-2", null as never]), routeName: random.pick(["Reports", "Mail"]) },
          ...{ userId: random.pick(["u-1", "u-2", null]) as never, sessionId: random.pick(["s-1", null]) as never },
          ...{
            result: random.pick(["permit", "deny", "not_found"]),
            reasons: random.pick([["user-ok"], ["a", "b"]]) as never,
          },
        }),
        ...(random.int(5) === 0 ? { occasion: "closed", closed: { cause: "ended" } } : {}),
      } as never);
  }
  return records;
}

function randomQuery(records: readonly AuditRecord[]): StoredRecordQuery {
  const some = <Value>(value: () => Value): Value | undefined => (random.int(4) === 0 ? value() : undefined);
  const sinceMs = some(() => start + random.int(4 * dayMs));
  const untilMs = some(() => start + random.int(4 * dayMs));
  const one = records[random.int(records.length)] as AuditRecord;
  const entries = Object.entries({
    users: some(() => ["u-1", "u-admin"]),
    routes: some(() => [random.pick(["r-1", "Mail"])]),
    results: some(() => [random.pick(["deny", "permit", "done"])]),
    regions: some(() => ["eu"]),
    nodes: some(() => ["node-a"]),
    kinds: some(() => [random.pick(["decision", "operator", "gap"])]),
    occasions: some(() => [random.pick(["request", "closed"])]),
    reasons: some(() => [random.pick(["b", "ended", "user-ok"])]),
    sessions: some(() => ["s-1"]),
    requests: random.int(9) === 0 ? [`request-${random.int(records.length)}`] : undefined,
    ids: random.int(9) === 0 ? [recordIdOf(one), "no-boot:7", "nothing"] : undefined,
    sinceMs,
    untilMs,
  });
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

async function idsIn(source: RecordSource, query: StoredRecordQuery): Promise<string[]> {
  const found: string[] = [];
  for await (const { record, line } of findRecords(source, query, { counts: emptyCounts() })) {
    assert.deepEqual(parseLine(line), record);
    found.push(`${record.kind} ${recordIdOf(record)}`);
  }
  await source.close();
  return found;
}

const expected = (records: readonly AuditRecord[], query: StoredRecordQuery): string[] =>
  records.filter((record) => matchesQuery(record, query)).map((record) => `${record.kind} ${recordIdOf(record)}`);

suite("Postgres", () => {
  let server: PostgresServer;
  let database: AuditDatabase;
  const records = randomRecords(400);
  before(async () => {
    server = await startPostgres();
    database = await newAuditDatabase(server);
    const sink = database.sink();
    let batch: AuditRecord[] = [];
    for (const [i, record] of records.entries()) {
      batch.push(record);
      const next = records[i + 1];
      if (record.kind !== "gap" && next?.kind !== "gap" && next?.boot === record.boot) continue;
      await sink.write(batchOf(...batch));
      batch = [];
    }
    await sink.close();
  });
  after(() => server.stop());
  const source = (query?: StoredRecordQuery): RecordSource =>
    createPostgresSource({
      ...{ connectionString: database.url, schema: "cardea_audit" },
      ...(query === undefined ? {} : { query }),
    });

  test("any query finds what a plain filter of all records finds, in the order of time", async () => {
    for (let i = 0; i < 60; i++) {
      const query = randomQuery(records);
      const found = await idsIn(source(query), query);
      assert.deepEqual(found.toSorted(), expected(records, query).toSorted(), JSON.stringify(query));
      const atOf = new Map(records.map((record) => [`${record.kind} ${recordIdOf(record)}`, record.at]));
      const times = found.map((id) => atOf.get(id) ?? 0);
      assert.deepEqual(
        times,
        times.toSorted((a, b) => a - b),
      );
    }
  });

  test("without a query every line comes, boot by boot in the order of numbers, whatever the days of the records", async () => {
    const table = "cardea_audit.records";
    const [kept] = await database.query(`select boot, seq, day::text from ${table} order by day desc, seq limit 1`);
    const move = "set day = $3::date where boot = $1 and seq = $2";
    await database.query(`update ${table} ${move}`, [kept?.["boot"], kept?.["seq"], "1970-01-01"]);
    const all: AuditRecord[] = [];
    for await (const line of source().lines({})) all.push(parseLine(line) as AuditRecord);
    assert.equal(all.length, records.length);
    for (const boot of ["boot-a", "boot-b"]) {
      const numbers = all.filter((record) => record.boot === boot).map(({ seq }) => seq);
      assert.deepEqual(
        numbers,
        numbers.toSorted((a, b) => a - b),
      );
    }
    await database.query(`update ${table} ${move}`, [kept?.["boot"], kept?.["seq"], kept?.["day"]]);
  });

  test("reading can be stopped at any row, and needs the right to select alone", async () => {
    for await (const line of source({}).lines({})) {
      assert.ok(line.length > 0);
      break;
    }
    const stop = new AbortController();
    const aborted = (async () => {
      for await (const _ of source({}).lines({ signal: stop.signal })) stop.abort();
    })();
    await assert.rejects(aborted, { name: "AbortError" });
    const sessions =
      "select from pg_stat_activity where application_name = 'cardea audit reader' and datname = current_database()";
    await waitFor("the sessions to end", async () => (await database.query(sessions)).length === 0);
  });

  test("a schema without records is not an empty answer", async () => {
    const empty = createPostgresSource({ connectionString: database.url, schema: "nothing" });
    await assert.rejects(idsIn(empty, {}), /no audit records in the schema nothing/);
  });
});

suite("files", () => {
  const folder = new TemporaryFolder("record-file");
  after(() => folder.remove());
  const records = randomRecords(300);
  const lines = records.map(toLine);
  const path = join(folder.path, "decisions.jsonl");
  writeFileSync(
    `${path}-20261101.gz`,
    Buffer.concat([gzipSync(lines.slice(0, 50).join("")), gzipSync(lines.slice(50, 100).join(""))]),
  );
  writeFileSync(join(folder.path, "decisions-20261102.jsonl"), `${lines.slice(100, 200).join("")}half a li`);
  writeFileSync(path, lines.slice(180).join(""));

  test("rotated and compressed files answer any query, and repeated records come once", async () => {
    for (let i = 0; i < 30; i++) {
      const query = randomQuery(records);
      assert.deepEqual(await idsIn(createFileSource(path, auditFiles(path, 0)), query), expected(records, query));
    }
    const counts = emptyCounts();
    const all = createFileSource(path, auditFiles(path, 0));
    for await (const _ of findRecords(all, {}, { counts }));
    const gaps = records.filter((record) => record.kind === "gap");
    assert.deepEqual(counts, {
      ...{ read: 321, unreadable: 1, repeated: 20, gaps: gaps.length },
      missingLeast: gaps.reduce((sum, { atLeast, first, last }) => sum + (atLeast ?? last - first + 1), 0),
      missingMost: gaps.reduce((sum, { first, last }) => sum + last - first + 1, 0),
    });
  });

  test("a file that is rotated and compressed while it is read loses nothing", async () => {
    const source = createFileSource(path, auditFiles(path, 0));
    let count = 0;
    for await (const _ of findRecords(source, {}, { counts: emptyCounts() })) {
      count++;
      if (count !== 20) continue;
      renameSync(path, join(folder.path, "decisions-20261130.jsonl"));
      writeFileSync(path, "");
      const second = join(folder.path, "decisions-20261102.jsonl");
      writeFileSync(`${second}.gz`, gzipSync(lines.slice(100, 200).join("")));
      rmSync(second);
    }
    assert.equal(count, 300);
  });

  test("events of CloudEvents are found as their records; other lines are counted", async () => {
    const file = join(folder.path, "events.jsonl");
    const write = async ({ bytes }: { bytes: Buffer }): Promise<void> => appendFileSync(file, bytes);
    const sink = withFormat({ name: "x", write, close: async () => {} }, { format: "cloudevents", cluster: "main" });
    await sink.write(batchOf(...Object.values(samples)));
    appendFileSync(
      file,
      '{"class_uid":6003}\n[]\nnull\n{"kind":"decision","seq":1}\n{"kind":"gap","seq":1,"boot":"b","node":"n","at":1}\n\n',
    );
    const counts = emptyCounts();
    const found: AuditRecord[] = [];
    for await (const { record } of findRecords(createFileSource(file, [file]), {}, { counts })) found.push(record);
    assert.deepEqual(found, Object.values(samples));
    assert.equal(counts.unreadable, 5);
  });

  test("lines are found across chunks, and one that is longer than any record takes bounded memory", async () => {
    async function* chunks(): AsyncGenerator<Buffer> {
      const text = Buffer.from("ä1\n\n2ß3\n");
      for (const byte of text) yield Buffer.from([byte]);
      for (let i = 0; i < 64; i++) yield Buffer.alloc(65_536, "x");
      yield Buffer.from("\nlast");
    }
    const found: string[] = [];
    for await (const line of splitLines(chunks())) found.push(line);
    assert.deepEqual([found[0], found[1], found[2], found[4]], ["ä1", "", "2ß3", "last"]);
    assert.equal(found[3]?.length, 1_048_576);
  });
});

suite("spool", () => {
  async function filled(): Promise<Readonly<{ path: string; folder: TemporaryFolder }>> {
    const folder = new TemporaryFolder("record-spool");
    const path = join(folder.path, "node-1");
    mkdirSync(path);
    return { path, folder };
  }
  const stuck = { name: "stuck", write: () => Promise.reject(new Error("away")), close: async () => {} };

  test("the folder of a running node is read while it writes, and nothing in it changes", async () => {
    const { path, folder } = await filled();
    const disk = openSpoolFolder(path);
    const recorder = await startSpool(disk, [stuck], { strictMs: 20_000 });
    for (let i = 0; i < 50; i++)
      await recorder.recordDurably(decision("/", { result: i % 5 === 0 ? "deny" : "permit" }));
    const names = readdirSync(path).sort();
    const source = createSpoolSource(path, node, { nowMs: Date.now });
    assert.equal((await idsIn(source, { results: ["deny"] })).length, 10);
    assert.deepEqual(readdirSync(path).sort(), names);
    await recorder.recordDurably(decision());
    assert.equal((await idsIn(source, {})).length, 51);
    await recorder.close(100);
    disk.release();
    folder.remove();
  });

  test("what a killed boot may have lost is declared once the node has started again", async () => {
    const { path, folder } = await filled();
    const first = openSpoolFolder(path);
    const killed = await startSpool(first, [stuck], { boot: "boot-1", strictMs: 20_000 });
    for (let i = 0; i < 5; i++) await killed.recordDurably(decision("/", { boot: "boot-1" as BootId }));
    first.release(); // as if the process were gone: the recorder is left as it is
    const second = await waitFor("the change under way, which keeps the folder", () => openUnlessInUse(path));
    const recorder = await startSpool(second, [stuck], { boot: "boot-2", strictMs: 20_000 });
    await recorder.recordDurably(decision("/", { boot: "boot-2" as BootId }));
    const found = await idsIn(createSpoolSource(path, node, { nowMs: Date.now }), {});
    assert.equal(found.filter((id) => id.startsWith("gap boot-1:")).length, 1);
    assert.equal(found.filter((id) => id.startsWith("decision")).length, 6);
    await recorder.close(100);
    await killed.close(100);
    second.release();
    folder.remove();
  });

  test("segments that the sinks have meanwhile do not look like losses", async () => {
    const { path, folder } = await filled();
    const disk = openSpoolFolder(path);
    const recorder = await startSpool(disk, [stuck], { bytesMax: 4_000_000, strictMs: 20_000 });
    const text = "x".repeat(2_000);
    for (let group = 0; group < 6; group++) {
      for (let i = 0; i < 100; i++) recorder.record(decision(`/${text}`));
      await recorder.recordDurably(decision());
    }
    const segments = readdirSync(path)
      .filter((name) => name.endsWith(".records"))
      .sort();
    assert.ok(segments.length >= 3, `${segments.length}`);
    const found: string[] = [];
    for await (const { record } of findRecords(
      createSpoolSource(path, node, { nowMs: Date.now }),
      {},
      { counts: emptyCounts() },
    )) {
      found.push(record.kind);
      if (found.length === 1) for (const name of segments.slice(0, 3)) rmSync(join(path, name));
    }
    assert.ok(found.length > 10 && found.length < 606);
    assert.deepEqual([...new Set(found)], ["decision"]);
    await recorder.close(100);
    disk.release();
    folder.remove();
  });
});

test("a spool folder stands for the node that its name encodes, or for its name", () => {
  assert.equal(nodeOfSpoolFolder("/spool/a%2Fb/"), "a/b");
  assert.equal(nodeOfSpoolFolder("/copies/50%"), "50%");
});

function openUnlessInUse(path: string): ReturnType<typeof openSpoolFolder> | undefined {
  try {
    return openSpoolFolder(path, { waitMs: 0 });
  } catch (error) {
    if (error instanceof SpoolUnusableError && error.isInUse) return undefined;
    throw error;
  }
}
