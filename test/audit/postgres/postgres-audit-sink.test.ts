/** The Postgres sink: its table, partitions and rights, and what it does when the server fails. */
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { type AuditRecord, AuditRejectedError, schemaScript, toLine } from "../../../src/audit/index.ts";
import type { BootId, NodeId, UnixMs } from "../../../src/events/index.ts";
import { startPostgres } from "../../support/postgres.ts";
import { withClient } from "../../support/postgres-client.ts";
import type { PostgresServer } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";
import { samples } from "../samples.ts";
import { batchOf, boot, decision, node } from "../support.ts";
import { startAnswerProxy } from "./answer-proxy.ts";
import { type AuditDatabase, newAuditDatabase } from "./audit-database.ts";

let server: PostgresServer;
before(async () => {
  server = await startPostgres({ settings: { synchronous_commit: "off" } });
  await withClient(server.connectionString(), async (client) => {
    for (const role of ["audit_owner", "audit_writer", "audit_reader"])
      await client.query(`create role ${role} login password '${role}'`);
  });
});
after(() => server.stop());

const dayMs = 86_400_000;
const today = Math.floor(Date.now() / dayMs) * dayMs;
const at = (daysAgo: number): UnixMs => (today - daysAgo * dayMs + 3_600_000) as UnixMs;
const one = (seq: number, more: Partial<AuditRecord> = {}): AuditRecord =>
  ({ kind: "decision", seq, ...decision("/", { at: at(0) }), ...more }) as AuditRecord;
const partitionsOf = async ({ query }: AuditDatabase): Promise<readonly string[]> =>
  (await query("select relname from pg_class where relname ~ '^records_[0-9]{8}$' order by 1")).map(
    (r) => `${r["relname"]}`,
  );
const partition = (daysAgo: number): string =>
  `records_${new Date(today - daysAgo * dayMs).toISOString().slice(0, 10).replaceAll("-", "")}`;

suite("what the table holds", () => {
  test("the exact line of every kind of record, and its parts in columns", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink();
    const inOrder = Object.values(samples).toSorted((a, b) => a.seq - b.seq);
    await sink.write(batchOf(...inOrder.filter(({ kind }) => kind !== "gap")));
    await sink.write(batchOf(samples["gap"] as AuditRecord));
    await sink.close();
    const lines = (await database.lines()).map((line) => `${line}\n`);
    assert.deepEqual(lines, inOrder.map(toLine));
    const columns =
      "at, node, boot, seq::integer, kind, occasion, region, request_id, route_id, user_id, session_id, result";
    const rows = await database.query(
      `select ${columns}, status, reasons, missing_least::integer, missing_most::integer, from_at from cardea_audit.records order by seq`,
    );
    const empty = { occasion: null, request_id: null, route_id: null, user_id: null, session_id: null, status: null };
    const none = { missing_least: null, missing_most: null, from_at: null };
    const when = new Date(1_764_288_000_000);
    assert.deepEqual(
      { ...rows[0] },
      {
        ...{ at: when, node, boot, seq: 1, kind: "decision", occasion: "request", region: "here", ...none },
        ...{
          request_id: "request-1",
          route_id: "app",
          user_id: "u-1",
          session_id: "019f0000-0000-7000-8000-000000000001",
        },
        ...{ result: "permit", status: 200, reasons: "user-ok" },
      },
    );
    assert.deepEqual(
      { ...rows.find(({ kind }) => kind === "operator") },
      {
        ...{ ...empty, at: when, node, boot, seq: 7, kind: "operator", region: "here", ...none },
        ...{ result: "done", reasons: null },
      },
    );
    assert.deepEqual(
      { ...rows.at(-1) },
      {
        ...{ ...empty, at: when, node, boot, seq: 20, kind: "gap", region: null, result: null, reasons: null },
        ...{ missing_least: 0, missing_most: 10, from_at: new Date(1_764_288_000_000 - 100) },
      },
    );
  });

  test("zero characters, half pairs and long texts are stored as they are in the line", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink();
    const records = [
      one(1, { userId: "a\0b", routeId: `${"r".repeat(255)}😀` } as never),
      one(2, { path: "\ud800", reasons: ["x".repeat(3_000)] } as never),
      one(3, { status: 2 ** 40, reasons: "none", region: 7 } as never),
    ];
    await sink.write(batchOf(...records));
    const broken = Buffer.from('{"kind":"decision","seq":4,"at":"yes"}\nnot JSON\n');
    await sink.write({ boot: boot as BootId, first: 4, last: 5, bytes: broken });
    await sink.close();
    assert.deepEqual(
      (await database.lines()).slice(0, 3),
      records.map((record) => toLine(record).trimEnd()),
    );
    const rows = await database.query(
      "select seq::integer, kind, at, day::text, user_id from cardea_audit.records order by seq",
    );
    assert.equal(rows[0]?.["user_id"], "a\u{fffd}b");
    const other = { at: null, day: "1970-01-01", user_id: null };
    assert.deepEqual(rows.slice(3), [
      { seq: 4, kind: "decision", ...other },
      { seq: 5, kind: "unreadable", ...other },
    ]);
  });

  test("a line that no text column can hold is rejected, and its neighbours are not lost with it", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink();
    for (const bad of [Buffer.from([0x22, 0xff, 0x22, 0x0a]), Buffer.from([0x22, 0, 0x22, 0x0a])])
      await assert.rejects(sink.write({ boot, first: 1, last: 1, bytes: bad }), AuditRejectedError);
    await sink.write(batchOf(one(2)));
    await sink.close();
    assert.equal((await database.lines()).length, 1);
  });
});

