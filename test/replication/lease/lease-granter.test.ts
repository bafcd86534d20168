/**
 * Lease granter: which renewals a leader grants, which lessees it counts, and what it accepts as enforced.
 *
 * - The last group runs random sequences of messages and writes against the rules of docs/protocol.md §5.1 and §5.3.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type {
  BootId,
  Epoch,
  Hash,
  Incarnation,
  Link,
  MonotonicMs,
  NodeId,
  Position,
  UnixMs,
} from "../../../src/events/index.ts";
import { driftOf, newDriftWatch, observeClock } from "../../../src/replication/lease/drift-watch.ts";
import {
  type DigestComparison,
  digestMismatch,
  fenceAfterMs,
  type GranterOptions,
  LeaseGranter,
  type LesseeStatus,
} from "../../../src/replication/lease/index.ts";
import type { Lessee } from "../../../src/replication/log/index.ts";
import type { Grant, Renew } from "../../../src/replication/wire/index.ts";
import { fc } from "../../support/property.ts";

const epoch = 3 as Epoch;
const at = (position: number): Link => ({
  epoch,
  position: position as Position,
  hash: position.toString(16).padStart(64, "0") as Hash,
});
const linkOnOtherChain = (position: number): Link => ({ ...at(position), hash: "f".repeat(64) as Hash });
const mono = (ms: number): MonotonicMs => ms as MonotonicMs;
const clocks = (ms: number) => ({ monotonic: mono(ms), wall: ms as UnixMs });
/** A chain of `at(1)`, `at(2)` … up to `head`. */
const chain = (head: number) => (link: Link) => link.position <= head && link.hash === at(link.position).hash;
const view = (ms: number, head = 100, digest: DigestComparison = "same") => ({
  at: mono(ms),
  onChain: chain(head),
  digest,
});

const defaults: GranterOptions = {
  epoch,
  incarnation: "i" as Incarnation,
  start: 5 as Position,
  openedAt: mono(0),
  lessees: [],
  deltaMs: 5_000,
  drift: 0.01,
  windowMaxMs: 60_000,
  exclusive: false,
};
const granterWith = (parts: Partial<GranterOptions> = {}) => new LeaseGranter({ ...defaults, ...parts });

function renewOf(parts: Partial<Renew> = {}): Renew {
  return {
    node: "proxy-1" as NodeId,
    boot: "boot-1" as BootId,
    nonce: 1,
    region: "eu",
    role: "proxy",
    version: "1",
    windowMs: 5_000,
    applied: at(10),
    enforced: at(10),
    digest: "",
    configHash: "",
    replaces: null,
    reads: 1,
    monotonicMs: 0,
    ...parts,
  };
}
function lesseeOf(parts: Partial<Lessee> = {}): Lessee {
  const { node, boot, region, role, windowMs } = renewOf();
  return { node, boot, region, role, windowMs, ...parts };
}

const { node, boot: bootId } = renewOf();
const boot = { node, boot: bootId };

/** A beat from its start to a clean commit. */
function beat(granter: LeaseGranter, ms: number, head = 10) {
  const round = granter.beginWrite("beat", mono(ms));
  return { round, grants: granter.grantAfterCommit(round, at(head), clocks(ms)) };
}
const windows = (grants: readonly Readonly<{ grant: Grant }>[]) => grants.map(({ grant }) => grant.windowMs);
const only = (granter: LeaseGranter, ms: number) => {
  const [status] = granter.statuses(mono(ms));
  return status ?? assert.fail("no lessee");
};

test("the lowest confirmed position is that of lessees whose lease may count, of a region or of all", () => {
  const granter = granterWith();
  const now = { ...view(0), onChain: chain(100) };
  const renewAt = (name: string, region: string, enforced: number) =>
    granter.renew(
      renewOf({ node: name as NodeId, boot: name as BootId, region, applied: at(enforced), enforced: at(enforced) }),
      "remote",
      now,
    );
  renewAt("a", "eu", 20);
  renewAt("b", "us", 30);
  const lowest = (region: string | null, ms = 20) => granter.lowestEnforced(mono(ms), region);
  assert.equal(lowest(null), Number.POSITIVE_INFINITY, "no lease may count yet");
  beat(granter, 10, 40);
  assert.deepEqual([lowest(null), lowest("eu"), lowest("us")], [20, 20, 30]);
  assert.equal(lowest("ap"), Number.POSITIVE_INFINITY);
  granter.confirm({ node: "a" as NodeId, boot: "a" as BootId, nonce: 2, enforced: at(40) }, now);
  assert.deepEqual([lowest(null), lowest("eu")], [30, 40]);
  assert.equal(lowest(null, 60_000), Number.POSITIVE_INFINITY, "all are fenced");
  renewAt("silent", "eu", 4);
  beat(granter, 30, 40);
  assert.equal(lowest("eu"), -1, "what it enforced before the epoch is not on this chain");
});

test("all nodes together may confirm 500 times a second; a single node is not limited", () => {
  const pauseOf = (nodes: number): number | undefined => {
    const granter = granterWith();
    for (let n = 0; n < nodes; n++)
      granter.renew(renewOf({ node: `proxy-${n}` as NodeId, boot: `boot-${n}` as BootId }), "remote", view(0));
    return beat(granter, 10).grants[0]?.grant.confirmPauseMs;
  };
  assert.deepEqual([1, 2, 100, 1_000].map(pauseOf), [undefined, 4, 200, 2_000]);
});

test("a confirmation has the time at which the leader learned of it, and an older change that of the oldest kept one", () => {
  const granter = granterWith();
  granter.renew(renewOf(), "remote", view(0));
  beat(granter, 10);
  for (let n = 1; n <= 200; n++) {
    const confirm = { ...boot, nonce: 2 * n, enforced: at(10 + n) };
    assert.equal(granter.confirm(confirm, view(100 + n, 300)), "accepted");
    granter.confirm({ ...confirm, nonce: 2 * n + 1 }, view(5_000 + n, 300)); // says nothing new
  }
  const { confirmations } = only(granter, 9_000);
  const when = (position: number) => confirmations.find((each) => each.position >= position)?.at;
  assert.ok(confirmations.length <= 64 && confirmations.length >= 32, `${confirmations.length} are kept`);
  assert.equal(when(210), 300);
  assert.equal(when(200), 290);
  assert.ok((when(11) ?? 0) >= 101, "never before the confirmation");
});

