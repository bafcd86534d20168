/**
 * The Postgres log over a failover to a synchronous standby.
 *
 * - No acknowledged event is lost, and the log finds the new primary.
 * - No commit succeeds on an old primary that returns.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type CommandId, type Epoch, genesis, type Position } from "../../src/events/index.ts";
import { openPostgresLog, verifyLog } from "../../src/replication/log/index.ts";
import { aCommandId, aSession, LogWriter, openEpochRequest } from "../support/log-writer.ts";
import { findPostgresBinaries, startPostgres } from "../support/postgres.ts";
import { withClient } from "../support/postgres-client.ts";
import { startStandby } from "../support/postgres-standby.ts";
import { waitFor } from "../support/wait-for.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;

test("a failover to a synchronous standby loses nothing that was acknowledged", {
  skip,
  timeout: 240_000,
}, async () => {
  await using primary = await startPostgres();
  await using standby = await startStandby(primary);
  const sql = (port: number, text: string) => {
    const url = new URL(primary.connectionString());
    url.port = String(port);
    return withClient(url.href, async (client) => (await client.query(text)).rows);
  };
  const before = await openPostgresLog({ connectionString: primary.connectionString(), cluster: "test" });
  const early = await LogWriter.open(before);
  await early.appendEach(aSession());
  assert.equal(await before.durabilityOf(early.head), "asynchronous", "a standby follows, but no commit waits for it");
  await sql(primary.port, "alter system set synchronous_standby_names = '*'");
  await sql(primary.port, "select pg_reload_conf()");
  await waitFor("a synchronous commit", async () => {
    await early.beat();
    return (await before.durabilityOf(early.head)) === "synchronous";
  });
  await before.close();
  await waitFor("synchronous replication", async () => {
    const [row] = await sql(primary.port, "select sync_state from pg_stat_replication");
    return row?.["sync_state"] === "sync";
  });

  const hosts = new URL(primary.connectionString());
  const connectionString = hosts.href.replace(hosts.host, `${hosts.host},127.0.0.1:${standby.port}`);
  // The time-out is short for writes that are never acknowledged, and long for writes that must be.
  const options = { connectionString, cluster: "test", connectTimeoutMs: 2_000, writeTimeoutMs: 3_000 };
  const log = await openPostgresLog({ ...options, writeTimeoutMs: 30_000 });
  const writer = await LogWriter.open(log);
  const acknowledged = new Set<CommandId>();
  const sent: CommandId[] = [];
  const writing = (async () => {
    for (;;) {
      const commandId = aCommandId();
      sent.push(commandId);
      const outcome = await writer.append([{ commandId, events: [aSession()] }]);
      if (outcome.type !== "appended") return outcome.type;
      acknowledged.add(commandId);
    }
  })();
  await waitFor("some appends", () => acknowledged.size > 30);
  assert.equal(await log.durabilityOf((await log.linkAt(2 as Position)) ?? assert.fail()), "synchronous");

  await primary.kill();
  assert.match(await writing, /indeterminate|unavailable/);
  await standby.promote();
  await sql(standby.port, "alter system set synchronous_standby_names = ''");
  await sql(standby.port, "select pg_reload_conf()");

  const next = await waitFor("an epoch on the new primary", () => LogWriter.open(log).catch(() => undefined));
  assert.equal(next.epoch, 3);
  for (const commandId of acknowledged) assert.equal((await log.findCommand(commandId))?.count, 1);
  assert.equal((await verifyLog(log)).type, "intact");
  await next.appendEach(aSession());
  await next.beat();
  assert.equal(await log.durabilityOf(next.head), "asynchronous", "the new primary has no standby");
  const timelines = await sql(standby.port, "select pg_timeline from cardea.log_epoch order by epoch");
  assert.deepEqual(
    timelines,
    ["00000001", "00000001", "00000002"].map((pg_timeline) => ({ pg_timeline })),
  );

  // The old primary returns: writable, with all its settings, but without a standby.
  await primary.start();
  const stale = await openPostgresLog({ ...options, connectionString: primary.connectionString() });
  const [, staleEpoch] = await Promise.all([stale.read(genesis, 1_000), stale.openEpoch(openEpochRequest(2 as Epoch))]);
  assert.equal(staleEpoch.type, "indeterminate", "the old primary acknowledges no commit");
  const old = writer.fork(stale);
  assert.notEqual((await old.appendEach(aSession())).type, "appended");
  assert.notEqual((await old.beat()).type, "beaten");
  await stale.close();

  // A broker that tries the old primary first moves on after a write that it does not acknowledge.
  const confused = await openPostgresLog(options);
  const third = await waitFor(
    "the right primary",
    async () => {
      const { epoch } = await confused.observe();
      const outcome = await confused.openEpoch(openEpochRequest(epoch));
      return outcome.type === "opened" ? outcome : undefined;
    },
    { withinMs: 20_000 },
  );
  assert.equal(third.epoch, 4);
  assert.deepEqual((await confused.observe()).head, third.head, "reads follow the writer to the new primary");
  assert.equal((await verifyLog(confused)).type, "intact");
  assert.deepEqual(await next.beat(), { type: "fenced", epoch: 4 });
  await Promise.all([log.close(), confused.close()]);
});
