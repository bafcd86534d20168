/**
 * Erasing a person in a real `cardea dev`: what the command says, what is on the disk afterwards, and what a copy of
 * the disk from before still holds.
 */
import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { startBrowser } from "../integration/cluster/browser.ts";
import { waitFor } from "../support/wait-for.ts";
import { startDev } from "./support.ts";

type User = Readonly<{ id: string; email: string; name: string }>;

const personal = ["bob@example.com", "Bob Baker"];

/** Files below a folder that hold a text in clear. The demo identity provider has data of its own. */
function filesWith(folder: string, texts: readonly string[]): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => !name.includes("idp") && !name.includes("provider") && statSync(join(folder, name)).isFile())
    .filter((name) => texts.some((text) => readFileSync(join(folder, name)).includes(text)));
}

test("an erased person is in no file of the data folder, nor in a copy from before; the chain verifies", {
  timeout: 240_000,
}, async (t) => {
  const dev = await startDev(t);
  const browser = startBrowser((url) => Number(url.port));
  const arrival = await browser.navigate(dev.url("app"), { user: "bob" });
  assert.equal(arrival.status, 200);
  const users = JSON.parse((await dev.cardea("users", "list", "--json")).out) as User[];
  const bob = users.find(({ email }) => email === "bob@example.com");
  assert.ok(bob !== undefined);
  assert.ok(personal.includes(bob.name), bob.name);
  assert.equal((await dev.cardea("groups", "add", "eng", bob.id)).code, 0);
  assert.equal((await dev.cardea("snapshot", "create")).code, 0);
  const copy = `${dev.dataDir}-before`;
  cpSync(dev.dataDir, copy, { recursive: true });
  assert.deepEqual(filesWith(copy, personal), [], "personal data is sealed from the first event");

  const dry = JSON.parse((await dev.cardea("users", "erase", "bob@example.com", "--dry-run", "--json")).out);
  assert.deepEqual(
    dry.people.map(({ userId, key, sessions, memberships }: Record<string, unknown>) => [
      userId,
      key,
      sessions,
      memberships,
    ]),
    [[bob.id, "to-be-destroyed", 1, 2]],
  );
  const still = JSON.parse((await dev.cardea("users", "show", "bob@example.com", "--json")).out);
  assert.equal(still[0].status, "active", "a dry run destroys nothing");

  const receipts = join(dev.dataDir, "erased.jws");
  const erased = await dev.cardea("users", "erase", "bob@example.com", "--wait", "--output", receipts);
  assert.equal(erased.code, 0, erased.err);
  assert.match(erased.out, /key destroyed/);
  assert.match(erased.out, /each applied node has dropped the key of the person/);
  assert.match(erased.out, /not reached/);
  const again = await dev.cardea("users", "erase", bob.id);
  assert.equal(again.code, 0, again.err);
  assert.match(again.out, /was already erased/);
  assert.match(again.out, /key destroyed before/);

  const back = await startBrowser((url) => Number(url.port)).navigate(dev.url("app"), { user: "bob" });
  assert.equal(back.status, 403, "an erased person is refused: the same subject is the same user");
  assert.equal((await browser.navigate(dev.url("app"))).permitted, false, "the old session has ended");
  assert.equal((await dev.cardea("snapshot", "create")).code, 0);
  await waitFor("the decision records", () => filesWith(dev.dataDir, [bob.id]).some((name) => name.includes("audit")));
  assert.deepEqual(filesWith(dev.dataDir, personal), []);
  await dev.restart();
  const listed = JSON.parse((await dev.cardea("users", "list", "--json")).out) as User[];
  assert.deepEqual(
    listed.filter(({ id }) => id === bob.id).map(({ email, name }) => [email, name]),
    [["", ""]],
  );
  assert.deepEqual(filesWith(dev.dataDir, personal), []);
});
