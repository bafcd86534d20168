/** Byte list: a list of byte strings packed into one, and split again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { joinBytes, splitBytes } from "../../../src/replication/log/byte-list.ts";
import { fc } from "../../support/property.ts";

test("byte strings of any length survive packing and splitting", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 50 })), (list) => {
      const parts = splitBytes(structuredClone(joinBytes(list)));
      assert.deepEqual(
        parts.map((part) => [...part]),
        list.map((bytes) => [...bytes]),
      );
    }),
  );
});
