/** The core of a regional broker, step by step: answers without the leader, the order of disk writes, confirmations. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SimCopyStore } from "../../../chaos/sim/sim-copy-store.ts";
import { RegionCopy } from "../../../src/broker/index.ts";
import { newRegionCore, type RegionCore, step } from "../../../src/broker/region/region-core.ts";
import type { HomeAnswer, NodeAnswer, RegionEffect, RegionFact } from "../../../src/broker/region/region-messages.ts";
import {
  type BootId,
  type Epoch,
  type Incarnation,
  type Link,
  type MonotonicMs,
  type NodeId,
  type Position,
  Projection,
  type UnixMs,
} from "../../../src/events/index.ts";
import type { HeldLease } from "../../../src/replication/lease/index.ts";
import type { Batch, Confirm, Renew } from "../../../src/replication/wire/index.ts";
import { type History, history } from "../../replication/support.ts";

const log = history(40);
const node = "proxy-1" as NodeId;
const boot = "boot-1" as BootId;
const from = { cluster: "test", role: "proxy", name: node, boot, publicKey: new Uint8Array(32) } as const;
const forwardMs = 1_000;
const windowMs = 15_000;
const granted: HomeAnswer = { type: "granted", windowMs, drift: 0.01 };
const noBroker: HomeAnswer = { type: "unavailable", error: new Error("no broker answers") };

type AnswerTo<Type extends RegionEffect["type"]> = Extract<RegionEffect, { type: Type }>;

/** A core with a clock, and with the broker's own copy and lease, which a test controls. */
class Region {
  now = 100_000;
  applied: Link = log.linkAt(20);
  lease: HeldLease | null = {
    epoch: 1 as Epoch,
    incarnation: "i" as Incarnation,
    start: 1 as Position,
    freshSinceMs: 99_000,
    deltaMs: 5_000,
    drift: 0.01,
    windowMs,
  };
  projection = new Projection();
  readonly store = new SimCopyStore();
  readonly copy = new RegionCopy(this.store);
  readonly effects: RegionEffect[] = [];
  #core: RegionCore;
  #ids = 0;

  constructor(mark: "none" | "on the disk" = "none") {
    this.copy.take(pageOf(log, 0, 20));
    this.#core = newRegionCore({ copy: this.copy, mark, version: "1", renewMs: 1_000 });
  }

  get replaces(): string {
    return this.#core.replaces;
  }