describe("grants", () => {
  test("a beat that starts after a renewal arrived grants it, and the grant carries every limit the node must keep", () => {
    const granter = granterWith();
    granter.renew(renewOf({ nonce: 4 }), "remote", view(100));
    const { round, grants } = beat(granter, 200, 12);
    assert.deepEqual(round.lessees, [lesseeOf()]);
    assert.deepEqual(grants[0]?.grant, {
      ...{ node: "proxy-1", boot: "boot-1", nonce: 4, epoch, incarnation: "i", start: 5, head: at(12) },
      ...{ deltaMs: 5_000, drift: 0.01, windowMs: 5_000, wallMs: 200 },
    });
  });

  test("a write already in flight when the renewal arrives does not grant it, even if its row is durable; the next write does", () => {
    for (const kind of ["beat", "append"] as const) {
      const granter = granterWith({ lessees: [lesseeOf()] });
      const round = granter.beginWrite(kind, mono(0));
      granter.renew(renewOf(), "remote", view(1));
      assert.deepEqual(granter.grantAfterCommit(round, at(10), clocks(2)), []);
      const next = granter.beginWrite(kind, mono(3));
      assert.equal(granter.grantAfterCommit(next, at(10), clocks(4)).length, 1);
    }
  });

  test("W covers a node whose clock is slow and a leader whose clock is fast, both by ρ", () => {
    const realMs = 5_000 / (1 - 0.01); // the longest time that the node's lease can last
    assert.ok(fenceAfterMs(5_000, 0.01) >= realMs * (1 + 0.01));
  });

  test("an append grants only the renewals whose row is already durable", () => {
    const granter = granterWith();
    granter.renew(renewOf(), "remote", view(0));
    const first = granter.beginWrite("append", mono(1));
    assert.deepEqual(granter.grantAfterCommit(first, at(11), clocks(2)), []);
    assert.ok(granter.needsBeat(mono(3)));
    assert.equal(beat(granter, 3).grants.length, 1);
    granter.renew(renewOf({ nonce: 2 }), "remote", view(10));
    const second = granter.beginWrite("append", mono(11));
    assert.equal(granter.grantAfterCommit(second, at(12), clocks(12)).length, 1);
  });

  test("a write whose outcome is not clean grants nothing", () => {
    const granter = granterWith();
    granter.renew(renewOf(), "remote", view(0));
    granter.dropRound(granter.beginWrite("beat", mono(1)));
    const { round, grants } = beat(granter, 2);
    assert.deepEqual([round.tickets.length, grants.length], [0, 0]);
    assert.deepEqual(granter.statuses(mono(2)), []);
  });

  test("a longer window is written to the row before it is granted; a shorter one is granted at once", () => {
    const granter = granterWith();
    granter.renew(renewOf({ windowMs: 20_000 }), "remote", view(0));
    beat(granter, 0);
    granter.renew(renewOf({ nonce: 2, windowMs: 40_000 }), "remote", view(10));
    const append = granter.beginWrite("append", mono(11));
    assert.deepEqual(granter.grantAfterCommit(append, at(11), clocks(11)), []);
    const grown = beat(granter, 12);
    assert.deepEqual([grown.round.lessees[0]?.windowMs, windows(grown.grants)], [40_000, [40_000]]);
    granter.renew(renewOf({ nonce: 3, windowMs: 5_000 }), "remote", view(20));
    const shrunk = beat(granter, 21);
    assert.deepEqual([shrunk.round.lessees, windows(shrunk.grants)], [[], [5_000]]);
    // The node may still hold the grant with the long window.
    assert.equal(only(granter, 12).fencedInMs, fenceAfterMs(40_000, 0.01));
  });

  test("a window above the limit is cut to the limit, and one below Δ is raised to Δ", () => {
    const granter = granterWith();
    granter.renew(renewOf({ windowMs: 3_600_000 }), "remote", view(0));
    assert.deepEqual(windows(beat(granter, 1).grants), [60_000]);
    granter.renew(renewOf({ boot: "boot-2" as BootId, windowMs: 10 }), "remote", view(2));
    assert.deepEqual(windows(beat(granter, 3).grants), [5_000]);
  });

  test("a repeated renewal is refused, and one that arrives after a newer one gets no grant", () => {
    const granter = granterWith();
    granter.renew(renewOf({ nonce: 7 }), "remote", view(0));
    assert.deepEqual(granter.renew(renewOf({ nonce: 7 }), "remote", view(1)), {
      type: "refused",
      refusal: { code: "repeated", message: "repeated" },
      overNodeLimit: false,
    });
    assert.deepEqual(granter.renew(renewOf({ nonce: 6 }), "remote", view(1)), { type: "overtaken" });
    assert.deepEqual(
      beat(granter, 2).grants.map(({ grant }) => grant.nonce),
      [7],
    );
  });

  test("with an exclusive log, a node in the leader's process is granted without a write or a row; a remote node is not", () => {
    const granter = granterWith({ exclusive: true });
    const answer = granter.renew(renewOf(), "in-process", view(0));
    assert.equal(answer.type, "ready");
    assert.equal(answer.type === "ready" && granter.grantNow(answer.ticket, at(10), clocks(0))?.head.position, 10);
    assert.equal(granter.needsBeat(mono(1)), false);
    const remote = granter.renew(renewOf({ boot: "boot-2" as BootId }), "remote", view(0));
    assert.equal(remote.type, "queued");
    assert.equal(remote.type === "queued" && granter.grantNow(remote.ticket, at(10), clocks(0)), undefined);
    assert.equal(beat(granter, 2).round.lessees.length, 1);
  });

  test("with a shared log, a node in the leader's process waits for a beat like any other", () => {
    assert.equal(granterWith().renew(renewOf(), "in-process", view(0)).type, "queued");
  });
});

