/**
 * One process on a SQLite log that is replaced by an older copy.
 *
 * A revocation after the copy stays in force, since the node's own disk remembers it, and the log records it again. If
 * that disk is lost as well, so is the revocation.
 */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { decodeEvents, genesis, type NodeId, type SessionId, sessionStream } from "../../../src/events/index.ts";
import { openSqliteLog } from "../../../src/replication/log/index.ts";
import { createNodeSnapshots, startReplica } from "../../../src/replication/node/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { createBrokerOpener } from "../../../src/replication/wire/index.ts";
import { asked, brokerOn, cluster, createSession, quiet, random, revoke, secret } from "../../broker/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { waitFor } from "../../support/wait-for.ts";

async function start(path: string, deniedFile: string) {
  const log = await openSqliteLog({ path, cluster });
  const broker = brokerOn(log);
  const snapshots = createNodeSnapshots({
    supply: { manifest: async () => null, chunk: async () => undefined, keysAfter: async () => [] },
    open: createBrokerOpener({ cluster, secrets: [secret] }),
    ...{ logger: quiet, folder: null, deniedFile },
  });
  const replica = startReplica({
    ...{
      name: "proxy-1" as NodeId,
      role: "proxy",
      region: "here",
      version: "t",
    },
    ...{ configHash: () => "c", cluster, secret, databroker: broker.databroker("proxy"), fanout: null },
    ...{ clock: systemClock, randomBytes: random, logger: quiet, windowMs: () => 5_000, dataDir: null },
    ...{ snapshots, renewMs: 100, pollMs: 100 },
  });
  assert.ok(await replica.whenReady(60_000), replica.ready().reasons.join());
  return {
    log,
    replica,
    async submit(...commands: readonly Parameters<typeof asked>[0][]) {
      for (const command of commands) {
        const role = command.type === "revokeSession" ? "operator" : "authenticate";
        const result = await broker.databroker(role).submit(asked(command));
        assert.ok(result.type === "done", JSON.stringify(result));
        await waitFor("the node to apply it", () => replica.applied.position >= result.link.position);
      }
    },
    permits(name: string): boolean {
      const status = replica.projection.session(name as SessionId)?.status;
      return status === "active" && !replica.isDeniedLocally(sessionStream(name as SessionId));
    },
    async stop() {
      await replica.goodbye();
      await replica.stop();
      await broker.stop();
      await log.close();
    },
  };
}

test("a revocation on the node's own disk survives a log file replaced by an older copy, and the log records it again", {
  timeout: 200_000,
}, async (t) => {
  const folder = new TemporaryFolder("file-restored");
  t.after(() => folder.remove());
  const [path, copy, denied] = ["log.db", "copy.db", "denied"].map((name) => join(folder.path, name)) as [
    string,
    string,
    string,
  ];
  const first = await start(path, denied);
  await first.submit(createSession("kept", "alice"), createSession("late", "bob"));
  await first.stop();
  copyFileSync(path, copy);
  const second = await start(path, denied);
  await second.submit(revoke("late"));
  await waitFor("the revocation to be on the node's disk", () => existsSync(denied));
  await second.stop();

  copyFileSync(copy, path);
  for (const suffix of ["-wal", "-shm"]) rmSync(`${path}${suffix}`, { force: true });
  const third = await start(path, denied);
  assert.ok(third.permits("kept"));
  assert.ok(!third.permits("late"), "revoked after the copy");
  const isReasserted = () =>
    third.log.read(genesis, 1_000).then((read) => {
      assert.ok(read.type === "page");
      return decodeEvents(read.page.entries, genesis).some(
        ({ event }) => event.type === "SessionRevoked" && event.sessionId === "late" && event.reason === "reasserted",
      );
    });
  await waitFor("the log to hold the revocation again", async () => (await isReasserted()) || undefined, {
    withinMs: 20_000,
  });
  await third.stop();

  copyFileSync(copy, path);
  rmSync(denied);
  const fourth = await start(path, denied);
  assert.ok(fourth.permits("late"), "without the node's own disk the revocation is lost: docs/backup.md");
  await fourth.stop();
});
