/** Batches and grants from the fan-out: who may sign them, how a batch chains, and how a large batch is split. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Epoch,
  encode,
  genesis,
  type Incarnation,
  type Link,
  type Position,
  sameLink,
  type UnixMs,
  type WrappedKey,
} from "../../../src/events/index.ts";
import { openBatch, splitBatch } from "../../../src/replication/fanout/index.ts";
import {
  type Batch,
  createBrokerOpener,
  encodeMessage,
  type Grant,
  openGrant,
  type RefusedEnvelope,
  sealEnvelope,
} from "../../../src/replication/wire/index.ts";
import { fc } from "../../support/property.ts";
import {
  aBoot,
  aNode,
  bytesOf,
  cluster,
  created,
  History,
  history,
  leaderOf,
  newSigner,
  sealMessage,
  secret,
  userId,
} from "../support.ts";

const open = createBrokerOpener({ cluster, secrets: [secret] });
const log = history(10);
const batch = log.batch(4, 8);

function refusalOf(answer: object): string | undefined {
  return "refused" in answer ? (answer as RefusedEnvelope).refused : undefined;
}

test("a batch signed by the leader of its epoch is opened, decoded and chained", () => {
  const opened = openBatch(sealMessage(leaderOf(1), "batch", batch), open);
  assert.ok(!("refused" in opened));
  assert.deepEqual(
    opened.events.map(({ hash }) => hash),
    log.recorded(4, 8).map(({ hash }) => hash),
  );
  assert.equal(opened.events.at(-1)?.eventId, log.entries[7]?.recorded.eventId);
});

test("a batch that the receiver already has is authenticated but not decoded", () => {
  const opened = openBatch(sealMessage(leaderOf(1), "batch", batch), open, (last) => last.position <= 8);
  assert.ok(!("refused" in opened));
  assert.deepEqual(opened.events, []);
  const forged = openBatch(sealMessage(newSigner({ role: "proxy" }), "batch", batch), open, () => true);
  assert.equal(refusalOf(forged), "not-authentic");
});

const refusedBatches: readonly [string, string, () => Uint8Array][] = [
  [
    "signed under another secret",
    "not-authentic",
    () => sealMessage(newSigner({ rootSecret: bytesOf("another") }), "batch", batch),
  ],
  ["of another cluster", "not-authentic", () => sealMessage(newSigner({ cluster: "prod" }), "batch", batch)],
  ["from a proxy", "not-authentic", () => sealMessage(newSigner({ role: "proxy" }), "batch", batch)],
  [
    "from a proxy that calls itself a broker",
    "not-authentic",
    () => sealMessage(newSigner({ rootRole: "proxy" }), "batch", batch),
  ],
  ["from a broker of an older epoch", "wrong-sender", () => sealMessage(leaderOf(0), "batch", batch)],
  [
    "from a broker of a newer epoch than the batch names",
    "wrong-sender",
    () => sealMessage(leaderOf(2, "incarnation-1"), "batch", batch),
  ],
  [
    "with the certificate of another incarnation",
    "wrong-sender",
    () => sealMessage(leaderOf(1, "another"), "batch", batch),
  ],
  [
    "from a broker that leads no epoch",
    "wrong-sender",
    () => sealMessage(leaderOf(0, ""), "batch", { ...batch, epoch: 0 as Epoch, incarnation: "" as Incarnation }),
  ],
  ["sealed as another kind", "wrong-kind", () => sealEnvelope(leaderOf(1), "grant", encodeMessage(batch))],
  ["that is not a batch", "malformed", () => sealEnvelope(leaderOf(1), "batch", encode({ epoch: 1 }))],
  ["that is not MessagePack", "malformed", () => sealEnvelope(leaderOf(1), "batch", Uint8Array.of(0xc1))],
  ["of zero bytes", "not-authentic", () => new Uint8Array(0)],
];
for (const [what, refusal, envelope] of refusedBatches) {
  test(`a batch ${what} is refused, although it links`, () => {
    assert.equal(refusalOf(openBatch(envelope(), open)), refusal);
  });
}

test("a copied certificate does not help a forger, because its own key must sign the payload", () => {
  const [honest, stranger] = [leaderOf(1), newSigner({ cluster: "prod" })];
  const stolen = { ...honest, privateKey: stranger.privateKey };
  assert.equal(refusalOf(openBatch(sealMessage(stolen, "batch", batch), open)), "not-authentic");
});

const unchained: readonly [string, Partial<Batch>][] = [
  ["without events", { entries: [], last: batch.previous }],
  ["with an event missing", { entries: batch.entries.slice(1) }],
  ["with its events in another order", { entries: [...batch.entries].reverse() }],
  ["that begins at another hash", { previous: { ...batch.previous, hash: genesis.hash } }],
  ["that ends at another hash", { last: { ...batch.last, hash: genesis.hash } }],
  ["that ends beyond its events", { last: { ...batch.last, position: 9 as Position } }],
  ["with events of another history", { entries: history(10, 1, 7).batch(4, 8).entries }],
];
for (const [what, parts] of unchained) {
  test(`a batch ${what} is refused, even if the leader signs it`, () => {
    const refusal = refusalOf(openBatch(sealMessage(leaderOf(1), "batch", { ...batch, ...parts }), open));
    assert.ok(refusal === "does-not-chain" || refusal === "malformed", refusal ?? "opened");
  });
}

test("a batch with events of an earlier epoch than its own is refused", () => {
  const two = history(5).open(2).add(created(70));
  const both = { ...two.batch(3, 7), previous: two.linkAt(3) };
  assert.equal(refusalOf(openBatch(sealMessage(leaderOf(2), "batch", both), open)), "does-not-chain");
});

test("a batch with any bit flipped is refused", () => {
  const envelope = sealMessage(leaderOf(1), "batch", batch);
  fc.assert(
    fc.property(fc.nat(envelope.length * 8 - 1), (bit) => {
      const flipped = Uint8Array.from(envelope);
      const index = bit >> 3;
      flipped[index] = (flipped[index] ?? 0) ^ (1 << (bit & 7));
      assert.notEqual(refusalOf(openBatch(flipped, open)), undefined);
    }),
    { numRuns: 400 },
  );
});

test("during a change of the secret, batches under the new and the previous secret are accepted", () => {
  const next = bytesOf("the next shared secret");
  const both = createBrokerOpener({ cluster, secrets: [next, secret] });
  assert.ok(!("refused" in openBatch(sealMessage(leaderOf(1), "batch", batch), both)));
  assert.ok(!("refused" in openBatch(sealMessage(newSigner({ rootSecret: next }), "batch", batch), both)));
  assert.ok("refused" in openBatch(sealMessage(newSigner({ rootSecret: bytesOf("third") }), "batch", batch), both));
});

// --- grants

const grant: Grant = {
  node: aNode,
  boot: aBoot,
  nonce: 1,
  epoch: 1 as Epoch,
  incarnation: "incarnation-1" as Incarnation,
  start: 1 as Position,
  head: log.head,
  deltaMs: 5_000,
  drift: 0.01,
  windowMs: 5_000,
  wallMs: 1 as UnixMs,
};

test("a grant is opened if the leader of its epoch has signed it, and refused from any other sender", () => {
  assert.deepEqual(openGrant(sealMessage(leaderOf(1), "grant", grant), open), grant);
  const refused: readonly [string, Uint8Array][] = [
    ["not-authentic", sealMessage(newSigner({ rootSecret: bytesOf("another") }), "grant", grant)],
    ["not-authentic", sealMessage(newSigner({ cluster: "prod" }), "grant", grant)],
    ["not-authentic", sealMessage(newSigner({ role: "authorize" }), "grant", grant)],
    ["wrong-sender", sealMessage(leaderOf(2), "grant", grant)],
    ["wrong-sender", sealMessage(leaderOf(1, "another"), "grant", grant)],
    ["wrong-kind", sealMessage(leaderOf(1), "confirm", grant)],
    ["malformed", sealEnvelope(leaderOf(1), "grant", encode({ ...grant, windowMs: -1 }))],
  ];
  for (const [refusal, envelope] of refused) assert.equal(refusalOf(openGrant(envelope, open)), refusal);
});

// --- splitting

const someKey = (user: number): WrappedKey => ({
  userId: userId(user),
  keyId: bytesOf(`id ${user}`).slice(0, 8),
  wrapped: bytesOf(`key ${user}`),
});

test("a batch below the limit is not split", () => {
  assert.deepEqual(splitBatch(batch), [batch]);
});

test("a batch above the limit is split into batches below it that link and open", () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 60 }), fc.integer({ min: 300, max: 5_000 }), (count, bytesMax) => {
      const keys = [0, 1, 2, 3, 4].map(someKey);
      const whole = history(count).batch(0, count, keys);
      const parts = splitBatch(whole, bytesMax);
      let at: Link = whole.previous;
      for (const part of parts) {
        assert.ok(sameLink(part.previous, at));
        at = part.last;
        const opened = openBatch(sealMessage(leaderOf(1), "batch", part), open);
        assert.ok(!("refused" in opened), JSON.stringify(opened));
        const size = part.entries.reduce((sum, bytes) => sum + bytes.length, 0);
        assert.ok(size <= bytesMax || part.entries.length === 1);
      }
      assert.ok(sameLink(at, whole.last));
      assert.deepEqual(
        parts.flatMap(({ entries }) => entries),
        whole.entries,
      );
      const sent = parts.flatMap((part) => part.keys.map((key) => key.userId as string)).sort();
      assert.deepEqual(sent, keys.map((key) => key.userId as string).sort());
    }),
    { numRuns: 100 },
  );
});

test("a person's key is sent no later than the first event about that person", () => {
  const many = new History().open(1);
  for (let n = 0; n < 20; n++) many.add(created(n, n));
  const parts = splitBatch(
    many.batch(
      0,
      21,
      Array.from({ length: 20 }, (_, n) => someKey(n)),
    ),
    900,
  );
  assert.ok(parts.length > 3);
  const known = new Set<string>();
  for (const part of parts) {
    for (const key of part.keys) known.add(key.userId);
    const opened = openBatch(sealMessage(leaderOf(1), "batch", part), open);
    assert.ok(!("refused" in opened));
    for (const { event } of opened.events) assert.ok(!("userId" in event) || known.has(event.userId));
  }
});

test("an event above the limit is sent in a batch of its own", () => {
  const big = new History()
    .open(1)
    .add({ ...created(1), profile: new Uint8Array(5_000) } as never)
    .add(created(2));
  assert.deepEqual(
    splitBatch(big.batch(0, 3), 1_000).map(({ entries }) => entries.length),
    [1, 1, 1],
  );
});
