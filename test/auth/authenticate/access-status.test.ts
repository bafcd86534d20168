/** The state of an access request as its person sees it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { requestStatusAt } from "../../../src/auth/authenticate/access/requestable-routes.ts";
import type { UnixMs } from "../../../src/events/index.ts";

test("approved access is over at its end, before the log has the event of it", () => {
  const until = 2_000 as UnixMs;
  assert.equal(requestStatusAt({ status: "approved", until }, 1_999), "approved");
  assert.equal(requestStatusAt({ status: "approved", until }, 2_000), "expired");
  assert.equal(requestStatusAt({ status: "pending", until: null }, 2_000), "pending");
  assert.equal(requestStatusAt({ status: "ended", until }, 1_000), "ended");
});
