/**
 * Durability reports of the Postgres log, on a primary with one standby, while `synchronous_standby_names` is emptied
 * and set again.
 *
 * - A commit that Postgres released early, without a warning, is never reported as synchronous.
 * - A failover loses nothing that was reported as synchronous.
 */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import type { Link } from "../../src/events/index.ts";
import { type EventLog, openPostgresLog } from "../../src/replication/log/index.ts";
import { aSession, LogWriter } from "../support/log-writer.ts";
import { findPostgresBinaries, startPostgres } from "../support/postgres.ts";
import { withClient } from "../support/postgres-client.ts";
import { type PostgresStandby, startStandby } from "../support/postgres-standby.ts";
import type { PostgresServer } from "../support/service.ts";
import { waitFor } from "../support/wait-for.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
const names = "ANY 1 (standby)";
let primary: PostgresServer;
let standby: PostgresStandby;
let database: string;

before(
  async () => {
    if (skip !== false) return;
    primary = await startPostgres();
    standby = await startStandby(primary);
  },
  { timeout: 120_000 },
);
after(async () => {
  await standby?.stop();
  await primary?.stop();
});
beforeEach(async () => {
  if (skip !== false) return;
  database = new URL(await primary.newDatabase()).pathname.slice(1);
  await setNames(names);
  await standbyIsCounted();
});

const sql = (text: string): Promise<Record<string, unknown>[]> =>
  withClient(primary.connectionString(database), async (client) => (await client.query(text)).rows);
/** Returns at once. Each process of the server reads the new value in its own time. */
const setNames = async (value: string): Promise<void> => {
  await sql(`alter system set synchronous_standby_names = '${value}'`);
  await sql("select pg_reload_conf()");
};
const standbyIsCounted = (): Promise<unknown> =>
  waitFor("the standby to be counted", async () => {
    const rows = await sql("select 1 from pg_stat_replication where sync_state = 'quorum' and state = 'streaming'");
    return rows.length === 1;
  });
const commitWaits = (): Promise<unknown> =>
  waitFor("a commit to wait for the standby", async () => {
    const rows = await sql("select 1 from pg_stat_activity where wait_event = 'SyncRep'");
    return rows.length > 0;
  });
const isSynchronous = (log: EventLog, link: Link, what: string): Promise<unknown> =>
  waitFor(what, async () => (await log.durabilityOf(link)) === "synchronous");
const open = (connectionString = primary.connectionString(database), logger?: Warnings): Promise<EventLog> =>
  openPostgresLog({ connectionString, cluster: "test", writeTimeoutMs: 30_000, ...(logger && { logger }) });

class Warnings {
  readonly all: string[] = [];
  info(): void {}
  warn(_: object, message: string): void {
    this.all.push(message);
  }
}

test("a commit that emptied names released is asynchronous, even after they are set again, until a standby has it", {
  skip,
  timeout: 120_000,
}, async () => {
  const warnings = new Warnings();
  const log = await open(undefined, warnings);
  const writer = await LogWriter.open(log);
  await writer.appendEach(aSession());
  const waited = writer.head;
  await isSynchronous(log, waited, "the commit that waited to be synchronous");

  await standby.pause(); // its connection stays and keeps its last position
  try {
    const released = writer.appendEach(aSession());
    await commitWaits();
    assert.doesNotMatch(warnings.all.join("\n"), /commits no longer wait/);
    await setNames("");
    assert.equal((await released).type, "appended", "no warning and no error shows that no standby has it");
    assert.equal(await log.durabilityOf(writer.head), "asynchronous");
    assert.equal(
      await log.durabilityOf(waited),
      "asynchronous",
      "without names no rule says which standby may be promoted",
    );
    assert.equal((await writer.beat()).type, "beaten");
    assert.match(warnings.all.join("\n"), /commits no longer wait for a synchronous standby/);

    await setNames(names);
    await waitFor("the names to be read", async () => (await sql("show synchronous_standby_names"))[0] !== undefined);
    await standbyIsCounted();
    assert.equal(
      await log.durabilityOf(writer.head),
      "asynchronous",
      "the names are back, but the standby has nothing",
    );
  } finally {
    await standby.resume();
  }
  await isSynchronous(log, writer.head, "the standby to have it");
  assert.equal((await writer.appendEach(aSession())).type, "appended");
  await isSynchronous(log, writer.head, "the next commit to be synchronous");
  await log.close();
});

