/**
 * `shared_secret` is changed while the log begins behind a snapshot: a snapshot is believed for its signature, whose
 * key follows from the secret, so one that the new secret vouches for is there before the old one goes. A real broker
 * on a real disk.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { TemporaryFolder } from "../support/child.ts";
import { waitFor } from "../support/wait-for.ts";
import { run } from "./support.ts";
import { patience, signIn, startBrokerOf, untilTruncated, writeTruncating } from "./truncated-log.ts";

const aSecret = (): string => randomBytes(32).toString("base64");

test("while the secret is replaced a snapshot is taken under the present one, and behind the last round the broker goes on from it", async () => {
  using folder = new TemporaryFolder("snapshots-rotation");
  const [old, young, cookie_secret] = [aSecret(), aSecret(), aSecret()];
  const before = await startBrokerOf(writeTruncating(folder.path, { cookie_secret, shared_secret: old }));
  const begins = await untilTruncated(before);
  const sessionId = await signIn(before);
  await before.stop();

  // As many events as come in the rounds of a quiet cluster: far fewer than a snapshot is taken after.
  const rounds = [
    { shared_secret: old, shared_secret_previous: young, told: true },
    { shared_secret: young, shared_secret_previous: old, told: true },
  ];
  for (const { told, ...secrets } of rounds) {
    const said: string[] = [];
    const note = (_fields: object, message: string): void => void said.push(message);
    const file = writeTruncating(folder.path, { cookie_secret, ...secrets });
    const parts = await startBrokerOf(file, { debug() {}, info: note, warn: note, error: note });
    await waitFor(
      "the word that it may go",
      () => said.includes("the newest snapshot does not need shared_secret_previous") === told,
      patience,
    );
    const taken = said.filter((message) => message === "took a snapshot").length;
    assert.equal(taken, secrets.shared_secret === young ? 1 : 0);
    await parts.stop();
  }

  const last = writeTruncating(folder.path, { cookie_secret, shared_secret: young });
  assert.equal((await run(["snapshot", "verify", "-c", last])).code, 1, "those of before are no longer believed");
  const parts = await startBrokerOf(last);
  try {
    await waitFor("it to lead", async () => (await parts.forRole("operator").status()).leader !== null, patience);
    assert.ok(((await parts.log?.base())?.position ?? 0) + 1 >= begins);
    const { changed } = (await parts.forRole("operator").submit({
      ...{ commandId: crypto.randomUUID() as never, actor: "operator:test" },
      command: { type: "revokeSession", sessionId, reason: "operator" },
    })) as { changed?: boolean };
    assert.equal(changed, true, "what was there before is known");
  } finally {
    await parts.stop();
  }
});
