/** Envelope opening: size, shape and both signatures are checked before anything is decoded. */
import assert from "node:assert/strict";
import { generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { after, before, describe, type Mock, mock, test } from "node:test";
import { Unpackr } from "msgpackr";
import { encode } from "../../../src/events/index.ts";
import { createBrokerOpener, sealEnvelope } from "../../../src/replication/wire/index.ts";
import { fc } from "../../support/property.ts";
import { cluster, history, leaderOf, newSigner, sealMessage, secret } from "../support.ts";

const honest = Uint8Array.from(sealMessage(leaderOf(1), "batch", history(3).batch(1, 3)));

describe("an envelope", () => {
  let unpack: Mock<typeof Unpackr.prototype.unpack>;
  before(() => {
    unpack = mock.method(Unpackr.prototype, "unpack");
  });
  after(() => unpack.mock.restore());

  /** Opens with an opener that knows the leader's certificate. Fails if anything was decoded. */
  function refusalOf(bytes: Uint8Array): string {
    const open = createBrokerOpener({ cluster, secrets: [secret] });
    open(honest);
    unpack.mock.resetCalls();
    const opened = open(bytes);
    assert.ok("refused" in opened, "the envelope was accepted");
    assert.equal(unpack.mock.callCount(), 0, "something was decoded");
    return opened.refused;
  }

  test("from the leader is opened with its kind and sender", () => {
    const opened = createBrokerOpener({ cluster, secrets: [secret] })(honest);
    assert.ok(!("refused" in opened));
    assert.equal(opened.kind, "batch");
    assert.equal(opened.from.role, "broker");
  });

  test("with any byte changed, cut or added is refused before anything is decoded", () => {
    for (let at = 0; at < honest.length; at++) {
      const forged = Uint8Array.from(honest);
      forged[at] = (forged[at] ?? 0) ^ (1 << (at % 8));
      refusalOf(forged);
    }
    for (let length = 0; length < honest.length; length += 7) refusalOf(honest.subarray(0, length));
    assert.equal(refusalOf(Buffer.concat([honest, Buffer.of(0)])), "not an envelope");
  });

  test("of random bytes is refused before anything is decoded", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
        refusalOf(bytes);
        refusalOf(Buffer.concat([honest.subarray(0, 40), bytes]));
      }),
      { numRuns: 1_000 },
    );
  });

  test("full of MessagePack extensions is refused before it is decoded, whichever part holds them", () => {
    const extensions = Buffer.alloc(1_000_000, Buffer.of(0xd6, 0x78, 0xa1, 0x61, 0xa1, 0x67));
    const signature = randomBytes(64);
    const certificate = leaderOf(1).certificateBytes;
    const { rootSignature } = leaderOf(1);
    const list = Buffer.concat([Buffer.of(0xdd, 0, 2, 0x8b, 0x0a), extensions]);
    refusalOf(list);
    refusalOf(encode([1, "batch", list.subarray(0, 2_000), rootSignature, list, signature]));
    refusalOf(encode([1, "batch", list, rootSignature, list, signature]));
    assert.equal(
      refusalOf(encode([1, "batch", certificate, signature, list, signature])),
      "certificate not signed by this cluster",
    );
  });

  test("with a copied certificate and another key's signature is refused; so is one with a certificate of another cluster's root", () => {
    const { certificateBytes, rootSignature } = leaderOf(1);
    const own = generateKeyPairSync("ed25519");
    const payload = encode({ any: "thing" });
    const signature = sign(null, encode(["cardea message", "batch", certificateBytes, payload]), own.privateKey);
    const forged = encode([1, "batch", certificateBytes, rootSignature, payload, signature]);
    assert.equal(refusalOf(forged), "bad signature");
    assert.match(
      refusalOf(sealMessage(newSigner({ rootSecret: randomBytes(32) }), "batch", history(1).batch(1, 1))),
      /not signed/,
    );
  });

  test("of an unknown kind or above the size limit is refused by its shape and size", () => {
    const { certificateBytes, rootSignature } = leaderOf(1);
    const signature = randomBytes(64);
    for (const kind of ["", "toString", "__proto__", "a kind that is far too long"])
      assert.equal(
        refusalOf(encode([1, kind, certificateBytes, rootSignature, Buffer.of(), signature])),
        "not an envelope",
      );
    const large = sealEnvelope(leaderOf(1), "batch", Buffer.alloc(2 * 1024 * 1024));
    assert.equal(refusalOf(large), "too large");
  });
});
