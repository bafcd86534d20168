/**
 * Log throttling during an outage: one line per cause and minute, without stacks, with a count of the omitted lines.
 */
import assert from "node:assert/strict";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { causeKeyOf, describeError, LogThrottle } from "../../../src/cli/process/log-throttle.ts";
import { createLogger } from "../../../src/cli/process/logger.ts";
import { openOutput } from "../../../src/cli/terminal/output.ts";
import { TemporaryFolder } from "../../support/child.ts";

const refused = (port: number): Error =>
  new TypeError("fetch failed", {
    cause: Object.assign(new Error(`connect ECONNREFUSED 127.0.0.1:${port}`), { code: "ECONNREFUSED" }),
  });

test("the first line of a cause passes, then one per minute with the number of omitted lines", () => {
  const throttle = new LogThrottle<string>();
  assert.equal(throttle.admit("a", "1", 0), 0);
  for (let n = 2; n < 500; n++) assert.equal(throttle.admit("a", String(n), n), undefined);
  assert.equal(throttle.admit("b", "other", 500), 0);
  assert.deepEqual(throttle.due(59_999), []);
  assert.deepEqual(throttle.due(60_000), [{ line: "499", omitted: 498 }]);
  assert.equal(throttle.admit("a", "500", 60_001), undefined, "the next minute has begun");
  assert.equal(throttle.admit("a", "501", 120_000), 1);
  assert.deepEqual(throttle.due(300_000), [], "nothing was omitted, so the causes are forgotten");
  assert.equal(throttle.omitted, 499);
});

test("the memory of causes is bounded", () => {
  const throttle = new LogThrottle<string>();
  for (let n = 0; n < 5_000; n++) throttle.admit(`cause ${n}`, "x", n);
  assert.equal(throttle.admit("cause 4999", "x", 5_000), undefined);
  assert.equal(throttle.admit("cause 0", "x", 5_001), 0, "forgotten");
  const long = causeKeyOf(40, { error: "x".repeat(100_000) }, "m") ?? "";
  assert.ok(long.length <= 400);
});

test("the cause consists of the message, the innermost code and the names in the line, not of ids and numbers", () => {
  const key = (fields: object, message = "an upstream failed"): string | undefined => causeKeyOf(40, fields, message);
  assert.equal(key({ err: refused(1), requestId: "one" }), key({ err: refused(2), requestId: "two" }));
  assert.notEqual(key({ err: refused(1) }), key({ err: Object.assign(new Error("x"), { code: "ETIMEDOUT" }) }));
  assert.notEqual(key({ routeId: "a", code: "E" }), key({ routeId: "b", code: "E" }));
  assert.notEqual(key({ code: "E" }), key({ code: "E" }, "another message"));
  assert.equal(key({ position: 1 }), undefined, "no cause, so never omitted");
  assert.equal(key({ cause: "SIGHUP", problems: 2 }, "refused"), undefined, "each refused reload is logged");
  assert.equal(key({ error: "after 12 ms" }), key({ error: "after 13 ms" }));
});

test("an error that names its cause has no stack; an unexpected one keeps it", () => {
  assert.deepEqual(describeError(refused(7)), {
    type: "TypeError",
    message: "fetch failed: connect ECONNREFUSED 127.0.0.1:7",
    code: "ECONNREFUSED",
  });
  assert.match(JSON.stringify(describeError(new TypeError("x is not a function"))), /"stack":"TypeError: x is not/);
  assert.match(JSON.stringify(describeError(new Error("broken"))), /"stack"/);
});

test("the logger of a process writes one line for hundreds of failures of one cause, and all lines without a cause", async () => {
  using folder = new TemporaryFolder("log");
  const path = join(folder.path, "log");
  const fd = openSync(path, "w");
  const output = openOutput({ fd, noticeOf: () => "" });
  const logger = createLogger("info", { facts: { node: "n" }, output });
  for (let n = 0; n < 300; n++) {
    logger.warn({ err: refused(n), broker: "b" }, "no broker answers");
    logger.error({ error: "unreachable", sink: "s" }, "an audit sink fails");
    logger.info({ n }, "as usual");
  }
  logger.warn({ n: 1 }, "no cause");
  logger.warn({ n: 2 }, "no cause");
  await output.close();
  closeSync(fd);
  const lines = readFileSync(path, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const count = (message: string): number => lines.filter((line) => line.message === message).length;
  assert.deepEqual(["no broker answers", "an audit sink fails", "as usual", "no cause"].map(count), [1, 1, 300, 2]);
  assert.equal(output.stats().leftOutLines, 598);
  assert.doesNotMatch(JSON.stringify(lines), /"stack"/);
});
