/**
 * Everything in one process on a SQLite file that is put back to an older copy: what was revoked after the copy stays
 * denied, because the node's own disk remembers it, and is recorded in the log again. With that disk gone too, nobody
 * knows of it any more.
 */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { decodeEvents, genesis, type NodeId, type SessionId, sessionStream } from "../../../src/events/index.ts";
import {
  createBrokerOpener,
  createNodeSnapshots,
  openSqliteLog,
  startReplica,
  systemClock,
} from "../../../src/replication/index.ts";
import { asked, brokerOn, cluster, createSession, quiet, random, revoke, secret } from "../../broker/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { waitFor } from "../../support/wait-for.ts";

async function started(path: string, deniedFile: string) {
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
    async ask(...commands: readonly Parameters<typeof asked>[0][]) {
      for (const command of commands) {
        const role = command.type === "revokeSession" ? "operator" : "authenticate";
        const result = await broker.databroker(role).submit(asked(command));
        assert.ok(result.type === "done", JSON.stringify(result));
        await waitFor("it is applied", () => replica.applied.position >= result.link.position);
      }
    },
    permits(name: string): boolean {
      const standing = replica.projection.session(name as SessionId)?.status;
      return standing === "active" && !replica.isDeniedLocally(sessionStream(name as SessionId));
    },
    async stop() {
      await replica.goodbye();
      await replica.stop();
      await broker.stop();
      await log.close();
    },
  };
}

test("a file put back to an older copy revives nobody whose revocation this disk remembers, and the log holds it again", {
  timeout: 200_000,
}, async (t) => {
  const folder = new TemporaryFolder("file-restored");
  t.after(() => folder.remove());
  const [path, copy, denied] = ["log.db", "copy.db", "denied"].map((name) => join(folder.path, name)) as [
    string,
    string,
    string,
  ];
  const first = await started(path, denied);
  await first.ask(createSession("kept", "alice"), createSession("late", "bob"));
  await first.stop();
  copyFileSync(path, copy);
  const second = await started(path, denied);
  await second.ask(revoke("late"));
  await waitFor("the disk to know", () => existsSync(denied));
  await second.stop();

  copyFileSync(copy, path);
  for (const suffix of ["-wal", "-shm"]) rmSync(`${path}${suffix}`, { force: true });
  const third = await started(path, denied);
  assert.ok(third.permits("kept"));
  assert.ok(!third.permits("late"), "revoked after the copy");
  const reasserted = () =>
    third.log.read(genesis, 1_000).then((read) => {
      assert.ok(read.type === "page");
      return decodeEvents(read.page.entries, genesis).some(
        ({ event }) => event.type === "SessionRevoked" && event.sessionId === "late" && event.reason === "reasserted",
      );
    });
  await waitFor("the log to hold it again", async () => (await reasserted()) || undefined, { withinMs: 20_000 });
  await third.stop();

  copyFileSync(copy, path);
  rmSync(denied);
  const fourth = await started(path, denied);
  assert.ok(fourth.permits("late"), "with the node's own disk lost as well, nobody knows: docs/backup.md says so");
  await fourth.stop();
});
