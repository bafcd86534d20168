/** Signed receipts: how they are signed, checked and stated, and which contradictions a check refuses. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { CompactSign, compactVerify, decodeProtectedHeader, importJWK, jwtVerify } from "jose";
import type {
  BootId,
  BrokerId,
  CommandId,
  Epoch,
  Hash,
  Link,
  NodeId,
  Position,
  UnixMs,
} from "../../../src/events/index.ts";
import type { Receipt, ReceiptNode } from "../../../src/replication/index.ts";
import {
  checkReceipt,
  createReceiptSigner,
  deriveKey,
  digestOfIds,
  parseReceiptKeys,
  promiseOf,
  type ReceiptKeys,
  type ReceiptStatement,
  receiptKeys,
  signingPairFromSeed,
  stateReceipt,
} from "../../../src/replication/wire/index.ts";

const secret = new Uint8Array(32).fill(7);
const older = new Uint8Array(32).fill(6);
const cluster = "prod";
const at = Date.UTC(2026, 10, 25, 4, 0, 0) as UnixMs;
const link = (position: number, epoch = 3): Link => ({
  ...{ epoch: epoch as Epoch, position: position as Position },
  hash: position.toString(16).padStart(64, "0") as Hash,
});
const node = (name: string, parts: Partial<ReceiptNode> = {}): ReceiptNode => ({
  ...{ node: name as NodeId, boot: `${name}-boot` as BootId, region: "eu", role: "proxy" },
  ...{ status: "applied", enforced: link(20), fencedInMs: null, reason: "" },
  ...parts,
});
const receipt = (parts: Partial<Receipt> = {}): Receipt => ({
  ...{ status: "complete", complete: true, wait: "all", region: null, link: link(20), epoch: 3 as Epoch },
  ...{ commandId: "c0ffee00-0000-4000-8000-000000000001" as CommandId, nodes: [node("a")] },
  ...{ completeInMs: 0, at: null, signed: null },
  ...parts,
});
const ids = ["s-2", "s-1"];
const recorded = {
  commandId: "c0ffee00-0000-4000-8000-000000000001" as CommandId,
  changes: [{ type: "SessionRevoked", kind: "session", count: 2, ids: ["s-1", "s-2"], idsSha256: digestOfIds(ids) }],
};
const statementOf = (parts: Partial<Receipt> = {}, of: Partial<ReceiptStatement> = {}): ReceiptStatement => ({
  ...stateReceipt(receipt(parts), { cluster, brokerId: "broker-1" as BrokerId, at, recorded, durability: "local" }),
  ...of,
});
const signed = (statement: ReceiptStatement = statementOf(), by = secret) => createReceiptSigner(by)(statement);
const keys = (secrets: readonly Uint8Array[] = [secret], of = cluster) => receiptKeys({ cluster: of, secrets });

async function reasonFor(jws: string, sets?: readonly ReceiptKeys[]): Promise<string> {
  const checked = await checkReceipt(jws, sets ?? [await keys()]);
  return checked.ok ? "ok" : checked.reason;
}

describe("a signed receipt", () => {
  test("is verified with the published keys alone, and says what changed, who enforces it, and when", async () => {
    const checked = await checkReceipt(await signed(), [await keys()]);
    if (!checked.ok) return assert.fail(checked.detail);
    const { statement } = checked;
    assert.deepEqual(statement, statementOf());
    assert.equal(statement.durability, "local");
    assert.equal(statement.at, "2026-11-25T04:00:00.000Z");
    assert.equal(statement.changes?.[0]?.ids.join(), "s-1,s-2");
    assert.match(statement.promise, /no node permits another request/);
  });

  test("promises that no byte is carried, and with a fenced node mentions what a kernel may still send", () => {
    const carried = "no node permits another request, or carries another byte, on these sessions";
    const kernelNote = "the kernel of a fenced node may still send what it held of connections that were open";
    const fenced = node("b", { status: "fenced", enforced: null, fencedInMs: -1 });
    assert.equal(statementOf().promise, carried);
    assert.equal(statementOf({ nodes: [node("a"), fenced] }).promise, `${carried}; ${kernelNote}`);
  });

  test("mentions what the kernel of a fenced node may still send, for any kind of change", () => {
    for (const type of ["GroupMembersChanged", "ServiceAccountRevoked", "UserRestored"]) {
      const applied = promiseOf([{ type }], [{ status: "applied" }]);
      const fenced = promiseOf([{ type }], [{ status: "applied" }, { status: "fenced" }]);
      assert.equal(
        fenced,
        `${applied}; the kernel of a fenced node may still send what it held of connections that were open`,
      );
    }
  });

  test("from an older build, which promised less, is still verified", async () => {
    const fenced = node("b", { status: "fenced", enforced: null, fencedInMs: -1 });
    const promise = "no node permits another request, or carries another byte, on these sessions";
    const checked = await checkReceipt(await signed(statementOf({ nodes: [node("a"), fenced] }, { promise })), [
      await keys(),
    ]);
    assert.deepEqual([checked.ok, checked.ok && checked.statement.promise], [true, promise]);
  });

  test("says by when the leader knew of each confirmation, and never a time after its own", async () => {
    const confirmed = node("a", { confirmedAt: (at - 250) as UnixMs });
    const later = node("b", { confirmedAt: (at + 9_000) as UnixMs });
    const checked = await checkReceipt(await signed(statementOf({ nodes: [confirmed, later, node("c")] })), [
      await keys(),
    ]);
    if (!checked.ok) return assert.fail(checked.detail);
    assert.deepEqual(
      checked.statement.nodes.map(({ confirmedAt }) => confirmedAt),
      ["2026-11-25T03:59:59.750Z", "2026-11-25T04:00:00.000Z", undefined],
    );
  });

  test("says how each region was last known, and from an older build, without times and regions, is still verified", async () => {
    const region = { region: "eu", applied: 1, fenced: 0, unconfirmed: 0, absent: 2, cutOff: false };
    const regions = [{ ...region, heardAt: (at - 1_000) as UnixMs }];
    const checked = await checkReceipt(await signed(statementOf({ regions })), [await keys()]);
    if (!checked.ok) return assert.fail(checked.detail);
    assert.deepEqual(checked.statement.regions, [{ ...region, heardAt: "2026-11-25T03:59:59.000Z" }]);
    assert.equal("regions" in statementOf(), false);
    assert.equal("confirmedAt" in (statementOf().nodes[0] ?? {}), false);
    assert.equal(await reasonFor(await signed(statementOf())), "ok");
  });

  test("is refused when its regions or times of confirmation contradict its nodes or its own time", async () => {
    const stated = { region: "eu", applied: 1, fenced: 0, unconfirmed: 0, absent: 0, cutOff: false, heardAt: null };
    const [only] = statementOf().nodes;
    assert.ok(only);
    const late = "2026-11-25T04:00:00.001Z";
    const cases: readonly Partial<ReceiptStatement>[] = [
      { regions: [{ ...stated, applied: 2 }] },
      { regions: [{ ...stated, fenced: 1 }] },
      { regions: [{ ...stated, heardAt: late }] },
      { nodes: [{ ...only, confirmedAt: late }] },
      {
        nodes: [
          { ...only, status: "fenced", fencedAt: "2026-11-25T03:59:00.000Z", confirmedAt: "2026-11-25T03:59:00.000Z" },
        ],
      },
    ];
    for (const parts of cases)
      assert.equal(await reasonFor(await signed(statementOf({}, parts))), "contradictory", JSON.stringify(parts));
    assert.equal(await reasonFor(await signed(statementOf({}, { regions: [stated] }))), "ok");
  });

  test("is a JWT that any library can verify: EdDSA, a key thumbprint, issuer and time", async () => {
    const jws = await signed();
    const [jwk] = (await keys()).keys;
    assert.deepEqual(decodeProtectedHeader(jws), { alg: "EdDSA", typ: "cardea-receipt+jwt", kid: jwk?.kid });
    const { payload } = await jwtVerify(jws, await importJWK(jwk ?? {}, "EdDSA"), { issuer: "cardea:prod" });
    assert.equal(payload.iat, at / 1_000);
  });

  test("is signed with a key of its own, not with one that signs broker or node messages", async () => {
    const [jwk] = (await keys()).keys;
    for (const purpose of ["enrolment broker", "enrolment proxy", "operator token", ""]) {
      const { publicKey } = signingPairFromSeed(deriveKey(secret, purpose));
      assert.notEqual(publicKey.export({ format: "jwk" }).x, jwk?.x);
    }
    assert.deepEqual(Object.keys(jwk ?? {}).sort(), ["alg", "crv", "kid", "kty", "use", "x"], "no private part");
  });

  test("is verifiable after a change of the secret, with the key set of its time", async () => {
    const jws = await signed(statementOf(), older);
    assert.equal(await reasonFor(jws, [await keys([secret, older])]), "ok");
    assert.equal(await reasonFor(jws, [await keys([secret])]), "unknown-key");
    assert.equal(await reasonFor(jws, [await keys([secret]), await keys([older])]), "ok");
  });

  test("from another cluster is reported as such, with or without that cluster's keys", async () => {
    const jws = await signed(statementOf({}, { cluster: "staging" }), older);
    assert.equal(await reasonFor(jws), "another-cluster");
    assert.equal(await reasonFor(jws, [await keys([older])]), "another-cluster", "two clusters share one secret");
    assert.equal(await reasonFor(jws, [await keys([older], "staging")]), "ok");
  });

  test("that was altered anywhere is refused", async () => {
    const jws = await signed();
    const [header = "", payload = "", signature = ""] = jws.split(".");
    const changed = { ...JSON.parse(Buffer.from(payload, "base64url").toString()), status: "complete", broker: "x" };
    const other = Buffer.from(JSON.stringify(changed)).toString("base64url");
    assert.equal(await reasonFor(`${header}.${other}.${signature}`), "bad-signature");
    assert.equal(await reasonFor(`${header}.${payload}.${signature.slice(0, -4)}AAAA`), "bad-signature");
    assert.equal(await reasonFor(`${header}.${payload}.AA`), "bad-signature");
  });

  test("signed with another key under our key id is refused", async () => {
    const [jwk] = (await keys()).keys;
    const forged = await new CompactSign(Buffer.from(JSON.stringify(statementOf())))
      .setProtectedHeader({ alg: "EdDSA", typ: "cardea-receipt+jwt", kid: jwk?.kid ?? "" })
      .sign(signingPairFromSeed(new Uint8Array(32).fill(1)).privateKey);
    assert.equal(await reasonFor(forged), "bad-signature");
  });

  test("anything else is reported as not a receipt: text, another kind of token, no signature, another algorithm", async () => {
    const { privateKey } = signingPairFromSeed(deriveKey(secret, "receipt signature"));
    const token = (header: { alg: string; typ?: string; kid?: string }) =>
      new CompactSign(Buffer.from("{}")).setProtectedHeader(header).sign(privateKey);
    const [jwk] = (await keys()).keys;
    assert.equal(await reasonFor("complete: true"), "not-a-receipt");
    assert.equal(await reasonFor(""), "not-a-receipt");
    assert.equal(await reasonFor(await token({ alg: "EdDSA", typ: "JWT", kid: jwk?.kid ?? "" })), "not-a-receipt");
    const none = Buffer.from(JSON.stringify({ alg: "none", typ: "cardea-receipt+jwt" })).toString("base64url");
    assert.equal(await reasonFor(`${none}.e30.AA`), "not-a-receipt");
    const mac = await new CompactSign(Buffer.from(JSON.stringify(statementOf())))
      .setProtectedHeader({ alg: "HS256", typ: "cardea-receipt+jwt", kid: jwk?.kid ?? "" })
      .sign(Buffer.from(jwk?.x ?? "", "base64url"));
    assert.equal(await reasonFor(mac), "not-a-receipt", "the public key does not work as a shared secret");
    assert.equal(
      await reasonFor(await token({ alg: "EdDSA", typ: "cardea-receipt+jwt", kid: jwk?.kid ?? "" })),
      "malformed",
    );
  });

  test("holds no names and no e-mail addresses, only ids, times and positions", async () => {
    const { payload } = await compactVerify(await signed(), await importJWK((await keys()).keys[0] ?? {}, "EdDSA"));
    assert.equal(Buffer.from(payload).includes("@"), false);
  });

  test("a key set is parsed from JSON, and anything else is refused", () => {
    assert.deepEqual(parseReceiptKeys({ keys: [{ kty: "OKP" }, "x", null], cluster: 3 }), { keys: [{ kty: "OKP" }] });
    for (const other of [null, "x", [], {}, { keys: {} }]) assert.equal(parseReceiptKeys(other), undefined);
  });
});

describe("the statements of a signed receipt must be consistent", () => {
  const fenced = { status: "fenced", enforced: null, fencedInMs: 0 } as const;
  const missing = { status: "unconfirmed", enforced: link(3), fencedInMs: 4_000, reason: "behind" } as const;
  const n = (name: string, parts: Partial<ReceiptNode>) => node(name, parts);
  const incomplete = { status: "incomplete", complete: false } as const;

  const good: readonly (readonly [string, Partial<Receipt>])[] = [
    ["no node holds a lease", { nodes: [] }],
    ["one node applied, one fenced", { nodes: [n("a", {}), n("b", fenced)] }],
    ["incomplete, with one node unconfirmed", { ...incomplete, nodes: [n("a", {}), n("b", missing)] }],
    [
      "the nodes of the region have applied, one of another region has not",
      {
        ...{ wait: "region", region: "eu" },
        nodes: [n("a", {}), n("b", { ...missing, region: "us" })],
      },
    ],
    ["lost", { status: "lost", complete: false, link: null, nodes: [] }],
    ["applied at a later position of a later epoch", { nodes: [n("a", { enforced: link(21, 4) })] }],
  ];
  for (const [what, parts] of good)
    test(`accepted: ${what}`, async () => assert.equal(await reasonFor(await signed(statementOf(parts))), "ok"));

  const bad: readonly (readonly [string, Partial<Receipt>, Partial<ReceiptStatement>?])[] = [
    ["complete, with one node unconfirmed", { nodes: [n("a", {}), n("b", missing)] }],
    [
      "complete for all regions, with a node of another region unconfirmed",
      {
        nodes: [n("a", {}), n("b", { ...missing, region: "us" })],
      },
    ],
    [
      "complete for a region with an unconfirmed node",
      {
        ...{ wait: "region", region: "us" },
        nodes: [n("b", { ...missing, region: "us" })],
      },
    ],
    ["`complete: true` with status incomplete", { ...incomplete, complete: true, nodes: [n("b", missing)] }],
    ["`complete: false` with status complete", { complete: false }],
    ["incomplete, with no node unconfirmed", incomplete],
    ["applied before the position", { nodes: [n("a", { enforced: link(19) })] }],
    ["applied in an earlier epoch", { nodes: [n("a", { enforced: link(25, 2) })] }],
    ["applied without a position", { nodes: [n("a", { enforced: null })] }],
    ["fenced only later", { nodes: [n("a", { ...fenced, fencedInMs: 10 })] }],
    ["complete without a link", { link: null }],
    ["complete at a malformed link", {}, { link: "3.20" }],
    ["lost, but confirmed by a node", { status: "lost", complete: false }],
    [
      "a list of sessions with one removed",
      {},
      {
        changes: recorded.changes.map((change) => ({ ...change, count: 1, ids: ["s-1"] })),
      },
    ],
  ];
  for (const [what, parts, of] of bad)
    test(`refused: ${what}`, async () =>
      assert.equal(await reasonFor(await signed(statementOf(parts, of))), "contradictory"));
});