test("names emptied and set again before any session reads them make no commit synchronous", {
  skip,
  timeout: 120_000,
}, async () => {
  const log = await open();
  const writer = await LogWriter.open(log);
  await standby.pause();
  try {
    const released = writer.appendEach(aSession());
    await commitWaits();
    const done = released.then(({ type }) => type);
    let outcome: string | undefined;
    void done.then((type) => {
      outcome = type;
    });
    // Repeats until the commit is released while the names are set. A session may see them set before and after.
    await waitFor("the commit to be released", async () => {
      await setNames("");
      await setNames(names);
      return outcome;
    });
    assert.equal(outcome, "appended");
    const [row] = await sql("show synchronous_standby_names");
    assert.equal(row?.["synchronous_standby_names"], names);
    assert.equal(await log.durabilityOf(writer.head), "asynchronous");
  } finally {
    await standby.resume();
  }
  await isSynchronous(log, writer.head, "the standby to have it");
  await log.close();
});

test("a role that cannot see the standbys' positions reports nothing as synchronous, and logs why", {
  skip,
  timeout: 60_000,
}, async () => {
  const log = await open();
  const writer = await LogWriter.open(log);
  const role = `reader_${database}`;
  await sql(`create role ${role} login password 'secret'`);
  await sql(`grant all on schema cardea to ${role}`);
  await sql(`grant all on all tables in schema cardea to ${role}`);
  const url = new URL(primary.connectionString(database));
  url.username = role;
  url.password = "secret";
  const warnings = new Warnings();
  const limited = await open(url.href, warnings);
  assert.equal(await limited.durabilityOf(writer.head), "asynchronous");
  assert.match(warnings.all.join("\n"), /grant pg_read_all_stats/);
  await sql(`grant pg_read_all_stats to ${role}`);
  await isSynchronous(limited, writer.head, "the role to see the standby");
  await Promise.all([log.close(), limited.close()]);
});

test("a failover to the standby loses no event reported as synchronous, and loses the commit that was released early", {
  skip,
  timeout: 120_000,
}, async () => {
  const log = await open();
  const writer = await LogWriter.open(log);
  const synchronous: Link[] = [];
  const all: Link[] = [];
  for (let i = 0; i < 5; i += 1) {
    await writer.appendEach(aSession());
    all.push(writer.head);
  }
  await isSynchronous(log, writer.head, "the standby to have all of it");
  const shared = [...all];
  await standby.detach();
  const released = writer.appendEach(aSession());
  await commitWaits();
  await setNames("");
  assert.equal((await released).type, "appended");
  all.push(writer.head);
  await setNames(names);
  // With the names set again, commits wait once more, from the moment when the server has read them. Nothing shows that
  // the others did not.
  let hanging = writer.appendEach(aSession());
  while ((await Promise.race([commitWaits().then(() => "waits"), hanging])) !== "waits") {
    all.push(writer.head);
    hanging = writer.appendEach(aSession());
  }
  for (const link of all) if ((await log.durabilityOf(link)) === "synchronous") synchronous.push(link);
  assert.ok(!synchronous.includes(writer.head));
  const lost = all.at(-1) ?? assert.fail();

  await primary.kill();
  assert.equal((await hanging).type, "indeterminate");
  await log.close();
  await standby.promote();
  const url = new URL(primary.connectionString(database));
  url.port = String(standby.port);
  const next = await open(url.href);
  await LogWriter.open(next); // the first commit there shows how far its log reaches
  for (const link of [...synchronous, ...shared])
    assert.deepEqual(await next.linkAt(link.position), link, "a synchronous event survives");
  assert.notDeepEqual(await next.linkAt(lost.position), lost);
  assert.equal(await next.durabilityOf(lost), "asynchronous", "an event that this server lacks is never synchronous");
  const [first] = all;
  assert.equal(await next.durabilityOf(first ?? assert.fail()), "asynchronous", "no standby follows the new primary");
  await next.close();
});
