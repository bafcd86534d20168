/** Whoever runs the build before a step of the schema goes on behind it: what was upgraded can be taken back. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isTooNew, type Migration } from "../../../src/replication/log/migrations/migration.ts";
import { postgresMigrations } from "../../../src/replication/log/migrations/postgres-migrations.ts";
import { sqliteMigrations } from "../../../src/replication/log/migrations/sqlite-migrations.ts";

/** Before the first release nobody had a build to go back to. */
const firstReleased = 2;
const stores: readonly (readonly [string, readonly Migration[]])[] = [
  ["Postgres", postgresMigrations("cardea")],
  ["SQLite", sqliteMigrations],
];

for (const [store, steps] of stores) {
  test(`no step of ${store} shuts out the build of the version before`, () => {
    for (const [index, { worksWith }] of steps.entries()) {
      const version = index + 1;
      assert.ok(worksWith <= (version > firstReleased ? version - 1 : version), `step ${version}`);
      assert.ok(worksWith >= (steps[index - 1]?.worksWith ?? 1), `step ${version} cannot bring builds back`);
    }
  });
}

test("a store is too new for a build that knows neither its version nor one that works with it", () => {
  const judged = [1, 2, 3, 4, 5].map((known) => isTooNew({ version: 4, worksWith: 3 }, known));
  assert.deepEqual(judged, [true, true, false, false, false]);
});
