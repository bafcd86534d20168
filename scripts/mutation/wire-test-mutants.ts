/**
 * Test mutants of the wire: messages and boots of strangers and of other members (test-mutants.ts). Pure data.
 */
import type { TestMutant } from "./test-mutant.ts";

const nodeKeyTest = "test/replication/wire/node-key.test.ts";
const nodeKey = "src/replication/wire/node-key.ts";

export const wireTestMutants: Readonly<Record<string, TestMutant>> = {
  "extensions-decoded": {
    section: 3,
    meaning: "MessagePack extensions reach the decoder",
    test: "test/events/strict-messagepack.test.ts",
    changes: [
      {
        file: "src/events/strict-messagepack.ts",
        take: "return bytes[next] === 0 && bytes[at + 2] === 0 ? at + 3 : refused;",
        put: "return at + 3;",
      },
    ],
  },
  "certificate-decoded-first": {
    section: 3,
    meaning: "a certificate is decoded before its signature is verified",
    test: "test/replication/wire/envelope.test.ts",
    changes: [
      {
        file: "src/replication/wire/envelope.ts",
        take: "    if (!verify(null, bytes, issuer.root, rootSignature))",
        put: "    parseCertificate(bytes);\n    if (!verify(null, bytes, issuer.root, rootSignature))",
      },
    ],
  },
  "boot-of-any-key": {
    section: 3,
    meaning: "any enrolled key may speak for a boot that commits to another one",
    test: nodeKeyTest,
    changes: [
      {
        file: nodeKey,
        take: "return !commitsToKey(holder.boot) || bootIdOf(holder) === holder.boot;",
        put: "return holder.boot.length > 0;",
      },
    ],
  },
  "replaced-without-proof": {
    section: 5,
    meaning: "a boot is replaced without the signature of its own key",
    test: nodeKeyTest,
    changes: [
      {
        file: nodeKey,
        take: "return verify(null, replacementBytes(of), publicKeyFromRaw(publicKey), proof.subarray(publicKeyBytes));",
        put: "return replacementBytes(of).length > 0;",
      },
    ],
  },
};