suite("repetitions", () => {
  test("a batch that the server has, in whole or in part, leaves no duplicates", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink();
    for (const batch of [
      [1, 2],
      [1, 2],
      [2, 3, 4],
      [4, 5],
    ])
      await sink.write(batchOf(...batch.map((seq) => one(seq))));
    await sink.close();
    const again = database.sink();
    await again.write(batchOf(one(5), one(6)));
    await again.write(batchOf(one(1, { boot: "boot-2" as BootId } as never)));
    await again.write(batchOf(one(1, { node: "node-2" as NodeId } as never)));
    await again.close();
    const found = await database.query("select node || boot || seq as id from cardea_audit.records order by 1");
    assert.equal(found.length, 8);
  });

  test("the end of a killed boot that is declared again, on another day, is stored once", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink();
    const gap = (daysAgo: number) =>
      batchOf({
        kind: "gap",
        seq: 9,
        node,
        boot,
        at: at(daysAgo),
        first: 2,
        last: 9,
        atLeast: 0,
        reason: "killed",
        why: "",
      });
    for (const daysAgo of [1, 0, 1]) await sink.write(gap(daysAgo));
    await sink.close();
    assert.equal((await database.lines()).length, 1);
  });

  test("a forged row under the id of a record hides nothing: the record is rejected, and its neighbours are stored", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink();
    await sink.write(batchOf(one(1)));
    await sink.write(batchOf(one(3, { userId: "forged" } as never)));
    await assert.rejects(sink.write(batchOf(one(2), one(3), one(4))), AuditRejectedError);
    await sink.write(batchOf(one(2)));
    await assert.rejects(sink.write(batchOf(one(3))), /another record under the id boot-1:3/);
    await sink.write(batchOf(one(4)));
    await sink.close();
    assert.equal((await database.lines()).length, 4);
  });

  test("a gap whose last number is stored is superfluous, and a record is stored beside a gap of its number", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink();
    const gap = (seq: number) =>
      batchOf({ kind: "gap", seq, node, boot, at: at(0), first: 1, last: seq, reason: "spool_full", why: "" });
    await sink.write(batchOf(one(1), one(2)));
    await sink.write(gap(2));
    await sink.write(gap(5));
    await sink.write(batchOf(one(4), one(5)));
    await sink.close();
    const rows = await database.query("select kind, seq::integer from cardea_audit.records order by seq, kind");
    assert.deepEqual(
      rows.map(({ kind, seq }) => `${kind} ${seq}`),
      ["decision 1", "decision 2", "decision 4", "decision 5", "gap 5"],
    );
  });

  test("a batch whose answer was lost after the commit is completed without duplicates", async () => {
    const database = await newAuditDatabase(server);
    const proxy = await startAnswerProxy(server.port);
    const sink = database.sink({ connectionString: database.url.replace(`:${server.port}`, `:${proxy.port}`) });
    await sink.write(batchOf(one(1)));
    proxy.withhold(1); // to the beginning of the copy
    const lost = sink.write(batchOf(one(2), one(3)));
    lost.catch(() => undefined);
    await waitFor("the commit", async () => (await database.lines()).length === 3);
    proxy.cut();
    await assert.rejects(lost, { code: "ERR_AUDIT_DATABASE" });
    await sink.write(batchOf(one(2), one(3)));
    await sink.write(batchOf(one(3), one(4)));
    await sink.close();
    await proxy.stop();
    assert.equal((await database.lines()).length, 4);
  });

  test("two nodes create the schema and write at the same time", async () => {
    const database = await newAuditDatabase(server);
    const nodes = ["node-1", "node-2", "node-3"].map((name) => ({
      name: name as NodeId,
      sink: database.sink({ node: name }),
    }));
    for (let round = 0; round < 5; round++)
      await Promise.all(
        nodes.map(({ name, sink }) =>
          sink.write(batchOf(one(round + 1, { node: name, boot: name as never, at: at(round) } as never))),
        ),
      );
    await Promise.all(nodes.map(({ sink }) => sink.close()));
    assert.equal((await database.lines()).length, 15);
    assert.deepEqual(database.troubles, []);
  });
});