  /** @returns the effects of the step */
  feed(fact: RegionFact): readonly RegionEffect[] {
    const at = { monotonic: this.now as MonotonicMs, wall: (1_000_000 + this.now) as UnixMs };
    const own = {
      applied: this.applied,
      level: 1,
      digest: () => "d",
      projection: this.projection,
      lease: this.lease,
    };
    const [core, effects] = step(this.#core, { ...fact, at, own });
    this.#core = core;
    this.effects.push(...effects);
    return effects;
  }

  /** Advances time and delivers a wake-up that is due. */
  pass(ms: number): readonly RegionEffect[] {
    this.now += ms;
    return this.feed({ type: "woke" });
  }

  renew(parts: Partial<Renew> = {}): readonly RegionEffect[] {
    this.#ids += 1;
    const renew = { ...renewOf(this.#ids, this.now), ...parts };
    return this.feed({ type: "nodeMessage", id: this.#ids, message: { type: "renew", from, renew } });
  }

  confirm(enforced: Link): readonly RegionEffect[] {
    this.#ids += 1;
    const confirm: Confirm = { node, boot, nonce: this.#ids, enforced };
    return this.feed({ type: "nodeMessage", id: this.#ids, message: { type: "confirm", from, confirm } });
  }

  all<Type extends RegionEffect["type"]>(type: Type): AnswerTo<Type>[] {
    return this.effects.filter((effect): effect is AnswerTo<Type> => effect.type === type);
  }
}

function renewOf(nonce: number, monotonicMs: number): Renew {
  return {
    node,
    boot,
    nonce,
    region: "west",
    role: "proxy",
    version: "1",
    reads: 1,
    windowMs,
    applied: log.linkAt(19),
    enforced: log.linkAt(19),
    digest: "nineteen",
    configHash: "c",
    replaces: null,
    monotonicMs,
  };
}

function pageOf(of: History, after: number, upTo: number) {
  const entries = of.entries.slice(after, upTo).map(({ bytes }) => bytes);
  const head = of.linkAt(upTo);
  return { previous: of.linkAt(after), entries, last: head, head, keys: [] };
}

function answersIn(effects: readonly RegionEffect[]): NodeAnswer["type"][] {
  return effects.flatMap((effect) => (effect.type === "answerNode" ? [effect.answer.type] : []));
}
const typesOf = (effects: readonly RegionEffect[]): string[] =>
  effects.map(({ type }) => type).filter((type) => type !== "wake");

/** A region whose home does not answer, and whose node holds a lease by age. */
function leased(): Region {
  const region = new Region();
  region.renew();
  region.feed({ type: "markKept" });
  assert.equal(region.all("answerNode").at(-1)?.answer.type, "grantByAge");
  return region;
}

test("no grant by age is sent before the age mark is on the disk; then all waiting ones are sent", () => {
  const region = new Region();
  assert.deepEqual(typesOf(region.renew()), ["keepMark"]);
  assert.deepEqual(typesOf(region.renew()), [], "the mark is requested once");
  assert.deepEqual(answersIn(region.feed({ type: "markKept" })), ["grantByAge", "grantByAge"]);
  assert.deepEqual(answersIn(region.renew()), ["grantByAge"], "the mark is on the disk");
});

test("while the disk does not store the mark, nodes get no leases by age", () => {
  const region = new Region();
  region.renew();
  assert.deepEqual(answersIn(region.feed({ type: "markNotKept", reason: "no space left on device" })), ["unavailable"]);
  assert.deepEqual(typesOf(region.renew()), ["keepMark"]);
  assert.deepEqual(answersIn(region.feed({ type: "markKept" })), ["grantByAge"]);
});

test("the mark stays while a lease by age counts, and while this boot has no lease of its own", () => {
  const region = leased();
  region.pass(5_000);
  region.renew();
  assert.equal(region.all("clearMark").length, 0);
  region.pass(60_000);
  assert.equal(region.all("clearMark").length, 1);

  const next = new Region("on the disk");
  assert.equal(next.replaces, "none", "the leader has to wait for the grants of the previous boot");
  next.lease = null;
  next.confirm(log.linkAt(20));
  assert.equal(next.all("clearMark").length, 0);
  next.lease = new Region().lease;
  next.confirm(log.linkAt(20));
  assert.equal(next.all("clearMark").length, 1);
  assert.equal(new Region().replaces, "last boot");
});

test("the goodbye is withheld while a lease by age counts, and a stopping process grants nothing by age", () => {
  const region = leased();
  assert.deepEqual(region.feed({ type: "stopping" }), [{ type: "leave", goodbye: "withhold" }]);
  const idle = new Region();
  assert.deepEqual(idle.feed({ type: "stopping" }), [{ type: "leave", goodbye: "say" }]);
  assert.deepEqual(answersIn(idle.renew()), ["unavailable"]);
});

test("a renew that waits for the disk when the process stops is answered, without a grant", () => {
  const region = new Region();
  region.renew();
  assert.deepEqual(typesOf(region.feed({ type: "stopping" })), ["answerNode", "leave"]);
  assert.deepEqual(answersIn(region.feed({ type: "markKept" })), []);
});

test("a change counts as enforced once every node with a lease by age has confirmed it, or its lease has expired", () => {
  const region = leased();
  region.applied = log.linkAt(21);
  assert.deepEqual(typesOf(region.feed({ type: "changed", id: 7, link: log.linkAt(20), rebuilt: false })), []);
  region.confirm(log.linkAt(19));
  assert.equal(region.all("enforced").length, 0, "an earlier position does not confirm the change");
  assert.ok(typesOf(region.confirm(log.linkAt(20))).includes("enforced"));

  const silent = leased();
  silent.feed({ type: "changed", id: 8, link: log.linkAt(20), rebuilt: false });
  silent.pass(windowMs - 1_500);
  assert.equal(silent.all("enforced").length, 0);
  silent.pass(60_000);
  assert.deepEqual(silent.all("enforced"), [{ type: "enforced", id: 8 }]);
});

test("confirmations of a history that the region has left do not count in the new one", () => {
  const region = leased();
  region.confirm(log.linkAt(20));
  assert.deepEqual(typesOf(region.feed({ type: "changed", id: 1, link: log.linkAt(20), rebuilt: false })), [
    "enforced",
  ]);
  assert.deepEqual(typesOf(region.feed({ type: "changed", id: 2, link: log.linkAt(20), rebuilt: true })), []);
});

test("a message is forwarded while the home region answers; after a second without an answer the region answers alone", () => {
  const region = new Region();
  region.feed({ type: "leaderAnswered" });
  region.renew();
  const [asked] = region.all("askHome");
  assert.deepEqual(asked?.question, { op: "forward", messageId: 1 });
  assert.deepEqual(answersIn(region.feed({ type: "homeAnswered", id: asked?.id ?? 0, answer: granted })), ["leader"]);

  region.renew();
  assert.deepEqual(typesOf(region.pass(forwardMs)), ["keepMark"]);
  assert.deepEqual(answersIn(region.feed({ type: "markKept" })), ["grantByAge"]);
  const late = region.all("askHome").at(-1)?.id ?? 0;
  assert.deepEqual(typesOf(region.feed({ type: "homeAnswered", id: late, answer: granted })), []);

  region.pass(10_000);
  assert.deepEqual(answersIn(region.renew()), ["grantByAge"], "the region does not wait for a silent home region");
});

test("a boot that the leader refuses gets no lease by age; one that no broker answers does", () => {
  const region = new Region();
  region.feed({ type: "leaderAnswered" });
  region.renew();
  const message = "its monotonic clock runs at least 1.20 % off the leader's";
  const refused: HomeAnswer = { type: "refused", refusal: { code: "clock-drift", message } };
  region.feed({ type: "homeAnswered", id: region.all("askHome")[0]?.id ?? 0, answer: refused });
  region.now += 10_000;
  region.renew();
  assert.deepEqual(answersIn(region.feed({ type: "markKept" })), ["refused"]);

  const other = new Region();
  other.feed({ type: "leaderAnswered" });
  other.renew();
  other.feed({ type: "homeAnswered", id: other.all("askHome")[0]?.id ?? 0, answer: noBroker });
  assert.deepEqual(answersIn(other.feed({ type: "markKept" })), ["grantByAge"]);
});

test("a node speaks only for itself, in its own role", () => {
  const region = new Region();
  assert.deepEqual(answersIn(region.renew({ node: "proxy-2" as NodeId })), ["refused"]);
  assert.deepEqual(answersIn(region.renew({ boot: "boot-2" as BootId })), ["refused"]);
  assert.deepEqual(answersIn(region.renew({ role: "broker" })), ["refused"]);
});

test("a fork reaches the broker's own projection though the disk is full, and the lost suffix is dropped once it can be", () => {
  const region = new Region();
  const survivor = log.fork(10).open(2);
  region.feed({ type: "ownReadAsked", id: 1, after: log.linkAt(20), limit: 100, waitMs: 0 });
  region.store.isFull = true;
  const callId = region.all("askHome").at(-1)?.id ?? 0;
  region.feed({ type: "homeAnswered", id: callId, answer: { type: "forked", head: survivor.head } });
  assert.equal(region.all("answerOwnRead").at(-1)?.answer.type, "forked");
  assert.deepEqual(region.copy.head, log.linkAt(20));

  region.store.isFull = false;
  region.applied = log.linkAt(0);
  region.feed({ type: "ownReadAsked", id: 2, after: log.linkAt(20), limit: 100, waitMs: 0 });
  const again = region.all("askHome").at(-1)?.id ?? 0;
  region.feed({ type: "homeAnswered", id: again, answer: { type: "forked", head: survivor.head } });
  assert.equal(region.copy.head.position, 0);
});

test("a page that does not chain fails the read and changes nothing", () => {
  const region = new Region();
  region.feed({ type: "ownReadAsked", id: 1, after: log.linkAt(20), limit: 100, waitMs: 0 });
  const page = { ...pageOf(log, 20, 25), entries: [Uint8Array.of(1)] };
  const callId = region.all("askHome").at(-1)?.id ?? 0;
  region.feed({ type: "homeAnswered", id: callId, answer: { type: "page", page } });
  assert.equal(region.all("answerOwnRead").at(-1)?.answer.type, "failed");
  assert.deepEqual(region.copy.head, log.linkAt(20));
});

test("the copy stores a delivery once the broker's projection has applied it, and not before", () => {
  const region = new Region();
  const { entries, previous, last } = pageOf(log, 20, 25);
  const batch: Batch = { epoch: 1 as Epoch, incarnation: "i" as Incarnation, previous, entries, last, keys: [] };
  region.feed({ type: "delivered", batch });
  assert.deepEqual(region.copy.head, log.linkAt(20), "the projection may still refuse it");
  region.applied = log.linkAt(25);
  region.feed({ type: "delivered", batch });
  assert.deepEqual(region.copy.head, log.linkAt(25));
});

test("a late answer of the leader to a renew does not reach the node as an answer to a newer one", () => {
  const region = new Region();
  region.feed({ type: "leaderAnswered" });
  region.renew();
  region.renew();
  const [first, second] = region.all("askHome").map(({ id }) => id);
  assert.deepEqual(typesOf(region.feed({ type: "homeAnswered", id: second ?? 0, answer: granted })), ["answerNode"]);
  assert.deepEqual(
    region.all("answerNode").map(({ id }) => id),
    [2],
  );
  region.feed({ type: "homeAnswered", id: first ?? 0, answer: noBroker });
  region.feed({ type: "markKept" });
  assert.deepEqual(
    region.all("answerNode").map(({ id, answer }) => [id, answer.type]),
    [
      [2, "leader"],
      [1, "grantByAge"],
    ],
  );
});
