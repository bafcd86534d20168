/** CodedError: the base of every error class with a code. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { CodedError } from "../../src/events/index.ts";

class TooHotError extends CodedError<"ERR_TEST_TOO_HOT"> {
  override readonly code = "ERR_TEST_TOO_HOT";
}

test("an error has the name of its class, its code, its message and its cause", () => {
  const cause = new Error("100 °C");
  const error = new TooHotError("it is too hot", { cause });
  assert.ok(error instanceof Error);
  assert.deepEqual(
    [error.name, error.code, error.message, error.cause],
    ["TooHotError", "ERR_TEST_TOO_HOT", "it is too hot", cause],
  );
  assert.equal(String(error), "TooHotError: it is too hot");
});

test("every error class with a code extends CodedError", () => {
  const root = join(import.meta.dirname, "../..");
  const wrong = globSync("src/**/*.ts", { cwd: root }).flatMap((path) => {
    const classes = readFileSync(join(root, path), "utf8").matchAll(
      /^(?:export )?class (\w+) extends Error \{[\s\S]*?^\}/gm,
    );
    return [...classes]
      .filter(([body]) => /^ {2}(override )?readonly code\b/m.test(body))
      .map(([, name]) => `${path}: ${name}`);
  });
  assert.deepEqual(wrong, []);
});