suite("partitions", () => {
  test("they exist two days ahead, and a late record gets its own", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink();
    await sink.write(batchOf(one(1), one(2, { at: at(5) } as never)));
    await sink.close();
    assert.deepEqual(await partitionsOf(database), [5, 0, -1, -2].map(partition));
  });

  test("a clock that is wrong makes no partition: such records are kept apart", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink({ retentionDays: 30 });
    const times = [0, at(31), at(-3), at(-40_000)] as UnixMs[];
    await sink.write(batchOf(...times.map((time, i) => one(i + 1, { at: time } as never))));
    await sink.close();
    assert.equal((await database.query("select from cardea_audit.records_other")).length, 4);
    assert.deepEqual(await partitionsOf(database), [0, -1, -2].map(partition));
  });

  test("whole days are dropped after the retention, and not a day before", async () => {
    const database = await newAuditDatabase(server);
    const first = database.sink({ retentionDays: 40 });
    await first.write(batchOf(...[0, 9, 10, 11, 12].map((day, i) => one(i + 1, { at: at(day) } as never))));
    await first.write(batchOf(one(6, { at: 0 } as never), one(7, { at: at(1) } as never)));
    await first.close();
    await database.query("update cardea_audit.records_other set stored_at = stored_at - interval '11 days'");
    const second = database.sink({ retentionDays: 10, maintainEveryMs: 20 });
    await waitFor("the drop", async () => (await partitionsOf(database)).length === 6);
    await second.close();
    assert.deepEqual(await partitionsOf(database), [10, 9, 1, 0, -1, -2].map(partition));
    assert.equal((await database.query("select from cardea_audit.records_other")).length, 0);
  });

  test("an administrator's own partition is used", async () => {
    const database = await newAuditDatabase(server);
    const first = database.sink();
    await first.write(batchOf(one(1)));
    await first.close();
    await database.query(`create table cardea_audit.older partition of cardea_audit.records
      for values from ('2020-01-01') to ('${new Date(today - 2 * dayMs).toISOString().slice(0, 10)}')`);
    const sink = database.sink();
    await sink.write(batchOf(one(2, { at: at(5) } as never)));
    await sink.close();
    assert.equal((await database.query("select from cardea_audit.older")).length, 1);
    assert.deepEqual(await partitionsOf(database), [0, -1, -2].map(partition));
  });

  test("a partition that is gone is made again, and a table in its place does not stop the sink", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink();
    await sink.write(batchOf(one(1)));
    await database.query(`drop table cardea_audit.${partition(0)}`);
    await sink.write(batchOf(one(2)));
    await database.query(`alter table cardea_audit.records detach partition cardea_audit.${partition(0)}`);
    await sink.write(batchOf(one(3)));
    await sink.close();
    assert.equal((await database.query("select from cardea_audit.records_other")).length, 1);
    assert.equal((await database.query(`select from cardea_audit.${partition(0)}`)).length, 1);
  });
});