describe("leaving", () => {
  const goodbye = { node: "proxy-1" as NodeId, boot: "boot-1" as BootId, nonce: 9 };

  test("a goodbye removes the lessee at once and its row with the next beat; the boot is never granted again", () => {
    const granter = granterWith();
    granter.renew(renewOf(), "remote", view(0));
    beat(granter, 1);
    granter.goodbye(goodbye);
    assert.deepEqual(granter.statuses(mono(2)), []);
    assert.equal(granter.renew(renewOf({ nonce: 10 }), "remote", view(3)).type, "refused");
    assert.deepEqual(beat(granter, 4).round.left, [{ node: "proxy-1", boot: "boot-1" }]);
    assert.deepEqual(beat(granter, 5).round.left, []);
    assert.equal(granter.renew(renewOf({ nonce: 11 }), "remote", view(6)).type, "refused");
  });

  test("a row is removed again if the goodbye arrives while the row is being written", () => {
    const granter = granterWith();
    granter.renew(renewOf(), "remote", view(0));
    const round = granter.beginWrite("beat", mono(1));
    granter.goodbye(goodbye);
    assert.deepEqual(granter.grantAfterCommit(round, at(10), clocks(2)), []);
    assert.deepEqual(granter.beginWrite("beat", mono(3)).left, [{ node: "proxy-1", boot: "boot-1" }]);
  });

  test("a row whose removal failed with its beat is removed with the next one", () => {
    const granter = granterWith({ lessees: [lesseeOf()] });
    granter.goodbye(goodbye);
    granter.dropRound(granter.beginWrite("beat", mono(1)));
    assert.equal(granter.beginWrite("beat", mono(2)).left.length, 1);
  });

  test("a boot that replaces an earlier boot of its node removes that boot from the lessees", () => {
    const granter = granterWith({ lessees: [lesseeOf()] });
    granter.renew(renewOf({ boot: "boot-2" as BootId, replaces: "boot-1" as BootId }), "remote", view(1));
    const { round } = beat(granter, 2);
    assert.deepEqual(round.left, [{ node: "proxy-1", boot: "boot-1" }]);
    assert.deepEqual(
      granter.statuses(mono(2)).map(({ boot }) => boot),
      ["boot-2"],
    );
  });

  const second = { boot: "boot-2" as BootId, replaces: "boot-1" as BootId };
  const boot1 = { node: "proxy-1" as NodeId, boot: "boot-1" as BootId };
  const bootsOf = (granter: LeaseGranter, now: number) => granter.statuses(mono(now)).map(({ boot }) => boot);

  test("a replaced boot that renews is alive: it counts again, gets a row before its next grant, and is not replaced again", () => {
    const granter = granterWith();
    granter.renew(renewOf(), "remote", view(0));
    beat(granter, 1);
    granter.renew(renewOf(second), "remote", view(2));
    assert.deepEqual(beat(granter, 3).round.left, [{ node: "proxy-1", boot: "boot-1" }]);
    assert.deepEqual(bootsOf(granter, 3), ["boot-2"]);
    assert.equal(granter.renew(renewOf(), "remote", view(4)).type, "refused", "a repeated message proves nothing");
    assert.deepEqual(bootsOf(granter, 4), ["boot-2"]);
    assert.equal(granter.renew(renewOf({ nonce: 2, monotonicMs: 5 }), "remote", view(5)).type, "queued");
    assert.deepEqual(
      bootsOf(granter, 5),
      ["boot-1", "boot-2"],
      "it counts before its next grant, because it may be deciding",
    );
    const { round, grants } = beat(granter, 6);
    assert.deepEqual(
      round.lessees.map(({ boot }) => boot),
      ["boot-1"],
    );
    assert.equal(grants.length, 1);
    granter.renew(renewOf({ ...second, nonce: 2, monotonicMs: 7 }), "remote", view(7));
    assert.deepEqual(bootsOf(granter, 7), ["boot-1", "boot-2"]);
  });

  test("a replaced boot that confirms counts again, with the window of its earlier grants", () => {
    const granter = granterWith();
    granter.renew(renewOf(), "remote", view(0));
    beat(granter, 1);
    granter.renew(renewOf(second), "remote", view(2));
    beat(granter, 3);
    assert.equal(granter.confirm({ ...boot1, nonce: 2, enforced: at(11) }, view(4)), "accepted");
    const [status] = granter.statuses(mono(4));
    assert.deepEqual([status?.boot, status?.enforced], ["boot-1", at(11)]);
    assert.equal(status?.fencedInMs, 1 + fenceAfterMs(5_000, 0.01) - 4);
  });

  test("the row of a replaced boot that renews again names its longest window, even if it requests a shorter one now", () => {
    const granter = granterWith();
    granter.renew(renewOf({ windowMs: 20_000 }), "remote", view(0));
    beat(granter, 1);
    granter.renew(renewOf(second), "remote", view(2));
    beat(granter, 3);
    granter.renew(renewOf({ nonce: 2, monotonicMs: 4, windowMs: 5_000 }), "remote", view(4));
    assert.deepEqual(
      beat(granter, 5).round.lessees.map(({ boot, windowMs }) => [boot, windowMs]),
      [["boot-1", 20_000]],
    );
  });

  test("a replaced boot that says goodbye has left", () => {
    const granter = granterWith({ lessees: [lesseeOf()] });
    granter.renew(renewOf(second), "remote", view(1));
    granter.goodbye({ ...boot1, nonce: 9 });
    assert.equal(granter.renew(renewOf({ nonce: 50 }), "remote", view(3)).type, "refused");
  });

  test("two boots of one node that both keep renewing are reported to the operator once, and each is listed as the other's twin while both are lessees", () => {
    const granter = granterWith();
    granter.renew(renewOf(), "remote", view(0));
    granter.renew(renewOf({ boot: "boot-2" as BootId }), "remote", view(1));
    beat(granter, 2);
    const reported: unknown[] = [];
    for (let nonce = 2; nonce < 8; nonce++) {
      for (const boot of ["boot-1", "boot-2"] as BootId[])
        granter.renew(renewOf({ boot, nonce, monotonicMs: nonce * 1_000 }), "remote", view(nonce * 1_000));
      beat(granter, nonce * 1_000);
      reported.push(...granter.drainCopiedNodes());
    }
    assert.deepEqual(reported, [{ node: "proxy-1", older: "boot-1", younger: "boot-2" }]);
    assert.deepEqual(
      granter.statuses(mono(8_000)).map(({ twin }) => twin),
      ["boot-2", "boot-1"],
    );
    granter.goodbye({ node: "proxy-1" as NodeId, boot: "boot-2" as BootId, nonce: 50 });
    assert.deepEqual(
      granter.statuses(mono(8_000)).map(({ twin }) => twin),
      [null],
    );
  });

  test("a restarted node is not reported as copied, because its earlier boot no longer renews", () => {
    const granter = granterWith();
    granter.renew(renewOf(), "remote", view(0));
    beat(granter, 1);
    for (let nonce = 1; nonce < 8; nonce++)
      granter.renew(renewOf({ ...second, nonce, monotonicMs: nonce * 1_000 }), "remote", view(nonce * 1_000));
    assert.deepEqual(granter.drainCopiedNodes(), []);
  });

  test("a boot can replace neither a boot of another node nor itself", () => {
    const granter = granterWith({ lessees: [lesseeOf()] });
    const other = renewOf({ node: "proxy-2" as NodeId, boot: "boot-2" as BootId, replaces: "boot-1" as BootId });
    granter.renew(other, "remote", view(1));
    granter.renew(renewOf({ replaces: "boot-1" as BootId }), "remote", view(1));
    assert.equal(beat(granter, 2).grants.length, 2);
    assert.equal(granter.statuses(mono(2)).length, 2);
  });

  test("a lessee that stays silent long after its W is removed, and may return with a new row", () => {
    const granter = granterWith();
    granter.renew(renewOf(), "remote", view(0));
    beat(granter, 0);
    const late = fenceAfterMs(5_000, 0.01) + 60_000;
    assert.equal(granter.needsBeat(mono(late - 1)), false);
    assert.equal(beat(granter, late).round.left.length, 1);
    assert.deepEqual(granter.statuses(mono(late)), []);
    granter.renew(renewOf({ nonce: 2, monotonicMs: late }), "remote", view(late + 1));
    const back = beat(granter, late + 2);
    assert.deepEqual([back.round.lessees.length, back.round.left.length, back.grants.length], [1, 0, 1]);
  });
});

