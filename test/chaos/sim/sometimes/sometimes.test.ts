/** The situations that a run must reach: each is detected when it happens, and a run without faults reaches none. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Reached, type Situation, Sometimes, situations } from "../../../../chaos/sim/sometimes.ts";
import type { Stream, UserId } from "../../../../src/events/index.ts";
import { History } from "../monitors/history.ts";

const own = { node: "node-1", boot: "boot-1" };
const leader = { process: "broker-1" };

function begun(): readonly [History, Sometimes] {
  const history = History.begun();
  const sometimes = new Sometimes(history.watch.truth);
  for (const fact of history.facts) sometimes.report(fact);
  history.also.push((fact) => sometimes.report(fact));
  return [history, sometimes];
}

const regional = {
  role: "broker",
  boot: "boot-r",
  node: "region-1",
  lessee: "broker",
  region: "west",
  build: "1",
  unknownTypes: [],
};

const refused = (code: string, message: string) => ({ type: "refused", code, message });
const directoryRun = { process: "broker-1", run: 1, mode: "full", isEmpty: false, state: { people: {}, groups: {} } };
const accepted = { process: "operator", receiver: "r", jti: "t1", content: "" };

const examples: Readonly<Record<Situation, (history: History) => unknown>> = {
  "logged-out-before": (h) => h.answer("c1", refused("logged-out", "")),
  "name-taken-meanwhile": (h) =>
    h.answer("c1", refused("conflict", "the user name may have been given to another person meanwhile")),
  "change-held": (h) => h.answer("c1", refused("held", "")),
  "drop-not-seen": (h) =>
    h.answer("c1", refused("conflict", "the held change has changed since you looked at it; look again")),
  "decided-meanwhile": (h) => h.answer("c1", refused("conflict", "the request is no longer pending: it is denied")),
  "own-request-refused": (h) => h.answer("c1", refused("forbidden", "you cannot decide about your own request: x")),
  "directory-run-cut": (h) =>
    h.tell("directory-run", directoryRun).tell("directory-run", { ...directoryRun, process: "broker-2" }),
  "directory-in-part": (h) => h.tell("directory-page", { run: 1, what: "partial" }),
  "signal-repeated": (h) => h.tell("signal-accepted", accepted).tell("signal-accepted", accepted),
  "receipt-by-expiry": (h) => h.receipt({ nodes: [nodeStatus("fenced")] }),
  "receipt-incomplete": (h) => h.receipt({ nodes: [nodeStatus("unconfirmed")], complete: false, status: "incomplete" }),
  "grant-after-pause": (h) => paused(h.renew().beat().grant(), "stopped", 2_000).take(),
  "page-across-epochs": (h) => {
    const after = h.head;
    h.open("broker-2").tell("page-served", { ...page, after, last: h.head, head: h.head });
  },
  "node-ahead": (h) => forked(h),
  "two-leaders": (h) => h.open("broker-2"),
  "snapshot-in-failover": (h) =>
    h
      .tell("leading", { process: "broker-1", epoch: 1, leading: false })
      .tell("snapshot-loaded", { ...own, from: "broker", link: h.head, digest: "d2" }),
  "indeterminate-committed": (h) => unclearAppend(h).clean().over(),
  "indeterminate-lost": (h) => unclearAppend(h).over(),
  "lost-token": (h) => {
    const token = forked(h);
    h.request({ token }).decide({ verdict: "deny" });
  },
  "served-in-grace": (h) => h.later(7_000).permit({ overdueMs: 2_000 }),
  "outlived-leader": (h) => h.open("broker-2").later(7_000).permit({ overdueMs: 2_000 }),
  "forged-refused": (h) => h.tell("forged", { how: "forged", kind: "grant", to: "node-1" }).tell("message-refused"),
  "replayed-refused": (h) =>
    h.tell("forged", { how: "replayed", kind: "grant", to: "node-1" }).take({ taken: false, nonce: 1 }),
  "consumer-cut": (h) => h.tell("nats-happened", { process: "nats-1", what: "consumer-cut", about: "node-1" }),
  "buffer-lost": (h) => h.tell("nats-happened", { process: "nats-1", what: "suffix-lost", about: "" }),
  reasserted: (h) =>
    h.tell("reasserted", { process: "broker-1", lost: h.head, stream: "session:s1", outcome: "appended" }),
  "reader-recovered": (h) => {
    h.tell("page-served", { ...page, after: h.applied, last: h.applied, head: h.head, outcome: "truncated" });
    h.create("s2").tell("snapshot-loaded", { ...own, from: "broker", link: h.head, digest: "d3" });
    h.applied = h.head;
    h.create("s3").apply();
  },
  "drift-refused": (h) =>
    h.tell("grant-refused", { ...own, process: "broker-1", reason: "its monotonic clock runs at least 0.80 % slower" }),
  "wall-clock-refused": (h) =>
    h.tell("clock-set", { rate: 1, wallOffsetMs: -9_000 }).request().decide({ verdict: "unavailable" }),
  "suspend-noticed": (h) => paused(h, "suspended", 900).request().decide({ verdict: "unavailable" }),
  "upgrade-finished": (h) => h.append({ type: "UpgradeFinalized", level: 2 }, "finalize"),
  "finalize-refused": (h) =>
    h.answer("finalize", {
      type: "refused",
      code: "conflict",
      message: "level 2 is not finalized: node-1 reads level 1",
    }),
  "left-behind": (h) =>
    h.tell("grant-refused", { ...own, process: "broker-1", reason: "the cluster has finalized level 2, and …" }),
  "unknown-obeyed": (h) => unknownEvent(h, "tightens"),
  "unknown-ended-freshness": (h) => unknownEvent(h, "either"),
  "hung-commit": (h) => h.write([], h.head, { op: "beat" }).later(1_500).clean(),
  "writer-fenced": (h) =>
    h.tell("log-answered", { process: "pg-1", txn: 1, to: "broker-1", op: "beat", outcome: "fenced" }),
  "old-primary-wrote": (h) =>
    h
      .tell("started", { process: "pg-2", role: "postgres", boot: null, unknownTypes: [] })
      .tell("promoted", { process: "pg-2", how: "procedure", head: h.head })
      .write([], h.head, { op: "beat" }),
  "acknowledged-lost": (h) => forked(h),
  restored: (h) => h.tell("promoted", { process: "pg-2", how: "restored", head: h.head }),
  "repeated-command": (h) =>
    h.tell("log-answered", { process: "pg-1", txn: 1, to: "broker-1", op: "append", outcome: "duplicate-command" }),
  "sent-ahead": (h) => h.tell("made-ahead", { process: "broker-1", became: "sent" }),
  "thrown-away": (h) => h.tell("made-ahead", { process: "broker-1", became: "thrown-away" }),
  "boot-removed": (h) =>
    h.tell("goodbye-sent", { ...own, nonce: 9 }).tell("boot-left", { ...own, process: "broker-1", how: "goodbye" }),
  "stream-cut": (h) => h.permit().tell("exchange-ended", { ...own, request: 1, how: "cut", reason: "session-revoked" }),
  "folded-while-building": (h) =>
    buildingSnapshot(h)
      .create("s2")
      .follow()
      .tell("snapshot-built", { ...leader, link: h.head, digest: null, id: "f" }),
  "builder-killed": (h) => buildingSnapshot(h).tell("killed", { ...leader, boot: "boot-b" }),
  "builder-deposed": (h) => buildingSnapshot(h).tell("leading", { ...leader, epoch: 1, leading: false }),
  "snapshot-not-stored": (h) =>
    buildingSnapshot(h).tell("snapshot-given-up", { ...leader, reason: "Error: the disk is full" }),
  "duty-after-epoch": (h) =>
    h
      .tell("leading", { ...leader, epoch: 1, leading: false })
      .tell("duty-submitted", { ...leader, duty: "visits", commandId: "c", epoch: 1, incarnation: "i1" })
      .tell("duty-answered", { ...leader, duty: "visits", commandId: "c", outcome: "unavailable" }),
  "released-early": (h) => h.tell("synchronous-set", { process: "pg-1", standbys: 0, released: 1 }),
  "names-without-wait": (h) =>
    h
      .tell("names-set", { process: "pg-1", standbys: 1 })
      .tell("synchronous-set", { process: "pg-1", standbys: 0 })
      .create("s2"),
  "said-asynchronous": (h) =>
    h
      .tell("names-set", { process: "pg-1", standbys: 1 })
      .tell("receipt-signed", { process: "broker-1", receipt: 1, durability: "asynchronous" }),
  "granted-by-age": (h) => h.renew().grant({ process: "region-1", agedMs: 1_000 }),
  "restarted-while-leased": (h) =>
    h
      .renew()
      .grant({ process: "region-1", agedMs: 1_000 })
      .later(500)
      .tell("started", { process: "region-1", ...regional }),
  "two-regions-by-age": (h) =>
    regionalBrokers(h, ["region-1", "west"], ["region-2", "south"])
      .renew()
      .grant({ process: "region-1", agedMs: 1_000 })
      .later(500)
      .grant({ process: "region-2", agedMs: 1_000 }),
  "moved-between-brokers": (h) =>
    regionalBrokers(h, ["region-1", "west"], ["region-2", "west"])
      .renew()
      .grant({ process: "region-1", agedMs: 1_000 })
      .take({ by: "region-1", agedMs: 1_000 })
      .renew()
      .grant({ process: "region-2", agedMs: 1_000 })
      .take({ by: "region-2", agedMs: 1_000 }),
  "one-broker-by-age": (h) =>
    regionalBrokers(h, ["region-1", "west"], ["region-2", "west"])
      .take({ process: "region-2", node: "region-2", boot: "boot-r" })
      .renew()
      .grant({ process: "region-1", agedMs: 1_000 }),
  "region-without-brokers": (h) =>
    regionalBrokers(h.startNode({ region: "west" }), ["region-1", "west"], ["region-2", "west"])
      .tell("killed", { process: "region-1", boot: "boot-r" })
      .tell("killed", { process: "region-2", boot: "boot-r" })
      .permit(),
  "revoked-locally": (h) => h.tell("local-answered", { ...accepting, answer: "local", revocation }),
  "suspended-locally": (h) => h.tell("local-answered", { ...accepting, answer: "local", revocation: suspension }),
  "local-receipt-complete": (h) => localReceipt(h, "applied"),
  "local-receipt-waits": (h) => localReceipt(h, "unconfirmed"),
  "local-receipt-fenced": (h) => localReceipt(h, "fenced"),
  "local-refused": (h) =>
    h.tell("local-answered", { ...accepting, answer: "refused", code: "local-broker-unreachable" }),
  "revocation-outlived-boot": (h) =>
    h
      .tell("revocation-stored", { process: "region-1", revocation, place })
      .tell("started", { process: "region-1", ...regional }),
  "revoked-by-both": (h) =>
    h
      .tell("revocation-stored", { process: "region-1", revocation, place })
      .tell("revocation-stored", { process: "region-2", revocation: { ...revocation, key: "t2" }, place }),
  "restored-meanwhile": (h) =>
    h
      .tell("local-answered", { ...accepting, answer: "local", revocation: suspension })
      .append({ type: "UserRestored", userId: "ada" as UserId }, "c8"),
  "local-merged": (h) =>
    h
      .tell("revocation-stored", { process: "region-1", revocation, place })
      .append({ type: "UserRestored", userId: "ada" as UserId }, "c1"),
  "healed-node-behind": (h) =>
    h
      .tell("started", { ...regional, ...own, process: "node-1", role: "node", lessee: "proxy" })
      .tell("revocation-stored", { process: "region-1", revocation, place })
      .append({ type: "UserRestored", userId: "ada" as UserId }, "c1"),
  "disk-snapshot": (h) => h.tell("snapshot-loaded", { ...own, from: "disk", link: h.head, digest: "d2" }),
};

for (const [situation, example] of Object.entries(examples)) {
  test(`detected: ${situations[situation as Situation].what}`, () => {
    const [history, sometimes] = begun();
    assert.equal(sometimes.reached.has(situation as Situation), false);
    example(history);
    assert.ok(sometimes.reached.has(situation as Situation), `reached: ${[...sometimes.reached.keys()].join(", ")}`);
  });
}

test("a run without faults reaches no situation", () => {
  const [history, sometimes] = begun();
  history.permit().carry().create("s2").apply().lease().receipt().over();
  assert.deepEqual([...sometimes.reached.keys()], []);
});

test("situations that so many seeds must reach are reported as missing", () => {
  const reached = new Reached();
  for (let seed = 0; seed < 20; seed += 1) reached.add(seed === 7 ? ["stream-cut", "two-leaders"] : []);
  const missing = reached.missing();
  assert.ok(missing.includes("receipt-by-expiry"));
  assert.ok(!missing.includes("stream-cut"));
  assert.ok(!missing.includes("disk-snapshot"), "twenty seeds need not reach it");
});

const page = { process: "broker-1", to: "node-1", count: 1, outcome: "page" };

const accepting = { process: "region-1", commandId: "c1" };
const place = { store: "a", seq: 1 };
const revocation = {
  ...{ key: "t1", commandId: "c1", mergeIds: ["c1", "h1"], region: "west", sessions: ["s1"], suspended: null },
};
const suspension = { ...revocation, sessions: [], suspended: "ada" };

function localReceipt(history: History, status: "applied" | "fenced" | "unconfirmed"): History {
  const nodes = [{ ...own, status }];
  return history.tell("local-receipt-answered", {
    ...{ process: "region-1", key: "t1", complete: status !== "unconfirmed", nodes },
  });
}
function regionalBrokers(history: History, ...all: readonly (readonly [name: string, region: string])[]): History {
  for (const [process, region] of all) history.tell("started", { process, ...regional, node: process, region });
  return history;
}
function nodeStatus(status: "fenced" | "unconfirmed") {
  const node = { node: "node-1", boot: "boot-1", region: "eu", role: "proxy", status, fencedInMs: 0, reason: "" };
  return { ...node, enforced: null } as never;
}
function paused(history: History, how: "stopped" | "suspended", pausedMs: number): History {
  return history.tell("paused", { how }).later(pausedMs).tell("resumed", { pausedMs });
}
/** @returns the link that the node had applied, which the surviving log lacks */
function forked(history: History): History["head"] {
  const before = history.head;
  history.revoke("s1").apply().tell("killed", { process: "pg-1", boot: null });
  history
    .tell("promoted", { process: "pg-2", how: "unsafe", head: before })
    .tell("rebuilding", { ...own, lost: history.head });
  return history.head;
}
function buildingSnapshot(history: History): History {
  return history.tell("snapshot-begun", { ...leader, link: history.head });
}
function unclearAppend(history: History): History {
  const previous = history.head;
  const event = { unknown: "Anything", stream: "session:s1" as Stream, effect: "neutral" as const };
  history.write([history.entry(event)], previous);
  const { txn } = history.facts.at(-1) as never as { txn: number };
  return history.tell("log-answered", { process: "pg-1", txn, to: "broker-1", op: "append", outcome: "indeterminate" });
}
function unknownEvent(history: History, effect: "tightens" | "either"): History {
  history
    .tell("killed", { boot: "boot-1" })
    .startNode({ unknownTypes: ["SessionBanned"] })
    .apply();
  const previous = history.head;
  const event = { unknown: "SessionBanned", stream: "session:s1" as Stream, effect };
  return history
    .write([history.entry(event)], previous)
    .clean()
    .apply();
}
