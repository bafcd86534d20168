/**
 * The procedures of docs/operations.md, run from the page against a real process, twice each, with people signed in before, between and
 * after. Nobody who signed in after a restore is signed out by a later restart, and no revocation is undone.
 */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { commandsIn, patience, type Server, startServer } from "./procedures.ts";

const timeout = 1_800_000;

/** What a backup and a restore leave of people and of what was revoked. */
async function backedUpAndRestored(
  server: Server,
  { back, restore }: Readonly<{ back: () => Promise<void>; restore: () => Promise<void> }>,
  round: number,
): Promise<void> {
  const before = await server.signIn("alice");
  const kept = await server.signIn("erin");
  const suspended = await server.signIn(`carol-${round}`);
  await back();
  assert.ok(await before.isIn(), "a backup signs nobody out");
  const between = await server.signIn("bob");
  await server.cardea("sessions", "revoke", "--user", "alice");
  await server.cardea("users", "suspend", suspended.name);
  await waitFor("both to be denied", async () => !(await before.isIn()) && !(await suspended.isIn()), patience);

  await restore();
  assert.ok(await kept.isIn(), "a session from before the backup");
  assert.ok(!(await before.isIn()), "revoked after the backup");
  assert.ok(!(await suspended.isIn()), "suspended after the backup");
  assert.ok(!(await between.isIn()), "begun after the backup");
  const after = [await server.signIn("alice"), await server.signIn("bob")];
  const isSuspended = async (): Promise<boolean> => {
    const users = JSON.parse(await server.cardea("users", "list", "--json")) as unknown;
    return JSON.stringify(users).includes('"suspended"');
  };
  await waitFor("the log to hold the suspension again", isSuspended, patience);
  await server.cardea("users", "restore", suspended.name);
  after.push(await server.signIn(suspended.name));

  let reasserted: number | undefined;
  for (const restart of [1, 2]) {
    await server.stop();
    const now = await server.reasserted();
    assert.ok(now > 0);
    assert.equal(now, reasserted ?? now, "nothing is recorded again by a restart");
    reasserted = now;
    await server.start();
    for (const person of [...after, kept])
      assert.ok(await person.isIn(), `${person.name} stays signed in over restart ${restart}`);
    for (const person of [before, suspended, between]) assert.ok(!(await person.isIn()), `${person.name} stays out`);
  }
}

test("a log in a file, backed up and restored twice", { timeout }, async (t) => {
  const [backup = "", restore = ""] = commandsIn("**A log in a file.**", 2);
  const server = await startServer(t, { databroker_storage_type: "file" });
  for (const round of [1, 2]) {
    const folder = join(server.folder, `backup-${round}`);
    mkdirSync(folder);
    const env = { DATA: server.dataDir, BACKUP: folder };
    const back = (): Promise<void> => server.perform(backup, env);
    await backedUpAndRestored(server, { back, restore: () => server.perform(restore, env) }, round);
  }
});
