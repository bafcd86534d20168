/** Test mutants of what strangers and other members send: bytes, boots, claims, records and calls (test-mutants.ts). Pure data. */
import type { TestMutant } from "./test-mutant.ts";

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
};
