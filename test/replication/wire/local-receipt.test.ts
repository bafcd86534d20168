/** Signed receipts of one region: what they state, who refuses them, and which contradictions a check refuses. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type BootId, genesis, parseCommandId, type UnixMs } from "../../../src/events/index.ts";
import type { LocalReceipt } from "../../../src/replication/index.ts";
import {
  checkLocalReceipt,
  checkReceipt,
  createLocalReceiptSigner,
  createReceiptSigner,
  isLocalReceipt,
  type LocalReceiptStatement,
  type LocalRevocation,
  receiptKeys,
  stateLocalReceipt,
} from "../../../src/replication/wire/index.ts";
import { sessionId, userId } from "../support.ts";

const secret = new Uint8Array(32).fill(7);
const at = Date.UTC(2026, 10, 25, 4, 0, 0) as UnixMs;
const commandId = parseCommandId("c0ffee00-0000-4000-8000-000000000001");
const revocation: LocalRevocation = {
  ...{ commandId, region: "west", broker: "b1", boot: "boot" as BootId, seq: 3, basis: genesis },
  ...{ actor: "operator:alice#1", acceptedAt: at, command: "revokeUserSessions", userId: userId(1), reason: "" },
  sessionIds: [sessionId(1), sessionId(6)],
};
const row = { node: "n1", boot: "boot", role: "proxy", reason: "" };
const receipt: Omit<LocalReceipt, "signed"> = {
  ...{ scope: "region", region: "west", commandId, broker: "b1", seq: 3, basis: genesis, acceptedAt: at },
  ...{ complete: true, brokers: [{ broker: "b1", stored: true }], completeInMs: 0, at },
  nodes: [
    { ...row, status: "applied", confirmed: 3, fencedInMs: 0 },
    { ...row, node: "n2", status: "fenced", confirmed: null, fencedInMs: 0 },
  ],
};
const statement = stateLocalReceipt(receipt, { cluster: "prod", answeredBy: "b1", revocation });
const keys = await receiptKeys({ cluster: "prod", secrets: [secret] });
const sign = (changes: Partial<LocalReceiptStatement> = {}) =>
  createLocalReceiptSigner(secret)({ ...statement, ...changes });

test("a receipt of one region is genuine under the key of the cluster, and says that its scope is the region", async () => {
  const signed = await sign();
  assert.ok(isLocalReceipt(signed));
  const checked = await checkLocalReceipt(signed, [keys]);
  assert.ok(checked.ok);
  assert.equal(checked.local.scope, "region");
  assert.deepEqual(checked.local.change.ids, [sessionId(1), sessionId(6)]);
  assert.match(checked.local.promise, /no node of region west permits another request.*says nothing of other regions/s);
});

test("a check for receipts of the cluster refuses it, and the other way round", async () => {
  const other = await checkReceipt(await sign(), [keys]);
  assert.ok(!other.ok && other.reason === "not-a-receipt");
  const ofCluster = await createReceiptSigner(secret)({ ...statement } as never);
  assert.ok(!isLocalReceipt(ofCluster));
  const checked = await checkLocalReceipt(ofCluster, [keys]);
  assert.ok(!checked.ok && checked.reason === "not-a-receipt");
});

test("an altered receipt, and one under another key, are refused", async () => {
  const [head = "", body = "", signature = ""] = (await sign()).split(".");
  const altered = Buffer.from(
    Buffer.from(body, "base64url").toString("utf8").replace('"region":"west"', '"region":"east"'),
  ).toString("base64url");
  const refused = await checkLocalReceipt([head, altered, signature].join("."), [keys]);
  assert.ok(!refused.ok && refused.reason === "bad-signature");
  const foreign = await createLocalReceiptSigner(new Uint8Array(32).fill(9))(statement);
  const unknown = await checkLocalReceipt(foreign, [keys]);
  assert.ok(!unknown.ok && unknown.reason === "unknown-key");
});

test("a receipt that contradicts itself is refused", async () => {
  const [applied, fenced] = statement.nodes;
  assert.ok(applied && fenced);
  const unconfirmed = { ...fenced, status: "unconfirmed", fencedAt: "2026-11-25T04:00:09.000Z" } as const;
  for (const wrong of [
    { status: "incomplete" as const },
    { nodes: [unconfirmed] },
    { brokers: [{ broker: "b2", stored: false }] },
    { brokers: [] },
    { nodes: [{ ...applied, confirmed: null }] },
    { nodes: [{ ...fenced, fencedAt: "2026-11-25T04:00:09.000Z" }] },
    { complete: false, status: "incomplete" as const },
    { basis: "nowhere" },
    { change: { ...statement.change, ids: [sessionId(1), sessionId(2)] } },
  ]) {
    const checked = await checkLocalReceipt(await sign(wrong), [keys]);
    assert.ok(!checked.ok && checked.reason === "contradictory", JSON.stringify(wrong));
  }
});