suite("rights", () => {
  const script = schemaScript({
    ...{ schema: "cardea_audit", cluster: "main", retentionDays: 10 },
    roles: { writer: "audit_writer", reader: "audit_reader" },
  });

  async function withOwner(): Promise<AuditDatabase> {
    const database = await newAuditDatabase(server);
    await database.query("grant create on schema public to audit_owner");
    const name = new URL(database.url).pathname.slice(1);
    await database.query(`grant create on database ${name} to audit_owner`);
    await withClient(database.urlOf("audit_owner"), (client) => client.query(script));
    return database;
  }

  test("a role that may only insert and select keeps the partitions and the retention, and can destroy nothing", async () => {
    const database = await withOwner();
    const sink = database.sink({
      connectionString: database.urlOf("audit_writer"),
      retentionDays: 10,
      maintainEveryMs: 20,
    });
    await sink.write(batchOf(one(1), one(2, { at: at(9) } as never)));
    await sink.write(batchOf(one(2, { at: at(9) } as never), one(3)));
    await sink.write(batchOf(one(3))); // of which it has everything
    await database.query(`select cardea_audit.ensure_days(array[current_date - 10])`);
    await database.query("update cardea_audit.settings set retention_days = 9");
    await waitFor("the drop", async () => !(await partitionsOf(database)).includes(partition(10)));
    await sink.close();
    assert.equal((await database.lines()).length, 3);
    await withClient(database.urlOf("audit_writer"), async (client) => {
      const denied = { code: "42501" };
      for (const text of [
        "delete from cardea_audit.records",
        "update cardea_audit.records set line = ''",
        "truncate cardea_audit.records",
        `drop table cardea_audit.${partition(0)}`,
        `delete from cardea_audit.${partition(0)}`,
        "update cardea_audit.settings set retention_days = 1",
        "create table cardea_audit.mine ()",
      ])
        await assert.rejects(client.query(text), denied, text);
      await client.query("select cardea_audit.drop_expired('3000-01-01')");
      const { rows } = await client.query(
        "select * from cardea_audit.ensure_days(array[current_date + 300, null, 'infinity'])",
      );
      assert.deepEqual(rows, []);
    });
    assert.equal((await database.lines()).length, 3);
    await withClient(database.urlOf("audit_reader"), async (client) => {
      assert.equal((await client.query("select from cardea_audit.records")).rowCount, 3);
      await assert.rejects(client.query("insert into cardea_audit.records (day, line) values (now(), '')"), {
        code: "42501",
      });
      await assert.rejects(client.query("select cardea_audit.drop_expired(now())"), { code: "42501" });
    });
  });

  test("a retention that the role may not change is reported, and the database's own applies", async () => {
    const database = await withOwner();
    const sink = database.sink({ connectionString: database.urlOf("audit_writer"), retentionDays: 99 });
    await sink.write(batchOf(one(1)));
    await sink.close();
    assert.match(database.troubles.join(), /another retention/);
    assert.equal((await database.query("select retention_days from cardea_audit.settings"))[0]?.["retention_days"], 10);
  });

  test("without a schema and the right to create it, the error says what an administrator does", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink({ connectionString: database.urlOf("audit_writer") });
    await assert.rejects(sink.write(batchOf(one(1))), (error: Error) => {
      assert.match(error.message, /may not create the schema cardea_audit .*cardea audit schema/);
      assert.doesNotMatch(error.message, /audit_writer:audit_writer/);
      return true;
    });
    await sink.close();
  });

  test("rights that are taken away make the sink fail, not reject, until they are back", async () => {
    const database = await withOwner();
    const sink = database.sink({ connectionString: database.urlOf("audit_writer"), retentionDays: 10 });
    await sink.write(batchOf(one(1)));
    await database.query("revoke insert on cardea_audit.records from audit_writer");
    await assert.rejects(sink.write(batchOf(one(2))), { code: "ERR_AUDIT_DATABASE", state: "42501" });
    await database.query("grant insert on cardea_audit.records to audit_writer");
    await sink.write(batchOf(one(2)));
    await sink.close();
  });

  test("the records of another cluster, and a schema of a later build, are not written", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink();
    await sink.write(batchOf(one(1)));
    await sink.close();
    const other = database.sink({ cluster: "staging" });
    await assert.rejects(other.write(batchOf(one(2))), /holds the records of the cluster "main", not of "staging"/);
    await other.close();
    await database.query("insert into cardea_audit.schema_version (version, works_with) values (2, 2)");
    const later = database.sink();
    await assert.rejects(later.write(batchOf(one(2))), /version 2 of a later build/);
    await later.close();
    await database.query("update cardea_audit.schema_version set works_with = 1");
    const compatible = database.sink();
    await compatible.write(batchOf(one(2)));
    await compatible.close();
  });
});

