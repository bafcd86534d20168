/**
 * The Postgres log on a server that cancels, stalls, crashes, waits for standbys and is migrated.
 *
 * It checks which outcome a write reports (docs/protocol.md §3.2), and what readers may see of it (docs/protocol.md
 * §3.3).
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import pg from "pg";
import { type Epoch, type GroupId, genesis, type Link, type Position } from "../../src/events/index.ts";
import {
  type EventLog,
  LogDamagedError,
  LogRefusedError,
  LogUnavailableError,
  openPostgresLog,
  verifyLog,
} from "../../src/replication/log/index.ts";
import { postgresMigrations } from "../../src/replication/log/migrations/postgres-migrations.ts";
import { aConfiguration } from "../contract/configurations.ts";
import { Child, TemporaryFolder } from "../support/child.ts";
import { aCommandId, aSession, LogWriter, openEpoch } from "../support/log-writer.ts";
import { startPostgres } from "../support/postgres.ts";
import { withClient } from "../support/postgres-client.ts";
import type { PostgresServer } from "../support/service.ts";
import { waitFor } from "../support/wait-for.ts";
import { type OwnStore, ownStore } from "./postgres-log-support.ts";

let server: PostgresServer;
let store: OwnStore;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());
beforeEach(async () => {
  store = await ownStore(server);
});
afterEach(() => store.close());

const setStandby = async (names: string): Promise<void> => {
  await store.sql(`alter system set synchronous_standby_names = '${names}'`);
  await store.sql("select pg_reload_conf()");
  await waitFor("the setting to be read", async () => {
    const [row] = await store.sql("show synchronous_standby_names");
    return row?.["synchronous_standby_names"] === names;
  });
};
const waitingForStandby = (): Promise<number> =>
  waitFor("a commit to wait for its standby", async () => {
    const [row] = await store.sql(
      "select pid from pg_stat_activity where wait_event = 'SyncRep' and query like '%append%'",
    );
    return row === undefined ? undefined : Number(row["pid"]);
  });

test("a cancelled wait for a standby is indeterminate, and readers see its events only after a clean commit confirms them", async () => {
  const [log, other] = [await store.open(), await store.open()];
  const writer = await LogWriter.open(log);
  await writer.appendEach(aSession());
  await writer.beat();
  const clean = writer.head;
  const [resolved, commandId] = [aSession(), aCommandId()];
  await setStandby("nobody");
  try {
    const pending = writer.append([{ commandId, events: [resolved] }]);
    const pid = await waitingForStandby();
    await store.sql("select pg_cancel_backend($1)", [pid]);
    const outcome = await pending;
    assert.ok(outcome.type === "indeterminate", outcome.type);
    assert.match(String(outcome.cause), /standby|replication/);

    // The row is visible in the table, but it can still be lost.
    const [row] = await store.sql(`select max(pos) as pos from ${store.schema}.event`);
    assert.equal(Number(row?.["pos"]), clean.position + 1);
    for (const reader of [log, other]) {
      assert.deepEqual((await reader.observe()).head, clean);
      const page = { previous: clean, entries: [], last: clean, head: clean };
      assert.deepEqual(await reader.read(clean, 10), { type: "page", page });
      assert.equal(await reader.linkAt((clean.position + 1) as Position), undefined);
      assert.equal(await reader.findCommand(commandId), undefined);
    }
    assert.equal((await verifyLog(other)).type, "intact");
  } finally {
    await setStandby("");
  }

  const next = await LogWriter.open(log);
  assert.deepEqual(await log.findCommand(commandId), { first: clean.position + 1, count: 1 });
  assert.equal(next.head.position, clean.position + 2);
  assert.equal(await other.findCommand(commandId), undefined, "another broker knows only what the head row contains");
  await next.beat();
  assert.deepEqual(await other.findCommand(commandId), { first: clean.position + 1, count: 1 });
  assert.deepEqual((await other.observe()).head, next.head);
});

test("a commit that no standby acknowledges is indeterminate after the time-out, and no epoch can be opened meanwhile", async () => {
  const log = await store.open({ writeTimeoutMs: 2_500 });
  const writer = await LogWriter.open(log);
  await setStandby("nobody");
  const commandId = aCommandId();
  try {
    assert.equal((await writer.append([{ commandId, events: [aSession()] }])).type, "indeterminate");
    // The server still waits with the head row locked, so it is certain that no epoch opens.
    assert.equal((await openEpoch(log)).type, "unavailable");
  } finally {
    await setStandby("");
  }
  await LogWriter.open(log);
  assert.deepEqual(await log.findCommand(commandId), { first: 2, count: 1 });
});

test("opening an epoch is indeterminate if no standby acknowledges its commit", async () => {
  const log = await store.open({ writeTimeoutMs: 2_500 });
  await LogWriter.open(log);
  await setStandby("nobody");
  try {
    assert.equal((await openEpoch(log)).type, "indeterminate");
    assert.equal((await log.observe()).head.position, 1);
  } finally {
    await setStandby("");
  }
  const epochs = await waitFor("the epoch to open", async () => {
    const outcome = await openEpoch(log);
    return outcome.type === "opened" ? log.epochs() : undefined;
  });
  assert.ok(epochs.length >= 2);
  assert.equal((await verifyLog(log)).type, "intact");
});

test("a deposed leader is refused at once, without waiting for a standby", async () => {
  const log = await store.open({ writeTimeoutMs: 10_000 });
  const old = await LogWriter.open(log);
  await LogWriter.open(log);
  await setStandby("nobody");
  try {
    assert.deepEqual(await old.appendEach(aSession()), { type: "fenced", epoch: 2 });
    assert.deepEqual(await old.beat(), { type: "fenced", epoch: 2 });
  } finally {
    await setStandby("");
  }
});

test("after a restore of the server, an earlier clean commit does not confirm the event at its position", async () => {
  const [log, other] = [await store.open(), await store.open()];
  const writer = await LogWriter.open(log);
  const surviving = writer.head;
  await writer.appendEach(aSession());
  await writer.appendEach(aSession());
  await writer.beat();
  const s = `"${store.schema}"`;
  await store.sql(`delete from ${s}.event where pos > ${surviving.position}`);
  await store.sql(`delete from ${s}.stream_head where stream like 'session:%'`);
  await store.sql(`delete from ${s}.command`);
  await store.sql(
    `update ${s}.log_head set pos = $1, hash = $2, durable_pos = $1, durable_epoch = epoch, durable_hash = $2`,
    [surviving.position, Buffer.from(surviving.hash, "hex")],
  );
  const next = await LogWriter.open(other);
  await next.appendEach(aSession()); // at the position of the lost commit, and no later commit has confirmed it
  assert.equal(next.head.position, writer.head.position);
  const seen = await log.observe();
  assert.ok(seen.head.position < next.head.position);
  const outcome = await log.read(surviving, 10);
  assert.ok(outcome.type === "page" && outcome.page.last.position === seen.head.position);
  assert.equal(await log.linkAt(next.head.position), undefined);
  await next.beat();
  assert.equal((await log.read(writer.head, 10)).type, "forked");
});

test("a killed server leaves an append indeterminate, and opening the epoch again resolves it", async () => {
  const log = await store.open({ connectTimeoutMs: 2_000 });
  const writer = await LogWriter.open(log);
  const acknowledged: string[] = [];
  const sent: ReturnType<typeof aCommandId>[] = [];
  const writing = (async () => {
    for (;;) {
      const commandId = aCommandId();
      sent.push(commandId);
      const outcome = await writer.append([{ commandId, events: [aSession(), aSession()] }]);
      if (outcome.type !== "appended") return outcome;
      acknowledged.push(commandId);
    }
  })();
  await waitFor("some appends", () => acknowledged.length > 20);
  await server.kill();
  const outcome = await writing;
  assert.ok(outcome.type === "indeterminate" || outcome.type === "unavailable", outcome.type);
  assert.equal((await writer.appendEach(aSession())).type, "unavailable");
  await assert.rejects(log.read(genesis, 1), LogUnavailableError);

  await server.start();
  const next = await waitFor("an epoch", async () => ((await openEpoch(log)).type === "opened" ? true : undefined));
  assert.ok(next);
  const verdict = await verifyLog(log);
  assert.ok(verdict.type === "intact");
  for (const commandId of sent) {
    const found = await log.findCommand(commandId as ReturnType<typeof aCommandId>);
    if (acknowledged.includes(commandId)) assert.equal(found?.count, 2);
  }
  const found = await Promise.all(sent.map((commandId) => log.findCommand(commandId)));
  assert.equal(verdict.events, 2 + 2 * found.filter((each) => each !== undefined).length);
});

test("terminating every connection crashes no process, and the log recovers by itself", async () => {
  const log = await store.open();
  const writer = await LogWriter.open(log);
  await Promise.all(Array.from({ length: 8 }, () => log.read(genesis, 1)));
  const terminate =
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cardea' and datname = current_database()";
  for (let i = 0; i < 5; i++) {
    const busy = Promise.allSettled([
      writer.appendEach(aSession()),
      ...Array.from({ length: 8 }, () => log.read(genesis, 100)),
    ]);
    await store.sql(terminate);
    await busy;
    await waitFor("reads to succeed again", async () => (await log.read(genesis, 1)).type === "page");
  }
  const next = await waitFor("an epoch to open", () => LogWriter.open(log).catch(() => undefined));
  assert.equal((await next.appendEach(aSession())).type, "appended");
  assert.equal((await verifyLog(log)).type, "intact");
});

test("on a paused server, writes in flight time out as indeterminate, and later ones are not sent", {
  timeout: 120_000,
}, async () => {
  const log = await store.open({ writeTimeoutMs: 3_000, readTimeoutMs: 3_000, connectTimeoutMs: 2_000 });
  const writer = await LogWriter.open(log);
  await log.read(genesis, 1);
  const commandId = aCommandId();
  await server.pause();
  try {
    const [append, read] = await Promise.all([
      writer.append([{ commandId, events: [aSession()] }]),
      log.read(genesis, 1).then(
        () => "answered",
        (error: unknown) => error,
      ),
    ]);
    assert.equal(append.type, "indeterminate");
    assert.ok(read instanceof LogUnavailableError);
    assert.equal((await writer.beat()).type, "unavailable");
    assert.equal((await openEpoch(log).catch((error) => error)) instanceof LogUnavailableError, true);
  } finally {
    await server.resume();
  }
  const next = await waitFor("the epoch to open", () => LogWriter.open(log).catch(() => undefined));
  // A write sent before the pause may arrive after the epoch has opened; then it is fenced. Either way there is one
  // outcome.
  const found = await log.findCommand(commandId);
  const again = await next.append([{ commandId, events: [aSession()] }]);
  assert.equal(again.type, found === undefined ? "appended" : "duplicate-command");
  assert.equal((await verifyLog(log)).type, "intact");
});

test("a leader paused while it opens an epoch does not block other brokers, and opens nothing when it resumes", async () => {
  const log = await store.open();
  using folder = new TemporaryFolder("stopped-opener");
  const stopped = await Child.start({
    command: process.execPath,
    args: [join(import.meta.dirname, "stopped-opener.ts"), store.connectionString, store.schema],
    logFile: join(folder.path, "output"),
  });
  await waitFor("the paused process to hold the head row", async () => {
    const rows = await store.sql(
      "select 1 from pg_stat_activity where state = 'idle in transaction' and application_name = 'cardea'",
    );
    return rows.length === 1;
  });
  const writer = await waitFor("the epoch to open", () => LogWriter.open(log).catch(() => undefined));
  assert.equal(writer.epoch, 1);
  stopped.signal("SIGCONT");
  await stopped.exited;
  assert.match(stopped.log(), /unavailable/);
  assert.equal((await writer.appendEach(aSession())).type, "appended");
  assert.equal((await verifyLog(log)).type, "intact");
});

test("a read-only server or an unsafe session setting is refused with the name of the host", async () => {
  const database = new URL(store.connectionString).pathname.slice(1);
  const refused = async (setting: string, pattern: RegExp): Promise<void> => {
    await store.sql(`alter database ${database} set ${setting}`);
    await assert.rejects(store.open(), (error: Error) => {
      assert.ok(error instanceof LogUnavailableError);
      assert.match(error.message, pattern);
      assert.match(error.message, /127\.0\.0\.1:\d+/);
      return true;
    });
    await store.sql(`alter database ${database} reset all`);
  };
  await refused("default_transaction_read_only = on", /read-only/);
  await refused("synchronous_commit = off", /synchronous_commit is off/);
  await refused("synchronous_commit = local", /synchronous_commit is local/);
  await refused("synchronous_commit = remote_write", /synchronous_commit is remote_write/);
  await store.open();
});

test("on open connections too, writes are refused when the server becomes read-only or its sessions unsafe", async () => {
  const log = await store.open();
  const writer = await LogWriter.open(log);
  await store.sql("alter system set synchronous_commit = off");
  await store.sql("select pg_reload_conf()");
  try {
    await waitFor("the refusal", async () => (await writer.beat()).type === "unavailable");
    assert.equal((await writer.appendEach(aSession())).type, "unavailable");
    const lax = await store.open({ asynchronousCommit: "accept" });
    assert.equal((await LogWriter.open(lax)).epoch, 2);
  } finally {
    await store.sql("alter system reset synchronous_commit");
    await store.sql("select pg_reload_conf()");
  }
  await store.sql("alter system set default_transaction_read_only = on");
  await store.sql("select pg_reload_conf()");
  try {
    await waitFor("the refusal", async () => (await writer.beat()).type === "unavailable");
  } finally {
    await store.sql("alter system reset default_transaction_read_only");
    await store.sql("select pg_reload_conf()");
    await waitFor("the server to be writable", async () => (await writer.beat()).type === "fenced");
  }
});

test("a newer schema is refused with both versions named, at opening and on later connections", async () => {
  const log = await store.open({ readersMax: 1 });
  await LogWriter.open(log);
  await store.sql(`insert into ${store.schema}.schema_version (version) values (99)`);
  await assert.rejects(store.open(), (error: Error) => {
    assert.ok(error instanceof LogRefusedError);
    const known = postgresMigrations(store.schema).length;
    assert.match(error.message, new RegExp(`version 99.*versions up to ${known}`));
    return true;
  });
  await store.sql(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cardea' and datname = current_database()",
  );
  await waitFor("the refusal", async () => {
    const error = await log.read(genesis, 1).catch((caught: unknown) => caught);
    return error instanceof LogRefusedError;
  });
  const outcome = await openEpoch(log).catch((error: unknown) => error);
  assert.ok(outcome instanceof LogRefusedError);
});

test("a newer schema is used if it declares that it works with this build; without a declaration its version decides", async () => {
  const known = postgresMigrations(store.schema).length;
  const before = await store.open({ readersMax: 1 });
  await LogWriter.open(before);
  await store.sql(`alter table ${store.schema}.event add column note text`);
  await store.sql(`insert into ${store.schema}.schema_version (version, works_with) values (${known + 1}, ${known})`);
  const log = await store.open();
  const writer = await LogWriter.open(log);
  assert.equal((await writer.appendEach(aSession())).type, "appended");
  assert.equal((await writer.beat()).type, "beaten");
  await store.sql(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cardea' and datname = current_database()",
  );
  await waitFor("reads of the log opened earlier", async () => {
    const outcome = await before.read(genesis, 10).catch(() => undefined);
    return outcome?.type === "page" && outcome.page.entries.length === 3;
  });
  await store.sql(
    `insert into ${store.schema}.schema_version (version, works_with) values (${known + 2}, ${known + 1})`,
  );
  await assert.rejects(store.open(), /was migrated by a newer build/);
  await store.sql(`delete from ${store.schema}.schema_version where version > ${known}`);
  await store.sql(`alter table ${store.schema}.schema_version drop column works_with`);
  assert.equal((await LogWriter.open(await store.open())).epoch, 3);
});

test("a log of the previous schema version is migrated with its content", async () => {
  const before = await store.open();
  const first = await LogWriter.open(before);
  await first.appendEach(aSession());
  await first.beat();
  const { head } = first;
  await store.sql(`drop table ${store.schema}.configuration`);
  await store.sql(`drop function ${store.schema}.put_configurations`);
  await store.sql(`drop table ${store.schema}.epoch_mark`);
  await store.sql(`drop function ${store.schema}.system_identifier`);
  await store.sql(`drop table ${store.schema}.admitted_node`);
  await store.sql(`drop function ${store.schema}.note_nodes`);
  for (const column of ["pg_system", "pg_start", "pg_xact", "window_max_ms"])
    await store.sql(`alter table ${store.schema}.log_epoch drop column ${column}`);
  await store.sql(`delete from ${store.schema}.schema_version where version >= 3`);
  const log = await store.open();
  assert.deepEqual((await log.observe()).head, head);
  const writer = await LogWriter.open(log);
  const configurations = [aConfiguration("{}")];
  assert.equal((await writer.append([{ events: [aSession()] }], { configurations })).type, "appended");
  assert.equal((await log.configurations()).length, 1);
});

test("another cluster's log is refused", async () => {
  await store.open();
  await assert.rejects(store.open({ cluster: "other" }), (error: Error) => {
    assert.ok(error instanceof LogRefusedError);
    assert.match(error.message, /cluster "test", not of "other"/);
    return true;
  });
});

test("concurrent migrations create one schema", async () => {
  const logs = await Promise.all(Array.from({ length: 6 }, () => store.open()));
  const rows = await store.sql(`select version from ${store.schema}.schema_version order by version`);
  const each = postgresMigrations(store.schema).map((_, i) => ({ version: i + 1 }));
  assert.deepEqual(rows, each);
  const writer = await LogWriter.open(logs[3] as EventLog);
  assert.equal((await writer.appendEach(aSession())).type, "appended");
});

test("partitions are created ahead of need, and a lock on the table does not stop appends while there is room", async () => {
  const log = await store.open({ writeTimeoutMs: 6_000 });
  await store.sql(`update ${store.schema}.log_head set partition_size = 40`);
  const writer = await LogWriter.open(log);
  for (let i = 0; i < 25; i++) {
    const outcome = await writer.appendEach(...Array.from({ length: 7 }, () => aSession()));
    assert.equal(outcome.type, "appended");
  }
  const partitionedTo = async () =>
    Number((await store.sql(`select partitioned_to from ${store.schema}.log_head`))[0]?.["partitioned_to"]);
  assert.ok((await partitionedTo()) > writer.head.position);
  const parts = await store.sql(
    "select inhrelid::regclass::text as part from pg_inherits where inhparent = $1::regclass",
    [`${store.schema}.event`],
  );
  assert.ok(parts.length >= 5);
  assert.equal((await verifyLog(log)).type, "intact");

  const holder = new pg.Client({ connectionString: store.connectionString });
  await holder.connect();
  await holder.query(`begin; lock table ${store.schema}.event in share update exclusive mode`);
  const room = (await partitionedTo()) - 1 - writer.head.position;
  for (let i = 0; i < room; i++) assert.equal((await writer.appendEach(aSession())).type, "appended");
  // Without room an append is refused as unavailable. Nothing is lost, and appends succeed once the lock is gone.
  assert.equal((await writer.appendEach(aSession())).type, "unavailable");
  await holder.query("rollback");
  await holder.end();
  assert.equal((await writer.appendEach(aSession())).type, "appended");
});

test("a reader behind retention learns where the log starts; a reader at a hole learns that the log is damaged", async () => {
  const log = await store.open();
  await store.sql(`update ${store.schema}.log_head set partition_size = 10`);
  const writer = await LogWriter.open(log);
  const links: Link[] = [writer.head];
  for (let i = 0; i < 25; i++) {
    await writer.appendEach(aSession());
    links.push(writer.head);
  }
  await writer.beat();
  const { epoch, incarnation } = writer;
  const retained = await waitFor("both partitions to be gone", async () => {
    const outcome = await log.retain({ epoch, incarnation, first: 23 as Position });
    return outcome.type === "retained" && !outcome.more ? outcome : undefined;
  });
  assert.deepEqual(retained.base, links[18]);
  const dropped = await store.sql("select to_regclass($1) as a, to_regclass($2) as b", [
    `${store.schema}.event_0`,
    `${store.schema}.event_10`,
  ]);
  assert.deepEqual(dropped, [{ a: null, b: null }]);
  assert.deepEqual(await log.read(genesis, 5), { type: "truncated", first: 20 });
  assert.deepEqual(await log.read(links[4] as Link, 5), { type: "truncated", first: 20 });
  assert.equal(await log.linkAt(5 as Position), undefined);
  const outcome = await log.read(links[19] as Link, 3);
  assert.ok(outcome.type === "page" && outcome.page.entries.length === 3);
  await store.sql(`delete from ${store.schema}.event where pos = 23`);
  const short = await log.read(links[19] as Link, 10);
  assert.ok(short.type === "page" && short.page.last.position === 22, "a page ends before a hole");
  await assert.rejects(log.read(short.page.last, 10), LogDamagedError);
});

test("among several hosts, the log finds the one that accepts writes", {
  timeout: 120_000,
}, async () => {
  await using another = await startPostgres();
  const password = new URL(store.connectionString).password;
  const database = new URL(store.connectionString).pathname;
  // Both servers have the same user, password and database. The log is on the first.
  await withClient(another.connectionString(), async (client) => {
    await client.query(`alter role postgres password '${password}'`);
    await client.query(`create database ${database.slice(1)}`);
    await client.query(`alter database ${database.slice(1)} set default_transaction_read_only = on`);
  });
  const connectionString = `postgres://postgres:${password}@127.0.0.1:1,127.0.0.1:${another.port},127.0.0.1:${server.port}${database}`;
  await assert.rejects(store.open({ connectionString }), /no log is|no log yet/);
  await store.open(); // the log is created with one server named
  const log = await store.open({ connectionString });
  const writer = await LogWriter.open(log);
  assert.equal((await writer.appendEach(aSession())).type, "appended");
  const [row] = await store.sql(`select max(pos) as pos from ${store.schema}.event`);
  assert.equal(Number(row?.["pos"]), 2);
});

test("no password appears in an error, an outcome or a log line", async () => {
  const lines: string[] = [];
  const logger = {
    info: (facts: object, message: string) => void lines.push(JSON.stringify(facts) + message),
    warn: (facts: object, message: string) => void lines.push(JSON.stringify(facts) + message),
  };
  const secret = "s3cr3t-w0rd";
  const wrong = [
    store.connectionString.replace(/:[^:@]+@/, `:${secret}@`),
    `postgres://user:${secret}@127.0.0.1:1/db`,
    `postgres://user:${secret}@nowhere.invalid/db`,
    `postgres://user:${secret}@bad host/db`,
    `mysql://user:${secret}@127.0.0.1/db`,
    `postgres://user:${secret}@`,
    secret,
  ];
  for (const connectionString of wrong) {
    const error = await openPostgresLog({ connectionString, cluster: "test", connectTimeoutMs: 500, logger }).catch(
      (e: unknown) => e,
    );
    assert.ok(error instanceof LogUnavailableError || error instanceof LogRefusedError, String(error));
    assert.ok(!deepText(error).includes(secret), connectionString);
  }
  const log = await store.open({ logger });
  await LogWriter.open(log);
  assert.ok(lines.length > 0);
  assert.ok(!lines.join().includes(new URL(store.connectionString).password));
});

test("large groups and commands without events fit in one append", async () => {
  const log = await store.open();
  const writer = await LogWriter.open(log);
  const drafts = Array.from({ length: 512 }, (_, i) => ({
    events:
      i % 3 === 0 ? [] : [{ type: "GroupUpserted", groupId: `g${i % 50}` as GroupId, name: "x".repeat(500) } as const],
  }));
  assert.equal((await writer.append(drafts)).type, "appended");
  const big = await writer.appendEach(aSession({ profile: Buffer.alloc(5_000_000) }));
  assert.equal(big.type, "appended");
  assert.equal((await verifyLog(log)).type, "intact");
  assert.equal((await log.observe()).epoch, 1 as Epoch);
});

/** Everything that an inspection prints, including the causes. */
function deepText(value: unknown): string {
  const seen: string[] = [];
  for (let each = value; each !== undefined && each !== null; each = (each as { cause?: unknown }).cause) {
    seen.push(String((each as Error).stack ?? each), JSON.stringify(each, Object.getOwnPropertyNames(each)));
  }
  return seen.join("\n");
}
