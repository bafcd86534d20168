/** What the operator API says of decisions that were made again: the checks, and one explanation. */
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { test } from "node:test";
import type { ExplainAnswer } from "../../../src/console/index.ts";
import {
  type CommandId,
  type ConfigHash,
  type NodeId,
  packConfigBody,
  type UnixMs,
} from "../../../src/events/index.ts";
import { createRecordedRequestReader } from "../../../src/proxy/index.ts";
import { decision } from "../../audit/support.ts";
import { signIn, subjectId } from "../../auth/authenticate/support.ts";
import { json, startOperatorWorld } from "./operator-support.ts";

test("a server without checks says so", async (t) => {
  const at = await startOperatorWorld(t);
  const answer = json(await at.get("/rechecks"));
  assert.deepEqual(answer, { checking: false, same: 0, different: 0, waiting: 0, skipped: {}, newest: [] });
});

test("an explanation decides again by the stored configuration, and says what is missing", async (t) => {
  const at = await startOperatorWorld(t, { deps: { recordReaderOf: createRecordedRequestReader } });
  const { world } = at;
  await signIn(world, world.visitor(), "alice");
  const alice = subjectId(world, "alice");
  const [sessionId] = world.replica.projection.sessionsOf(alice);
  assert.ok(sessionId !== undefined);
  const route = {
    ...{ id: "app", name: "", from: "https://app.example.com/", host: "app.example.com", port: null, tunnel: null },
    ...{ match: { kind: "prefix", value: "/" }, bearer: null, sessionLifetimeMs: 0, allowedUsers: [] },
    ...{ allowPublicUnauthenticatedAccess: false, corsAllowPreflight: false, allowAnyAuthenticatedUser: true },
    ...{ allowedDomains: [], allowedIdpClaims: {}, clientCa: null, requiresClientCertificate: false, policy: null },
  };
  const text = JSON.stringify({ routes: [route] });
  const configHash = createHash("sha256").update(text).digest("hex") as ConfigHash;
  const command = { nodeId: "node-1" as NodeId, configHash, body: packConfigBody(text) };
  const commandId = randomUUID() as CommandId;
  const stored = await world.deps.databroker.submit({
    ...{ commandId, actor: "service:test", command: { type: "activateConfiguration", ...command } },
  });
  assert.ok(stored.type === "done");
  const record = decision("/", {
    ...{ sessionId, userId: alice, configHash, applied: stored.link, at: Date.now() as UnixMs, rule: "shorthands" },
    ...{ allow: { met: true, reasons: ["user-ok"] }, deny: { met: false, reasons: [] } },
  });
  const explain = async (more: object): Promise<ExplainAnswer> =>
    json(await at.post("/explain", { record: { kind: "decision", seq: 1, ...record, ...more } }));
  const same = await explain({});
  assert.deepEqual(
    [same.again.type, same.source],
    ["same", { snapshot: 0, erased: false }],
    JSON.stringify(same.again),
  );
  const different = await explain({ result: "deny", status: 403 });
  assert.equal(different.again.type, "different");
  const unknown = await explain({ configHash: "0".repeat(64) });
  assert.match(JSON.stringify(unknown.again), /the text of configuration 0+ is not stored/);
  const torn = await explain({ path: undefined });
  assert.match(JSON.stringify(torn.again), /the record has no `path`/);
  const lost = await explain({ applied: { ...stored.link, hash: "0".repeat(64) } });
  assert.match(lost.broken.join(), /the decision was made at/);
  assert.match(JSON.stringify(lost.again), /contradicts the log/);
});