describe("limits of a role", () => {
  const limit = (nodesMax: number, windowMaxMs: number) => ({ nodesMax, windowMaxMs });
  const limits = { proxy: limit(2, 20_000), authorize: limit(1, 10_000), broker: limit(1, 60_000) };
  const bootOf = (number: number) => `boot-${number}` as BootId;

  test("no more nodes of a role are admitted than configured, and the refusal names the remedy", () => {
    const granter = granterWith({ limits });
    for (const number of [1, 2])
      assert.equal(granter.renew(renewOf({ boot: bootOf(number) }), "remote", view(0)).type, "queued");
    assert.deepEqual(granter.renew(renewOf({ boot: bootOf(3) }), "remote", view(0)), {
      type: "refused",
      refusal: {
        code: "too-many",
        message:
          "too many nodes: 2 in the role proxy hold a lease. To admit more, raise broker.max_nodes.proxy on every broker",
      },
      overNodeLimit: true,
    });
    assert.equal(granter.renew(renewOf({ boot: bootOf(4), role: "authorize" }), "remote", view(0)).type, "queued");
    assert.equal(granter.renew(renewOf({ boot: bootOf(1), nonce: 2 }), "remote", view(1)).type, "queued");
  });

  test("a node that says goodbye makes room for another one of its role", () => {
    const granter = granterWith({ limits });
    for (const number of [1, 2]) granter.renew(renewOf({ boot: bootOf(number) }), "remote", view(0));
    granter.goodbye({ node: renewOf().node, boot: bootOf(1), nonce: 9 });
    assert.equal(granter.renew(renewOf({ boot: bootOf(3) }), "remote", view(1)).type, "queued");
  });

  test("an expired lease makes room at once, and its node needs room again when it returns", () => {
    const granter = granterWith({ limits });
    const renew = (number: number, nonce: number, at: number) =>
      granter.renew(renewOf({ boot: bootOf(number), nonce, monotonicMs: at }), "remote", view(at)).type;
    for (const number of [1, 2]) renew(number, 1, 0);
    beat(granter, 1);
    const last = fenceAfterMs(renewOf().windowMs, 0.01) + 1;
    assert.equal(renew(3, 1, Math.floor(last) - 1), "refused", "both may still decide");
    const over = Math.ceil(last) + 1;
    assert.equal(renew(3, 2, over), "queued");
    assert.equal(renew(1, 2, over + 1), "queued", "the second lease of the role");
    assert.equal(renew(2, 2, over + 2), "refused", "both leases are reserved, although neither is granted yet");
    assert.equal(beat(granter, over + 3).grants.length, 2);
    assert.equal(renew(2, 3, over + 4), "refused");
  });

  test("lessees of an earlier epoch count even above the limit, because they may still decide", () => {
    const rows = [1, 2, 3].map((number) => lesseeOf({ boot: bootOf(number) }));
    const granter = granterWith({ limits, lessees: rows });
    assert.equal(granter.statuses(mono(1)).length, 3);
    assert.equal(granter.renew(renewOf({ boot: bootOf(4) }), "remote", view(1)).type, "refused");
  });

  test("a window longer than the role's limit is granted at the limit, and the answer says so", () => {
    const granter = granterWith({ limits });
    const answer = granter.renew(renewOf({ windowMs: 36_000_000 }), "remote", view(0));
    assert.deepEqual(answer.type === "queued" && answer.limited, { windowMs: 36_000_000, windowMaxMs: 20_000 });
    const { round, grants } = beat(granter, 1);
    assert.deepEqual([round.lessees[0]?.windowMs, windows(grants)], [20_000, [20_000]]);
    assert.ok(only(granter, 1).fencedInMs <= fenceAfterMs(20_000, 0.01));
  });

  test("a goodbye or a replacement of an unknown boot writes nothing to the table", () => {
    const granter = granterWith({ limits });
    for (let number = 10; number < 20; number++)
      granter.goodbye({ node: renewOf().node, boot: bootOf(number), nonce: 1 });
    granter.renew(renewOf({ replaces: bootOf(30) }), "remote", view(0));
    assert.deepEqual(granter.beginWrite("beat", mono(1)).left, []);
  });
});

