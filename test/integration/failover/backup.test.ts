/**
 * Backups of the whole log, restored: a base backup with WAL to a point in time, a dump, and a copied file.
 *
 * A restored log opens an epoch above all that any node has seen. Changes that nodes had applied and the log lacks are
 * detected, and no revocation among them is undone.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { promisify } from "node:util";
import {
  configTextOf,
  decodeEvents,
  genesis,
  type Link,
  type NodeId,
  type Recorded,
  type StoredConfiguration,
  sameLink,
} from "../../../src/events/index.ts";
import { type EventLog, openPostgresLog, openSqliteLog, verifyLog } from "../../../src/replication/log/index.ts";
import { asked, brokerOn, cluster, createSession, revoke } from "../../broker/support.ts";
import { aConfiguration } from "../../contract/configurations.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { type ArchivedPostgres, startArchivedPostgres } from "../../support/postgres-backup.ts";
import { withClient } from "../../support/postgres-client.ts";
import { waitFor } from "../../support/wait-for.ts";
import { InProcessCluster, submitCommand, type TestBroker, type TestNode, waitToLead } from "./in-process.ts";

const skip = findPostgresBinaries() === undefined ? "a backup needs local binaries of Postgres" : false;
const run = promisify(execFile);
let postgres: ArchivedPostgres;
let database: string;
let testCluster: InProcessCluster;

beforeEach(async () => {
  if (skip !== false) return;
  postgres = await startArchivedPostgres();
  database = await postgres.newDatabase();
  testCluster = new InProcessCluster(database);
});
afterEach(async () => {
  await testCluster?.stop();
  await postgres?.stop();
});

async function submit(member: TestBroker, command: Parameters<typeof asked>[0]): Promise<Link> {
  return (await submitCommand(member, command)).link;
}

async function activateConfiguration(member: TestBroker, { configHash, body }: StoredConfiguration): Promise<void> {
  const command = { type: "activateConfiguration", nodeId: "proxy-1" as NodeId, configHash, body } as const;
  const result = await member.broker.databroker("proxy").submit(asked(command));
  assert.equal(result.type, "done");
}

async function untilApplied(node: TestNode, link: Link): Promise<void> {
  await waitFor("the node to apply it", () => node.replica.applied.position >= link.position, { withinMs: 20_000 });
}

async function eventsOf(log: EventLog): Promise<Recorded[]> {
  const read = await log.read(genesis, 10_000);
  assert.ok(read.type === "page");
  return [...decodeEvents(read.page.entries, genesis)];
}

/** The same database on another server. */
function at(server: string): string {
  const url = new URL(server);
  url.pathname = new URL(database).pathname;
  return url.href;
}

test("a log restored to a point in time leads in a new epoch, answers lost to old receipts, and regains the revocations that nodes had applied", {
  skip,
  timeout: 360_000,
}, async (t) => {
  const first = await testCluster.broker("broker-1");
  await waitToLead(first);
  const node = await testCluster.node("proxy-1", [first]);
  await submit(first, createSession("kept", "alice"));
  await submit(first, createSession("early", "bob"));
  await submit(first, revoke("early"));
  const configuration = aConfiguration('{"region":"before the backup"}');
  const during = aConfiguration('{"region":"before noon"}');
  const afterNoon = aConfiguration('{"region":"after noon"}');
  await activateConfiguration(first, configuration);
  const backup = await postgres.baseBackup();
  await activateConfiguration(first, during);
  await submit(first, createSession("late", "carol"));
  await untilApplied(node, await submit(first, createSession("between", "erin")));
  await postgres.restorePoint("noon");

  // After noon there are more epochs, a revocation that the node has applied, and a session.
  await first.crash();
  const second = await testCluster.broker("broker-2");
  await waitToLead(second);
  node.relay.setTargets([second.port]);
  const revoked = await submit(second, revoke("late"));
  await activateConfiguration(second, afterNoon);
  await second.crash();
  const third = await testCluster.broker("broker-3");
  await waitToLead(third);
  node.relay.setTargets([third.port]);
  const lateSession = await submit(third, createSession("gone", "dave"));
  await untilApplied(node, lateSession);
  assert.ok(!node.permits("late"));
  await waitFor("the node to permit", () => node.permits("kept") && node.permits("gone"), { withinMs: 20_000 });
  await third.crash();
  await postgres.kill();

  const restored = await postgres.restored(backup, "noon");
  const before = await openPostgresLog({ connectionString: at(restored.connectionString), cluster });
  const verdict = await verifyLog(before);
  assert.equal(verdict.type, "intact");
  assert.ok(
    (await before.linkAt(revoked.position))?.hash !== revoked.hash,
    "the restored log holds no event from after noon",
  );
  assert.ok(await before.configuration(configuration.configHash));
  assert.ok(
    await before.configuration(during.configHash),
    "a configuration written after the backup and before noon is restored",
  );
  assert.equal(await before.configuration(afterNoon.configHash), undefined);
  await before.close();

  const fourth = await testCluster.broker("broker-4", { connectionString: at(restored.connectionString) });
  node.relay.setTargets([fourth.port]);
  await waitToLead(fourth);
  await waitFor(
    "the node to follow the restored log",
    async () => {
      const here = await fourth.log.linkAt(node.replica.applied.position);
      return node.replica.ready().ready && here !== undefined && sameLink(here, node.replica.applied);
    },
    { withinMs: 60_000 },
  );
  const status = await fourth.broker.databroker("operator").status();
  t.diagnostic(`lost epoch ${lateSession.epoch}, restored log leads in epoch ${status.leader?.epoch}`);
  assert.ok(
    (status.leader?.epoch ?? 0) > lateSession.epoch,
    "the new epoch is above the one that the node knew from the lost history",
  );

  await waitFor("the sessions from before noon to be permitted", () => node.permits("kept") && node.permits("between"));
  assert.ok(!node.permits("early"), "revoked before the backup");
  assert.ok(!node.permits("late"), "revoked after noon, and the node had applied it");
  assert.ok(!node.permits("gone"), "created after noon");
  await waitFor(
    "the lost revocation to be in the log again",
    async () =>
      (await eventsOf(fourth.log)).some(
        ({ event }) => event.type === "SessionRevoked" && event.sessionId === "late" && event.reason === "reasserted",
      ),
    { withinMs: 20_000 },
  );
  const newcomer = await testCluster.node("proxy-2", [fourth]);
  await waitFor("another node to serve", () => newcomer.permits("kept"), { withinMs: 20_000 });
  assert.ok(!newcomer.permits("late"), "a node that never held the revocation denies too");
  const receipt = await fourth.broker
    .databroker("operator")
    .receipt({ type: "link", link: revoked }, { wait: "all", timeoutMs: 0 });
  assert.deepEqual([receipt.status, receipt.complete], ["lost", false]);
  assert.equal((await verifyLog(fourth.log)).type, "intact");
});

