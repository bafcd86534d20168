/** Opening a SQLite log file: the settings on which the durability of a commit depends. */
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openSqliteFile } from "../../../../src/replication/log/sqlite/file.ts";
import { TemporaryFolder } from "../../../support/child.ts";

test("a file log is flushed to disk with every commit, keeps its WAL, and belongs to one process", () => {
  using folder = new TemporaryFolder("sqlite-file");
  const path = join(folder.path, "data", "cardea.db");
  const db = openSqliteFile({ path, cluster: "test", lockTimeoutMs: 100 }, Date.now);
  try {
    const pragma = (name: string): unknown => Object.values(db.prepare(`pragma ${name}`).get() ?? {})[0];
    assert.equal(pragma("synchronous"), 2, "FULL: in WAL mode, NORMAL loses commits in a power cut");
    assert.equal(pragma("journal_mode"), "wal");
    assert.equal(pragma("fullfsync"), 1);
    assert.equal(pragma("checkpoint_fullfsync"), 1);
    assert.equal(pragma("locking_mode"), "exclusive");
    assert.equal(pragma("secure_delete"), 1);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.throws(
      () => openSqliteFile({ path, cluster: "test", lockTimeoutMs: 50 }, Date.now),
      /locked|another process/i,
    );
  } finally {
    db.close();
  }
});