test("a lessee that returns while its row is being removed keeps its new row, so that the next leader knows of it", () => {
  const granter = granterWith();
  granter.renew(renewOf(), "remote", view(0));
  beat(granter, 0);
  const late = fenceAfterMs(5_000, 0.01) + 60_000;
  granter.dropRound(granter.beginWrite("beat", mono(late))); // the beat that removes its row fails
  granter.renew(renewOf({ nonce: 2, monotonicMs: late }), "remote", view(late + 1));
  const back = beat(granter, late + 2);
  assert.deepEqual([back.round.lessees.length, back.round.left.length, back.grants.length], [1, 0, 1]);
  assert.deepEqual(beat(granter, late + 3).round.left, []);
});

describe("confirmations", () => {
  const confirm = (nonce: number, enforced: Link) => ({
    node: "proxy-1" as NodeId,
    boot: "boot-1" as BootId,
    ...{ nonce, enforced },
  });
  function granted(): LeaseGranter {
    const granter = granterWith();
    granter.renew(renewOf({ enforced: at(8) }), "remote", view(0));
    beat(granter, 0);
    return granter;
  }

  test("renewals and confirmations move `enforced` forward, never back", () => {
    const granter = granted();
    assert.equal(only(granter, 0).enforced?.position, 8);
    assert.equal(granter.confirm(confirm(2, at(12)), view(1)), "accepted");
    assert.equal(granter.confirm(confirm(3, at(9)), view(2)), "accepted");
    granter.renew(renewOf({ nonce: 4, enforced: at(11) }), "remote", view(3));
    assert.equal(only(granter, 3).enforced?.position, 12);
  });

  test("a boot that enforces a link on another chain, or beyond the head, counts as enforcing nothing", () => {
    for (const link of [linkOnOtherChain(20), at(101)]) {
      const granter = granted();
      assert.deepEqual(granter.confirm(confirm(2, link), view(1)), {
        refused: { code: "other", message: "not on this log's chain" },
      });
      assert.equal(only(granter, 1).enforced, null);
      assert.equal(granter.confirm(confirm(3, at(8)), view(2)), "accepted", "it is back on the chain");
      assert.equal(only(granter, 2).enforced?.position, 8);
      granter.renew(renewOf({ nonce: 4, enforced: link }), "remote", view(3));
      assert.equal(only(granter, 3).enforced, null, "a renewal clears it as well");
    }
  });

  test("an older or repeated message of a boot that has moved to another chain since then does not count", () => {
    const granter = granterWith();
    granter.renew(renewOf({ nonce: 9, enforced: linkOnOtherChain(20) }), "remote", view(0));
    beat(granter, 0);
    granter.confirm(confirm(8, at(12)), view(1));
    assert.equal(only(granter, 1).enforced, null);
    granter.confirm(confirm(10, linkOnOtherChain(21)), view(2));
    granter.renew(renewOf({ nonce: 11, enforced: at(12) }), "remote", view(3));
    granter.confirm(confirm(12, linkOnOtherChain(22)), view(4));
    assert.equal(only(granter, 4).enforced, null);
  });

  test("a boot whose projection differs from the leader's enforces nothing until a renewal shows an equal one", () => {
    const granter = granted();
    granter.renew(renewOf({ nonce: 2, enforced: at(12) }), "remote", view(1, 100, "other"));
    assert.equal(only(granter, 1).enforced, null, "its earlier confirmation does not count either");
    assert.deepEqual(granter.confirm(confirm(3, at(12)), view(2)), { refused: digestMismatch });
    granter.renew(renewOf({ nonce: 4, enforced: at(12) }), "remote", view(3, 100, "unknown"));
    assert.equal(only(granter, 3).enforced, null, "a renewal that cannot be compared proves nothing");
    granter.renew(renewOf({ nonce: 5, enforced: at(12) }), "remote", view(4));
    assert.equal(only(granter, 4).enforced?.position, 12);
    assert.equal(granter.confirm(confirm(6, at(13)), view(5)), "accepted");
    assert.equal(only(granter, 5).enforced?.position, 13);
  });

  test("a repeated confirmation and one from a boot without a lease are refused", () => {
    const granter = granted();
    granter.confirm(confirm(2, at(12)), view(1));
    assert.deepEqual(granter.confirm(confirm(2, at(13)), view(1)), {
      refused: { code: "repeated", message: "repeated" },
    });
    const unknownBoot = { ...confirm(1, at(12)), boot: "boot-9" as BootId };
    assert.deepEqual(granter.confirm(unknownBoot, view(1)), {
      refused: { code: "other", message: "no lessee of this epoch" },
    });
  });

  test("a renewal whose enforced link is on another chain is granted, but counts as enforcing nothing", () => {
    const granter = granterWith();
    granter.renew(renewOf({ enforced: linkOnOtherChain(8) }), "remote", view(0));
    assert.equal(beat(granter, 0).grants.length, 1);
    assert.equal(only(granter, 0).enforced, null);
  });
});

