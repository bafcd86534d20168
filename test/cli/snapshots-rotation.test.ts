/**
 * A change of `shared_secret` while the log begins after a snapshot. A snapshot is trusted for its signature, whose key
 * derives from the secret. So a snapshot signed with the new secret must exist before the old one is removed. A real
 * broker on a real disk.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { TemporaryFolder } from "../support/child.ts";
import { waitFor } from "../support/wait-for.ts";
import { run } from "./support.ts";
import { patience, signIn, startBrokerOf, untilTruncated, writeTruncating } from "./truncated-log.ts";

const aSecret = (): string => randomBytes(32).toString("base64");

test("during a rotation of shared_secret the broker takes a snapshot signed with the new secret, and continues from it after the last round", async () => {
  using folder = new TemporaryFolder("snapshots-rotation");
  const [old, next, cookie_secret] = [aSecret(), aSecret(), aSecret()];
  const before = await startBrokerOf(writeTruncating(folder.path, { cookie_secret, shared_secret: old }));
  const begins = await untilTruncated(before);
  const sessionId = await signIn(before);
  await before.stop();

  // A quiet cluster: the rounds have far fewer events than snapshot_every.
  const rounds = [
    { shared_secret: old, shared_secret_previous: next, isAnnounced: true },
    { shared_secret: next, shared_secret_previous: old, isAnnounced: true },
  ];
  for (const { isAnnounced, ...secrets } of rounds) {
    const logged: string[] = [];
    const log = (_fields: object, message: string): void => void logged.push(message);
    const file = writeTruncating(folder.path, { cookie_secret, ...secrets });
    const parts = await startBrokerOf(file, { debug() {}, info: log, warn: log, error: log });
    await waitFor(
      "the message that the previous secret may be removed",
      () => logged.includes("the newest snapshot does not need shared_secret_previous") === isAnnounced,
      patience,
    );
    const snapshotCount = logged.filter((message) => message === "took a snapshot").length;
    assert.equal(snapshotCount, secrets.shared_secret === next ? 1 : 0);
    await parts.stop();
  }

  const last = writeTruncating(folder.path, { cookie_secret, shared_secret: next });
  assert.equal((await run(["snapshot", "verify", "-c", last])).code, 1, "older snapshots are no longer trusted");
  const parts = await startBrokerOf(last);
  try {
    await waitFor(
      "the broker to lead",
      async () => (await parts.forRole("operator").status()).leader !== null,
      patience,
    );
    assert.ok(((await parts.log?.base())?.position ?? 0) + 1 >= begins);
    const { changed } = (await parts.forRole("operator").submit({
      ...{ commandId: crypto.randomUUID() as never, actor: "operator:test" },
      command: { type: "revokeSession", sessionId, reason: "operator" },
    })) as { changed?: boolean };
    assert.equal(changed, true, "the session from before the rotation is known");
  } finally {
    await parts.stop();
  }
});