test("a dump restored into another database holds the whole log and opens a new epoch", {
  skip,
  timeout: 240_000,
}, async () => {
  const first = await testCluster.broker("broker-1");
  await waitToLead(first);
  await submit(first, createSession("kept", "alice"));
  await submit(first, createSession("early", "bob"));
  const configuration = aConfiguration('{"region":"dumped"}');
  await activateConfiguration(first, configuration);
  const last = await submit(first, revoke("early"));
  const folder = new TemporaryFolder("dump");
  const dump = join(folder.path, "log.dump");
  await run(join(postgres.binaries, "pg_dump"), ["-Fc", "-f", dump, database]);
  await first.crash();
  const other = await postgres.newDatabase();
  await run(join(postgres.binaries, "pg_restore"), ["-d", other, "--no-owner", dump]);
  folder.remove();
  const second = await testCluster.broker("broker-2", { connectionString: other });
  await waitToLead(second);
  assert.equal((await verifyLog(second.log)).type, "intact");
  assert.ok(sameLink((await second.log.linkAt(last.position)) ?? genesis, last));
  const stored = await second.broker.databroker("operator").configuration(configuration.configHash);
  assert.equal(stored && configTextOf(stored.body), '{"region":"dumped"}');
  const next = await submit(second, createSession("next", "carol"));
  assert.ok(next.epoch > last.epoch);
  const node = await testCluster.node("proxy-1", [second]);
  await waitFor("a node to serve", () => node.permits("kept"), { withinMs: 20_000 });
  assert.ok(!node.permits("early"));
  await withClient(other, (client) => client.query("select 1"));
});

test("a log file replaced by an older copy is the log of that time, and the next writer opens a new epoch", {
  timeout: 120_000,
}, async () => {
  const folder = new TemporaryFolder("file-backup");
  const [path, copy] = [join(folder.path, "log.db"), join(folder.path, "copy.db")];
  const submitAndClose = async (log: EventLog, commands: readonly Parameters<typeof asked>[0][]): Promise<Link> => {
    const broker = brokerOn(log);
    await waitFor("the broker to lead", () => broker.leading());
    let link: Link = genesis;
    for (const command of commands) {
      const role = command.type === "revokeSession" ? "operator" : "authenticate";
      const result = await broker.databroker(role).submit(asked(command));
      assert.ok(result.type === "done", JSON.stringify(result));
      link = result.link;
    }
    await broker.stop();
    await log.close();
    return link;
  };
  const last = await submitAndClose(await openSqliteLog({ path, cluster }), [
    createSession("kept", "alice"),
    createSession("early", "bob"),
    revoke("early"),
  ]);
  copyFileSync(path, copy);
  const lostRevocation = await submitAndClose(await openSqliteLog({ path, cluster }), [revoke("kept")]);
  copyFileSync(copy, path);
  const log = await openSqliteLog({ path, cluster });
  assert.ok(sameLink((await log.linkAt(last.position)) ?? genesis, last));
  assert.equal((await verifyLog(log)).type, "intact");
  const next = await submitAndClose(log, [createSession("next", "carol")]);
  assert.ok(next.epoch > last.epoch);
  assert.notEqual(next.hash, lostRevocation.hash);
  folder.remove();
});