describe("a new leader", () => {
  test("counts a boot's confirmation only from the opening of its epoch on: only such a boot is on this chain", () => {
    const granter = granterWith({ lessees: [lesseeOf({ node: "a" as NodeId, windowMs: 10_000 })] });
    const confirmed = (nonce: number, enforced: Link) =>
      granter.confirm({ node: "a" as NodeId, boot: "boot-1" as BootId, nonce, enforced }, view(nonce));
    assert.equal(confirmed(1, at(4)), "accepted");
    assert.equal(only(granter, 1).enforced, null, "it may have moved to another chain since then");
    assert.equal(confirmed(2, at(5)), "accepted");
    assert.equal(only(granter, 2).enforced?.position, 5);
  });

  test("in the same process keeps its findings about a node's projection and clock", () => {
    const before = granterWith();
    const slow = (ms: number, nonce: number) =>
      before.renew(renewOf({ nonce, monotonicMs: ms * 0.99 }), "remote", view(ms, 100, "other"));
    for (let n = 1; n <= 42; n++) {
      slow(n * 1_000, n);
      beat(before, n * 1_000);
    }
    const refusal = only(before, 42_000).refusal;
    assert.match(refusal ?? "", /clock runs at least/);
    const known = before.grantedLessees(mono(43_000));
    for (const lessees of [[], [lesseeOf({ windowMs: 10_000 })]]) {
      const granter = granterWith({ grantedBefore: known, lessees, openedAt: mono(43_000) });
      const confirm = { node: "proxy-1" as NodeId, boot: "boot-1" as BootId, nonce: 1, enforced: at(12) };
      assert.deepEqual(granter.confirm(confirm, view(43_100)), { refused: digestMismatch });
      const renewed = granter.renew(renewOf({ nonce: 2, monotonicMs: 43_200 * 0.99 }), "remote", view(43_200));
      assert.equal(renewed.type, "refused", "the rate follows from the renewals before this one");
      assert.equal(only(granter, 43_200).enforced?.position, 10, "and its projection is equal now");
    }
  });

  test("in the same process does not take its own sleep between two epochs for a drifting clock of a node", () => {
    const before = granterWith();
    const until = 20_000;
    const renews = (granter: LeaseGranter, from: number, to: number, offsetMs: number) => {
      for (let ms = from; ms <= to; ms += 1_000) {
        granter.renew(renewOf({ nonce: ms, monotonicMs: ms + offsetMs }), "remote", view(ms));
        beat(granter, ms);
      }
    };
    renews(before, 1_000, until, 0);
    const granter = granterWith({ grantedBefore: before.grantedLessees(mono(until)), openedAt: mono(40_000) });
    // The leader slept for 600 ms in the 20 s between.
    renews(granter, 40_000, 60_000, 600);
    assert.equal(only(granter, 60_000).refusal, null);
  });

  test("counts the lessees of earlier epochs as unconfirmed until they confirm, say goodbye, or W has passed since the opening", () => {
    const rows = ["a", "b", "c"].map((node) => lesseeOf({ node: node as NodeId, windowMs: 10_000 }));
    const granter = granterWith({ lessees: rows, openedAt: mono(1_000) });
    granter.confirm({ node: "a" as NodeId, boot: "boot-1" as BootId, nonce: 1, enforced: at(20) }, view(1_001));
    granter.goodbye({ node: "b" as NodeId, boot: "boot-1" as BootId, nonce: 1 });
    const w = fenceAfterMs(10_000, 0.01);
    const before = granter.statuses(mono(1_000 + w - 1));
    assert.deepEqual(
      before.map(({ node, enforced, fencedInMs }) => [node, enforced?.position ?? null, Math.round(fencedInMs)]),
      [
        ["a", 20, 1],
        ["c", null, 1],
      ],
    );
    assert.equal(granter.statuses(mono(1_000 + w))[1]?.fencedInMs, 0);
  });
});

