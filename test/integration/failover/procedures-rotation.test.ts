/**
 * The rounds of "Rotating secrets" in docs/operations.md, for the secrets that sign-in rests on, against a real process: twice each, with
 * people signed in before, between and after.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { aSecret, startServer } from "./procedures.ts";

const timeout = 1_800_000;

/** Each round of the table is a restart with other secrets; people go on, and sign in, in each of them. */
async function rotated(t: TestContext, secret: "shared_secret" | "cookie_secret"): Promise<void> {
  const server = await startServer(t, { databroker_storage_type: "file" });
  let people = [{ ...(await server.signIn("alice")), under: server.secrets[secret] }];
  let old = server.secrets[secret];
  for (const rotation of [1, 2]) {
    // The page lets shared_secret_previous go only when every session from before has ended.
    if (secret === "shared_secret") people = people.filter(({ under }) => under === old);
    assert.ok(people.length > 0);
    const young = aSecret();
    const rounds = [
      { [secret]: old, [`${secret}_previous`]: young },
      { [secret]: young, [`${secret}_previous`]: old },
    ];
    for (const [round, secrets] of rounds.entries()) {
      server.configure(secrets);
      await server.restart();
      for (const [n, person] of people.entries())
        assert.ok(await person.isIn(), `${person.name} ${n} in round ${round + 1} of rotation ${rotation}`);
      people.push({ ...(await server.signIn(round === 0 ? "bob" : "carol")), under: secrets[secret] ?? "" });
    }
    old = young;
  }
}

test("shared_secret, rotated twice", { timeout }, (t) => rotated(t, "shared_secret"));
test("cookie_secret, rotated twice", { timeout }, (t) => rotated(t, "cookie_secret"));
