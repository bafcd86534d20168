/** Home brokers: what they say before a planned move of the home region, and why it should wait. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type HomeBroker, unmergedIn, whyNotReady } from "../../../src/cli/operator/home-brokers.ts";

function broker(region: string, parts: Partial<HomeBroker> = {}): HomeBroker {
  return {
    region,
    url: `https://${region}`,
    part: "region",
    problem: "",
    leading: false,
    mayLead: true,
    leader: null,
    unmerged: 0,
    mirror: "none",
    ...parts,
  };
}
const leader = broker("east", { part: "home", leading: true, unmerged: null });
const silent = broker("us", { part: null, problem: "refused", mayLead: null, unmerged: null });

test("a move to a region may begin when one of its brokers answers and the log has all that it revoked", () => {
  assert.equal(whyNotReady([leader, broker("us"), silent, broker("ap", { unmerged: 4 })], "us"), null);
  assert.equal(whyNotReady([leader, broker("us", { unmerged: null })], "us"), null, "a broker of an older build");
});

test("a move is not begun towards a region of which no broker answers: no change would be accepted", () => {
  assert.match(
    whyNotReady([leader, silent, broker("ap")], "us") ?? "",
    /no broker of us answers \(https:\/\/us: refused\)/,
  );
});

test("a move is not begun towards a region whose brokers only serve it: older builds, or without broker.homes", () => {
  const old = broker("us", { mayLead: false });
  assert.match(
    whyNotReady([leader, old, silent], "us") ?? "",
    /^no broker of us can lead \(https:\/\/us\), so no change .* Give it the same broker\.homes as this file and this build/,
  );
  assert.equal(whyNotReady([leader, old, broker("us")], "us"), null, "one of them can");
});

test("a move waits until a leader has recorded what the region revoked by itself; the largest count of its brokers holds", () => {
  const own = [broker("us", { unmerged: 0 }), broker("us", { unmerged: 3 })];
  assert.equal(unmergedIn([leader, ...own], "us"), 3);
  assert.match(
    whyNotReady([leader, ...own], "us") ?? "",
    /us has revocations of its own that the log does not have yet \(3\)/,
  );
});

test("without a leader elsewhere nothing could record them first, so a move does not wait for it", () => {
  const own = broker("us", { unmerged: 3 });
  assert.equal(whyNotReady([broker("east", { part: "home" }), own], "us"), null);
  assert.equal(whyNotReady([broker("us", { leading: true, unmerged: 3 })], "us"), null);
});
