/**
 * The rounds of "Rotating secrets" in docs/operations.md for the secrets of sign-in and receipts, against a real
 * process, twice each. People sign in and receipts are verified in each round.
 */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { type Installation, newSecret, patience, startInstallation } from "./procedures.ts";

const timeout = 1_800_000;
type RotatedSecret = "shared_secret" | "cookie_secret" | "signing_key";

const newSigningKey = (): string =>
  String(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" }));

/** Saves a receipt signed under the current secret, and its key set, as the page requires. */
async function saveReceipt(server: Installation, name: string): Promise<Readonly<{ receipt: string; keys: string }>> {
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

/** Runs each round of the table, a restart with other secrets; in each, people stay signed in and others sign in. */
async function rotateTwice(t: TestContext, secret: RotatedSecret): Promise<void> {
  const server = await startInstallation(t, { databroker_storage_type: "file" });
  const first: string | undefined = secret === "signing_key" ? undefined : server.secrets[secret];
  let people = [{ ...(await server.signIn("alice")), under: first }];
  let oldValue = first;
  for (const rotation of [1, 2]) {
    const saved = secret === "shared_secret" ? await saveReceipt(server, `${rotation}`) : undefined;
    if (secret === "shared_secret") await server.cardea("snapshot", "create");
    // The page keeps shared_secret_previous until all earlier sessions have ended.
    if (secret === "shared_secret") people = people.filter(({ under }) => under === oldValue);
    assert.ok(people.length > 0);
    const newValue = secret === "signing_key" ? newSigningKey() : newSecret();
    const rounds = [
      { [secret]: oldValue, [`${secret}_previous`]: newValue },
      { [secret]: newValue, [`${secret}_previous`]: oldValue ?? "derived" },
    ];
    let logged = 0;
    for (const [round, secrets] of rounds.entries()) {
      logged = server.log().length;
      server.configure(secrets);
      await server.restart();
      for (const [n, person] of people.entries())
        assert.ok(await person.isIn(), `${person.name} ${n} in round ${round + 1} of rotation ${rotation}`);
      people.push({ ...(await server.signIn(round === 0 ? "bob" : "carol")), under: secrets[secret] });
      if (saved !== undefined) await server.check("receipts", "verify", saved.receipt, "-c", server.config);
    }
    if (saved !== undefined) {
      // By these log lines the page allows to remove the old secret.
      for (const line of ["no personal key needs", "the newest snapshot does not need"])
        await waitFor(`"${line} shared_secret_previous"`, () => server.log().slice(logged).includes(line), patience);
      server.configure({ [secret]: newValue });
      await server.restart();
      for (const person of people)
        assert.equal(await person.isIn(), person.under === newValue, `${person.name} without the old secret`);
      await server.check("receipts", "verify", saved.receipt, "--jwks", saved.keys);
      await assert.rejects(server.check("receipts", "verify", saved.receipt, "-c", server.config), { code: 1 });
    }
    oldValue = newValue;
  }
}

test("people stay signed in and receipts verify while shared_secret is rotated twice", { timeout }, (t) =>
  rotateTwice(t, "shared_secret"),
);
test("people stay signed in while cookie_secret is rotated twice", { timeout }, (t) => rotateTwice(t, "cookie_secret"));
test("people stay signed in while signing_key is set and then rotated", { timeout }, (t) =>
  rotateTwice(t, "signing_key"),
);
