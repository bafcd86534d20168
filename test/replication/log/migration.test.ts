/** Schema migrations: the previous build still works after a migration, so an upgrade can be rolled back. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isTooNew, type Migration } from "../../../src/replication/log/migrations/migration.ts";
import { postgresMigrations } from "../../../src/replication/log/migrations/postgres-migrations.ts";
import { sqliteMigrations } from "../../../src/replication/log/migrations/sqlite-migrations.ts";

/** The first schema version of a release. There is no earlier build to roll back to. */
const firstReleased = 2;
const stores: readonly (readonly [string, readonly Migration[]])[] = [
  ["Postgres", postgresMigrations("cardea")],
  ["SQLite", sqliteMigrations],
];

for (const [store, steps] of stores) {
  test(`no migration of ${store} locks out the previous build`, () => {
    for (const [index, { worksWith }] of steps.entries()) {
      const version = index + 1;
      assert.ok(worksWith <= (version > firstReleased ? version - 1 : version), `step ${version}`);
      assert.ok(worksWith >= (steps[index - 1]?.worksWith ?? 1), `step ${version} cannot admit builds again`);
    }
  });
}

test("a store is too new for a build that knows neither its version nor one that works with it", () => {
  const tooNew = [1, 2, 3, 4, 5].map((known) => isTooNew({ version: 4, worksWith: 3 }, known));
  assert.deepEqual(tooNew, [true, true, false, false, false]);
});
