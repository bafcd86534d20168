/** Arguments: `--region` alone, and with the name of a region. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parse, waitOptions } from "../../../src/cli/terminal/arguments.ts";
import { UsageError } from "../../../src/cli/terminal/command.ts";

const parsed = (args: readonly string[], positionals = { min: 1, max: 1 }) => {
  const { text, flag, positionals: rest } = parse(args, waitOptions, positionals);
  return [flag("region"), text("region"), rest];
};

test("--region names the server's own region, or the region after it", () => {
  assert.deepEqual(parsed(["alice"]), [false, undefined, ["alice"]]);
  assert.deepEqual(parsed(["alice", "--wait", "--region"]), [true, undefined, ["alice"]]);
  assert.deepEqual(parsed(["alice", "--region", "--wait"]), [true, undefined, ["alice"]]);
  assert.deepEqual(parsed(["alice", "--wait", "--region", "ap"]), [true, "ap", ["alice"]]);
  assert.deepEqual(parsed(["--region=ap", "alice"]), [true, "ap", ["alice"]]);
  assert.deepEqual(parsed(["--region", "ap", "alice"]), [true, "ap", ["alice"]]);
});

test("a word after --region that the command needs is its argument, as before", () => {
  assert.deepEqual(parsed(["--wait", "--region", "alice"]), [true, undefined, ["alice"]]);
  assert.throws(() => parsed(["--wait", "--region=alice"]), UsageError);
  assert.deepEqual(parsed(["--region", "--", "alice"]), [true, undefined, ["alice"]]);
});
