import assert from "node:assert/strict";
import { test } from "node:test";
import { waitFor } from "./wait-for.ts";

test("a wait ends with the first answer that is not undefined or false", async () => {
  const results = [undefined, false, 0, 1] as const;
  let probes = 0;
  assert.equal(await waitFor("an answer", () => results[probes++], { everyMs: 1 }), 0);
});

test("a wait in vain says what it waited for, how long, and why the last try failed", async () => {
  const probe = () => {
    throw new Error("no guest");
  };
  await assert.rejects(waitFor("a guest", probe, { withinMs: 10, everyMs: 5 }), (error: Error) => {
    assert.match(error.message, /waited 30 ms for a guest/);
    assert.match(String(error.cause), /no guest/);
    return true;
  });
});
