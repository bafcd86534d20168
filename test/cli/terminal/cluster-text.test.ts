/** The status of a cluster on a terminal: what it shows of absent nodes and regions, and what counts as a problem. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { clusterProblems, clusterText } from "../../../src/cli/terminal/cluster-text.ts";
import type { ClusterStatus } from "../../../src/replication/index.ts";

const now = Date.UTC(2026, 10, 29, 12, 0, 0);
const link = { epoch: 3, position: 40, hash: "a".repeat(64) };
const node = (name: string, parts: object = {}) => ({
  ...{ node: name, boot: `${name}-1`, region: "eu", role: "proxy", version: "1.2.3", reads: 3, applied: link },
  ...{ enforced: link, lag: 0, digest: "d".repeat(64), configHash: "c".repeat(64), lastGrantAgoMs: 400 },
  ...{ fencedInMs: 60_000, digestMismatch: false, twin: null, heardAgoMs: 400, refusal: null },
  ...parts,
});
const absent = {
  node: "proxy-ap",
  boot: "b",
  region: "ap",
  role: "proxy",
  heardAt: now - 720_000,
  applied: 31,
  silentMs: 720_000,
};
const region = (name: string, parts: object = {}) => ({
  ...{ region: name, brokers: 0, nodes: 1, fenced: 0, absent: 0, cutOff: false, lag: 0, silentMs: 400 },
  ...parts,
});
const statusOf = (parts: object = {}): ClusterStatus =>
  ({
    ...{ cluster: "c", level: 3, brokers: [], nodes: [node("proxy-eu")], absent: [], regions: [region("eu")] },
    leader: {
      brokerId: "broker-1",
      url: null,
      epoch: 3,
      head: link,
      durability: "local",
      digest: "d",
      version: "1",
      reads: 3,
    },
    broker: { brokerId: "broker-1", leading: true, applied: link, store: "file" },
    ...parts,
  }) as unknown as ClusterStatus;
const rowOf = (text: string, name: string) => text.split("\n").find((line) => line.startsWith(name)) ?? "";

test("a healthy cluster has no problem, and every node is ok", () => {
  const status = statusOf();
  assert.equal(clusterProblems(status), 0);
  assert.match(rowOf(clusterText(status, now), "NODE"), /^NODE +REGION +ROLE +STATUS/);
  assert.match(rowOf(clusterText(status, now), "proxy-eu"), /eu +proxy +ok/);
});

test("an absent node and a region that is cut off are problems, and shown with the time when they were last heard from", () => {
  const gone = region("ap", { nodes: 0, fenced: 1, absent: 1, cutOff: true, lag: 9, silentMs: 720_000 });
  const status = statusOf({ absent: [absent], regions: [gone, region("eu")] });
  assert.equal(clusterProblems(status), 2);
  const text = clusterText(status, now);
  assert.match(rowOf(text, "proxy-ap"), /ap +proxy +absent .* heard 2026-11-29T11:48:00Z, 12 min ago/);
  assert.match(rowOf(text, "ap "), /CUT OFF$/);
});

test("a boot whose lease has just ended is not shown beside its absent node", () => {
  const fenced = node("proxy-ap", { region: "ap", fencedInMs: 0 });
  const text = clusterText(statusOf({ nodes: [fenced], absent: [absent] }), now);
  assert.equal(text.split("\n").filter((line) => line.startsWith("proxy-ap")).length, 1);
});

test("STATUS says why a node gets no lease, or for how long it is silent", () => {
  const nodes = [
    node("refused", { refusal: "its clock is off" }),
    node("silent", { heardAgoMs: 12_000, lastGrantAgoMs: 12_000 }),
    node("fenced", { fencedInMs: 0 }),
    node("new", { heardAgoMs: null, lastGrantAgoMs: null }),
  ];
  const text = clusterText(statusOf({ nodes }), now);
  assert.match(rowOf(text, "refused"), /proxy +refused/);
  assert.match(rowOf(text, "silent"), /proxy +silent 12\.0 s/);
  assert.match(rowOf(text, "fenced"), /proxy +fenced/);
  assert.match(rowOf(text, "new"), /proxy +not heard/);
});

test("in a region that is cut off it says so, until when leases by age count, its own nodes, and the others as last known", () => {
  const home = {
    region: "ap",
    silentMs: 34_000,
    leasesUntil: now + 31_000,
    lastKnown: { at: now - 36_000, regions: [region("ap"), region("eu")] },
  };
  const status = statusOf({ leader: null, home, absent: undefined, regions: undefined, nodes: [node("proxy-ap")] });
  assert.equal(clusterProblems(status), 1);
  const text = clusterText(status, now);
  assert.match(text, /^region ap: home out of reach for 34\.0 s; leases by age until 2026-11-29T12:00:31Z\n/);
  assert.match(text, /as last known 36\.0 s ago:/);
  assert.match(rowOf(text, "eu"), /ok$/);
  assert.match(rowOf(text, "proxy-ap"), /ok/);
  const ended = clusterText(
    statusOf({ leader: null, nodes: [], home: { ...home, leasesUntil: null, lastKnown: null } }),
    now,
  );
  assert.match(ended, /there are no leases by age\nthe state of the other regions is not known\n/);
});
