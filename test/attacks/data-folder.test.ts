/** File modes in a data folder, which an operator may have created with any mode. */
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { BootId, NodeId } from "../../src/events/index.ts";
import { lockDataFolder } from "../../src/replication/node/data-folder-lock.ts";

test("other users of the machine cannot read a node's files, so they cannot lock its lock file and keep it from starting", (t) => {
  const dataDir = mkdtempSync(join(tmpdir(), "cardea-folder-"));
  t.after(() => rmSync(dataDir, { recursive: true, force: true }));
  chmodSync(dataDir, 0o755);
  lockDataFolder({ dataDir, node: "node-2" as NodeId }).release();
  chmodSync(join(dataDir, "node-node-2.sqlite"), 0o644); // as an older version left it
  t.after(() => before.release());
  const before = lockDataFolder({ dataDir, node: "node-2" as NodeId });

  const lock = lockDataFolder({ dataDir, node: "node-1" as NodeId });
  t.after(() => lock.release());
  lock.record("5aafa349-5324-4024-b0c7-47b6bdd242aa" as BootId, new Uint8Array(32));

  const files = readdirSync(dataDir);
  assert.ok(files.length > 0);
  for (const file of files) assert.equal(statSync(join(dataDir, file)).mode & 0o077, 0, file);
});