suite("failures of the server", () => {
  test("a server that is read-only, as after a failover, is not used; the next one in the address is", async () => {
    const database = await newAuditDatabase(server);
    const other = await newAuditDatabase(server);
    const sink = database.sink();
    await sink.write(batchOf(one(1)));
    const name = new URL(database.url).pathname.slice(1);
    await database.query(`alter database ${name} set default_transaction_read_only = on`);
    await database.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
    );
    await assert.rejects(sink.write(batchOf(one(2))), { code: "ERR_AUDIT_DATABASE" });
    await assert.rejects(sink.write(batchOf(one(2))), /read-only/);
    await withClient(other.url, (client) => client.query(`alter database ${name} reset default_transaction_read_only`));
    await sink.write(batchOf(one(2)));
    await sink.close();
    assert.equal((await database.lines()).length, 2);
    const dead = database.url.replace(/@[^/]*/, (hosts) => `@127.0.0.1:1,${hosts.slice(1)}`);
    const second = database.sink({ connectionString: dead });
    await second.write(batchOf(one(3)));
    await second.close();
  });

  test("a table that another session locks makes the sink fail within its time, and it recovers", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink({ limits: { connectMs: 1_000, statementMs: 300 } });
    await sink.write(batchOf(one(1)));
    await withClient(database.url, async (client) => {
      await client.query("begin; lock table cardea_audit.records in access exclusive mode");
      await assert.rejects(sink.write(batchOf(one(2))), { code: "ERR_AUDIT_DATABASE" });
      await client.query("rollback");
    });
    await sink.write(batchOf(one(2)));
    await sink.close();
  });

  test("a server that says nothing any more is given up, and what it did is found out later", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink({ limits: { connectMs: 500, statementMs: 200 } });
    await sink.write(batchOf(one(1)));
    await server.pause();
    try {
      await assert.rejects(sink.write(batchOf(one(2))), /did not answer/);
    } finally {
      await server.resume();
    }
    await sink.write(batchOf(one(2)));
    await sink.close();
    assert.equal((await database.lines()).length, 2);
  });

  test("commits of the sink wait for the disk, although the server's default does not", async () => {
    const database = await newAuditDatabase(server);
    const sink = database.sink();
    await sink.write(batchOf(one(1)));
    const [settings] = await database.query(
      "select count(*)::integer as sessions from pg_stat_activity where application_name = 'cardea audit node-1' and datname = current_database()",
    );
    assert.equal(settings?.["sessions"], 1);
    for (let seq = 2; seq < 12; seq++) {
      await sink.write(batchOf(one(seq)));
      const [found] = await database.query("select pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn() as behind");
      assert.equal(Number(found?.["behind"]), 0);
    }
    await sink.close();
  });
});
