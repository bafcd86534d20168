/**
 * The rounds of "Rotating secrets" in docs/operations.md, for the secrets that sign-in and receipts rest on, against a
 * real process: twice each, with people signed in before, between and after, and receipts that are checked in each
 * round.
 */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { type Installation, newSecret, patience, startInstallation } from "./procedures.ts";

const timeout = 1_800_000;
type Rotated = "shared_secret" | "cookie_secret" | "signing_key";

const aSigningKey = (): string =>
  String(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" }));

/** A receipt of this secret's time, and the key set that the page says to keep. */
async function keepReceipt(server: Installation, name: string): Promise<Readonly<{ receipt: string; keys: string }>> {
  const receipt = join(server.folder, `receipt-${name}`);
  const keys = join(server.folder, `keys-${name}.json`);
  await server.signIn(`revoked-${name}`);
  await server.cardea(
    "sessions",
    "revoke",
    "--user",
    `revoked-${name}`,
    "--wait",
    "--timeout",
    "60s",
    "--output",
    receipt,
  );
  await server.cardea("receipts", "keys", "--output", keys);
  await server.check("receipts", "verify", receipt, "--jwks", keys);
  return { receipt, keys };
}

/** Each round of the table is a restart with other secrets; people stay signed in, and sign in, in each of them. */
async function rotated(t: TestContext, secret: Rotated): Promise<void> {
  const server = await startInstallation(t, { databroker_storage_type: "file" });
  const first: string | undefined = secret === "signing_key" ? undefined : server.secrets[secret];
  let people = [{ ...(await server.signIn("alice")), under: first }];
  let old = first;
  for (const rotation of [1, 2]) {
    const kept = secret === "shared_secret" ? await keepReceipt(server, `${rotation}`) : undefined;
    if (secret === "shared_secret") await server.cardea("snapshot", "create");
    // The page keeps shared_secret_previous until every session from before has ended.
    if (secret === "shared_secret") people = people.filter(({ under }) => under === old);
    assert.ok(people.length > 0);
    const young = secret === "signing_key" ? aSigningKey() : newSecret();
    const rounds = [
      { [secret]: old, [`${secret}_previous`]: young },
      { [secret]: young, [`${secret}_previous`]: old ?? "derived" },
    ];
    let logged = 0;
    for (const [round, secrets] of rounds.entries()) {
      logged = server.log().length;
      server.configure(secrets);
      await server.restart();
      for (const [n, person] of people.entries())
        assert.ok(await person.isIn(), `${person.name} ${n} in round ${round + 1} of rotation ${rotation}`);
      people.push({ ...(await server.signIn(round === 0 ? "bob" : "carol")), under: secrets[secret] });
      if (kept !== undefined) await server.check("receipts", "verify", kept.receipt, "-c", server.config);
    }
    if (kept !== undefined) {
      // The signs on the page that the old secret may go.
      for (const line of ["no key of a person needs", "the newest snapshot does not need"])
        await waitFor(`"${line} shared_secret_previous"`, () => server.log().slice(logged).includes(line), patience);
      server.configure({ [secret]: young });
      await server.restart();
      for (const person of people)
        assert.equal(await person.isIn(), person.under === young, `${person.name} without the old secret`);
      await server.check("receipts", "verify", kept.receipt, "--jwks", kept.keys);
      await assert.rejects(server.check("receipts", "verify", kept.receipt, "-c", server.config), { code: 1 });
    }
    old = young;
  }
}

test("shared_secret, rotated twice", { timeout }, (t) => rotated(t, "shared_secret"));
test("cookie_secret, rotated twice", { timeout }, (t) => rotated(t, "cookie_secret"));
test("signing_key, rotated from none and again", { timeout }, (t) => rotated(t, "signing_key"));