describe("drift", () => {
  const run = (rate: number, jitter: (second: number) => number, seconds = 45) => {
    let watch = newDriftWatch;
    for (let second = 0; second < seconds; second++) {
      const sample = { ours: mono(second * 1_000 + jitter(second)), theirs: second * 1_000 * rate };
      watch = observeClock(watch, sample);
    }
    return driftOf(watch);
  };

  test("no drift is reported before 30 s", () =>
    assert.equal(
      run(1.02, () => 0, 30),
      undefined,
    ));
  test("an accurate clock shows no drift, in spite of slow messages and a pause", () => {
    const jitter = (second: number) => (second % 4 === 0 ? 2 : 180 + ((second * 37) % 400)) + (second === 40 ? 900 : 0);
    assert.ok(Math.abs(run(1, jitter) ?? 1) < 0.005);
  });
  test("renewals that waited for a leader are late; they do not show a clock that runs faster now", () => {
    for (const late of [[980], [2_900], [2_900, 1_900], [2_900, 1_900, 900], [0, 0, 5_000], [700, 650, 600, 550]]) {
      let watch = newDriftWatch;
      for (let renew = 0; renew < 180; renew++) {
        const ours = renew * 1_000 + ((renew * 37) % 100); // with the jitter of real renewals
        watch = observeClock(watch, { ours: mono(ours), theirs: ours - (late[renew] ?? (renew * 7) % 5) });
        const drift = driftOf(watch) ?? 0;
        assert.ok(Math.abs(drift) < 0.005, `${late} ms, after ${renew} renewals: ${drift}`);
      }
    }
  });
  test("a machine that slept after its first few renewals has made a step, not changed its rate", () => {
    for (const heard of [1, 2, 3, 4, 8]) {
      for (const sleptMs of [1_000, 3_000, 8_000, 9_500, 15_000, 70_000]) {
        let watch = newDriftWatch;
        for (let renew = 0; renew < 150; renew++) {
          const sent = renew * 1_000 + ((renew * 37) % 100); // by its own clock, which stopped once
          const ours = sent + (renew < heard ? 0 : sleptMs) + 3;
          watch = observeClock(watch, { ours: mono(ours), theirs: sent });
          const drift = driftOf(watch) ?? 0;
          assert.ok(Math.abs(drift) < 0.005, `${sleptMs} ms after ${heard} renewals, at renewal ${renew}: ${drift}`);
        }
      }
    }
  });
  test("a slow clock and a fast clock are detected", () => {
    assert.ok((run(0.99, () => 3) ?? 0) > 0.005);
    assert.ok((run(1.01, () => 3) ?? 0) < -0.005);
  });
  test("a sleep of the node or of the leader is a step of its clock, not another rate", () => {
    for (const sleptMs of [-200, -400, -1_000, 1_000, -7_000, 7_000]) {
      for (let seconds = 45; seconds <= 150; seconds += 5) {
        let watch = newDriftWatch;
        for (let second = 0; second < seconds; second++) {
          // After 40 s, one of the two clocks stopped for this long.
          const theirs = second * 1_000 - (second >= 40 ? sleptMs : 0);
          watch = observeClock(watch, { ours: mono(second * 1_000 + 3), theirs });
        }
        assert.ok(Math.abs(driftOf(watch) ?? 0) < 0.005, `${sleptMs} ms, after ${seconds} s`);
      }
    }
  });
  /**
   * What a leader receives, by its own clock, which stops while it sleeps. It reads messages that arrive meanwhile when
   * it wakes.
   */
  const receivedBySleeper = (sleeps: readonly { from: number; ms: number }[], late: readonly number[]) => {
    const received: { at: number; ours: number; theirs: number }[] = [];
    for (let renew = 0; renew < 170; renew++) {
      const sent = renew * 1_000 + ((renew * 37) % 200);
      const arrivesAt = sent + 10 + (late[renew] ?? (renew * 7) % 20);
      const asleep = sleeps.find(({ from, ms }) => arrivesAt >= from && arrivesAt < from + ms);
      const at = asleep === undefined ? arrivesAt : asleep.from + asleep.ms;
      const sleptMs = sleeps.reduce((sum, { from, ms }) => sum + (from < at ? ms : 0), 0);
      received.push({ at, ours: at - sleptMs, theirs: sent });
    }
    return received.sort((a, b) => a.at - b.at);
  };
  test("a leader that slept reads the waiting renewals at once, and takes no node's clock for a fast one", () => {
    const lates = [[], [1_780, 980, 200], [2_900, 1_900, 900]];
    for (const late of lates) {
      for (let ms = 500; ms <= 9_500; ms += 450) {
        for (const from of [8_100, 34_500, 34_950]) {
          for (const again of [0, 700, 4_100]) {
            const sleeps = [{ from, ms }, ...(again === 0 ? [] : [{ from: from + 30_000, ms: again }])];
            let watch = newDriftWatch;
            for (const { at, ours, theirs } of receivedBySleeper(sleeps, late)) {
              watch = observeClock(watch, { ours: mono(ours), theirs });
              const drift = driftOf(watch) ?? 0;
              const what = `renewals late by ${late}, slept ${ms} and ${again} ms from ${from}: ${drift} at ${at}`;
              assert.ok(Math.abs(drift) < 0.005, what);
            }
          }
        }
      }
    }
  });
  test("a change of the network path shows no drift, and does not hide the drift of a clock that is off", () => {
    for (const detourMs of [83, -83]) {
      for (const from of [3, 12, 33, 45, 70]) {
        const way = (second: number) => 90 + ((second * 7) % 5) + (second < from ? 0 : detourMs);
        for (const seconds of [45, 60, 90, 150]) {
          for (const rate of [0.9962, 1, 1.0038]) {
            const drift = run(rate, way, seconds) ?? 0;
            assert.ok(
              Math.abs(drift) < 0.005,
              `${detourMs} ms from ${from} s, clock ${rate}, after ${seconds} s: ${drift}`,
            );
          }
        }
        for (const rate of [0.98, 1.02]) {
          const drift = run(rate, way, 60) ?? 0;
          assert.ok(
            rate < 1 ? drift > 0.005 : drift < -0.005,
            `${detourMs} ms from ${from} s, clock ${rate}: ${drift}`,
          );
        }
      }
    }
    for (const rate of [0.99, 1.01])
      assert.ok(Math.abs(run(rate, () => 3, 45) ?? 0) > 0.005, `${rate} is detected as early as without the change`);
    for (const rate of [0.994, 1.006])
      assert.ok(Math.abs(run(rate, () => 3, 119) ?? 0) > 0.005, `${rate} is detected finally`);
  });
  test("a clock that keeps making steps in one direction runs at another rate, however far off it is", () => {
    for (const rate of [0, 0.3, 0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 1.02, 1.03, 1.05, 1.1, 1.3, 2, 10]) {
      for (const seconds of [45, 60, 119]) {
        const drift = run(rate, () => 3, seconds) ?? 0;
        assert.ok(rate < 1 ? drift > 0.005 : drift < -0.005, `${rate} after ${seconds} s: ${drift}`);
      }
    }
  });
  test("a node whose clock drifts gets no more grants and a refusal that says why; one within bounds gets grants", () => {
    for (const [rate, refused] of [
      [0.99, true],
      [1.01, true],
      [1.001, false],
    ] as const) {
      const granter = granterWith();
      let last = "";
      for (let second = 0; second <= 60; second++) {
        const renew = renewOf({ nonce: second + 1, monotonicMs: second * 1_000 * rate });
        const answer = granter.renew(renew, "remote", view(second * 1_000));
        last = answer.type === "refused" ? answer.refusal.message : answer.type;
        beat(granter, second * 1_000);
      }
      assert.equal(last.includes("monotonic clock"), refused, `${rate}: ${last}`);
      assert.equal(only(granter, 60_000).refusal !== null, refused);
    }
  });
});

