/** Time-outs: which limit the whole exchange, which only its silence, and which combinations get a warning. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { base, config, goodRoute, warnings } from "./support.ts";

const withTimeouts = (globals: string, route: string): string => `${base}${globals}${goodRoute}${route}`;

describe("without any time-out in the file", () => {
  test("30 s limit a head, the silence of a body, and the wait for a response after the request", () => {
    const { timeouts, routes } = config(withTimeouts("", ""));
    assert.deepEqual(timeouts, { readMs: 30_000, readLimit: "silence", writeMs: 0, idleMs: 300_000 });
    assert.deepEqual([routes[0]?.timeoutMs, routes[0]?.timeoutFrom], [30_000, "body-end"]);
  });
});

describe("a configured time-out limits the whole exchange", () => {
  test("timeout_read, and the time-out of a route or of all routes", () => {
    const { timeouts } = config(withTimeouts("timeout_read: 30s\n", ""));
    assert.deepEqual([timeouts.readMs, timeouts.readLimit], [30_000, "request"]);
    for (const [globals, route] of [
      ["default_upstream_timeout: 30s\n", ""],
      ["", "    timeout: 30s\n"],
    ] as const) {
      const [resolved] = config(withTimeouts(globals, route)).routes;
      assert.deepEqual([resolved?.timeoutMs, resolved?.timeoutFrom], [30_000, "permit"]);
    }
  });
});

describe("a time-out made ineffective by another one is a warning", () => {
  const rows: readonly (readonly [globals: string, route: string, expected: RegExp])[] = [
    ["timeout_read: 10s\n", "    timeout: 0s\n", /routes\[0\]\.timeout: allows for more than timeout_read/],
    ["timeout_read: 10s\n", "    timeout: 11s\n", /routes\[0\]\.timeout: allows for more than timeout_read/],
    ["timeout_write: 10s\n", "    timeout: 0s\n", /routes\[0\]\.timeout: allows for more than timeout_write/],
    ["timeout_write: 10s\n", "    timeout: 11s\n", /routes\[0\]\.timeout: allows for more than timeout_write/],
    [
      "timeout_write: 10s\ndefault_upstream_timeout: 1m\n",
      "",
      /default_upstream_timeout: is longer than timeout_write/,
    ],
    ["", "    timeout: 10s\n    idle_timeout: 10s\n", /routes\[0\]\.idle_timeout: is never reached/],
  ];
  for (const [globals, route, expected] of rows)
    test(`${globals}${route}`.replaceAll(/\s+/g, " ").trim(), () => {
      assert.match(warnings(withTimeouts(globals, route)).join("\n"), expected);
    });

  for (const [globals, route] of [
    ["", "    timeout: 0s\n"],
    ["", "    timeout: 1h\n    idle_timeout: 5m\n"],
    ["timeout_read: 10s\ntimeout_write: 10s\n", "    timeout: 10s\n    idle_timeout: 0s\n"],
    ["timeout_read: 0s\n", "    timeout: 0s\n"],
    ["timeout_read: 10s\n", ""],
  ] as const)
    test(`no warning: ${globals}${route}`.replaceAll(/\s+/g, " ").trim(), () => {
      assert.doesNotMatch(warnings(withTimeouts(globals, route)).join("\n"), /timeout/);
    });
});