describe("under any sequence of messages and writes", () => {
  type Op =
    | { op: "renew"; node: number; boot: number; windowMs: number; enforced: number; replaces: number | null }
    | { op: "confirm"; node: number; boot: number; enforced: number; otherChain: boolean }
    | { op: "goodbye"; node: number; boot: number }
    | { op: "write"; kind: "beat" | "append"; clean: boolean; during: number }
    | { op: "wait"; ms: number };
  const small = { node: fc.integer({ min: 0, max: 2 }), boot: fc.integer({ min: 0, max: 2 }) };
  const enforced = fc.integer({ min: 0, max: 120 });
  const op: fc.Arbitrary<Op> = fc.oneof(
    fc.record({
      op: fc.constant("renew" as const),
      ...small,
      enforced,
      windowMs: fc.integer({ min: 0, max: 90_000 }),
      replaces: fc.option(fc.integer({ min: 0, max: 2 }), { freq: 6 }),
    }),
    fc.record({ op: fc.constant("confirm" as const), ...small, enforced, otherChain: fc.boolean() }),
    fc.record({ op: fc.constant("goodbye" as const), ...small }),
    fc.record({
      op: fc.constant("write" as const),
      kind: fc.constantFrom("beat" as const, "append" as const),
      clean: fc.boolean(),
      during: fc.integer({ min: 0, max: 3_000 }),
    }),
    fc.record({ op: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 40_000 }) }),
  );

  test("no grant precedes its durable row, no lessee is dropped while it may decide, and none enforces more than it confirmed", () => {
    fc.assert(
      fc.property(fc.array(op, { maxLength: 60 }), (ops) => {
        const granter = granterWith();
        let now = 0;
        let nonce = 0;
        const rows = new Map<string, number>();
        /** Until when each boot may decide: by its longest grant. */
        const mayDecideUntil = new Map<string, number>();
        const departed = new Set<string>();
        /**
         * Boots replaced by a message that nothing has contradicted since. `alive`: boots that have sent a message
         * after that.
         */
        const replaced = new Set<string>();
        const alive = new Set<string>();
        const noteAlive = (k: string): void => void (replaced.delete(k) && alive.add(k));
        const best = new Map<string, number>();
        const key = (node: number, boot: number) => `n${node}/b${boot}`;
        const ids = (node: number, boot: number) => ({ node: `n${node}` as NodeId, boot: `b${boot}` as BootId });
        for (const each of ops) {
          nonce += 1;
          switch (each.op) {
            case "renew": {
              const { node, boot, windowMs, replaces } = each;
              const renew = renewOf({
                ...{ ...ids(node, boot), nonce, windowMs, monotonicMs: now, enforced: at(each.enforced) },
                replaces: replaces === null ? null : (`b${replaces}` as BootId),
              });
              const answer = granter.renew(renew, "remote", view(now));
              if (departed.has(key(node, boot))) assert.equal(answer.type, "refused");
              noteAlive(key(node, boot));
              if (answer.type === "refused") break;
              if (replaces !== null && replaces !== boot) {
                const k = key(node, replaces);
                if (!departed.has(k) && !alive.has(k)) replaced.add(k);
              }
              if (each.enforced <= 100)
                best.set(key(node, boot), Math.max(best.get(key(node, boot)) ?? 0, each.enforced));
              break;
            }
            case "confirm": {
              const link = each.otherChain ? linkOnOtherChain(each.enforced) : at(each.enforced);
              const accepted = granter.confirm({ ...ids(each.node, each.boot), nonce, enforced: link }, view(now));
              if (each.otherChain || each.enforced > 100) assert.notEqual(accepted, "accepted");
              const k = key(each.node, each.boot);
              noteAlive(k);
              if (accepted === "accepted") best.set(k, Math.max(best.get(k) ?? 0, each.enforced));
              break;
            }
            case "goodbye":
              granter.goodbye({ ...ids(each.node, each.boot), nonce });
              departed.add(key(each.node, each.boot));
              replaced.delete(key(each.node, each.boot));
              break;
            case "write": {
              const round = granter.beginWrite(each.kind, mono(now));
              if (each.kind === "append") assert.deepEqual([round.lessees, round.left], [[], []]);
              now += each.during;
              if (!each.clean) {
                granter.dropRound(round);
                break;
              }
              for (const { node, boot } of round.left) {
                const k = `${node}/${boot}`;
                assert.ok(
                  departed.has(k) || replaced.has(k) || (mayDecideUntil.get(k) ?? 0) <= now,
                  `${k} was removed too early`,
                );
                rows.delete(k);
              }
              for (const row of round.lessees) rows.set(`${row.node}/${row.boot}`, row.windowMs);
              for (const { grant } of granter.grantAfterCommit(round, at(100), clocks(now))) {
                const k = `${grant.node}/${grant.boot}`;
                assert.ok((rows.get(k) ?? 0) >= grant.windowMs, `${k} was granted without a durable row`);
                assert.ok(!departed.has(k) && !replaced.has(k), `${k} was granted after it left`);
                assert.ok(grant.windowMs <= 60_000);
                // If the node's clock is slow, its window lasts longer by the leader's clock.
                mayDecideUntil.set(k, Math.max(mayDecideUntil.get(k) ?? 0, now + grant.windowMs / 0.99));
              }
              break;
            }
            case "wait":
              now += each.ms;
          }
          const listed = new Map<string, LesseeStatus>(
            granter.statuses(mono(now)).map((s) => [`${s.node}/${s.boot}`, s]),
          );
          for (const [k, until] of mayDecideUntil) {
            if (departed.has(k) || replaced.has(k) || until <= now) continue;
            assert.ok((listed.get(k)?.fencedInMs ?? 0) > 0, `${k} may still decide, but no receipt waits for it`);
          }
          for (const [k, status] of listed) {
            assert.ok((status.enforced?.position ?? 0) <= (best.get(k) ?? 0), `${k} has confirmed less`);
            assert.ok(!departed.has(k) && !replaced.has(k));
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});
