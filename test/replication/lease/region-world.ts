/**
 * Region world: the leases of one region whose leader is unreachable now and then, in a seeded simulation.
 *
 * - Messages arrive late, clocks run at different rates, and processes restart and pause.
 * - The granter, the regional granter and the lease holders are the product's own.
 * - It checks one promise: after a complete receipt, no node permits what the receipt covers.
 */
import type {
  BootId,
  Epoch,
  Incarnation,
  Link,
  MonotonicMs,
  NodeId,
  Position,
  UnixMs,
} from "../../../src/events/index.ts";
import {
  type ChainHistory,
  emptyHistory,
  extendHistory,
  LeaseGranter,
  type LeaseHolder,
  leaseHeldAt,
  type Moment,
  newLeaseHolder,
  overdueMs,
  RegionalGranter,
  receiptFor,
  stepLease,
} from "../../../src/replication/lease/index.ts";
import type { Grant, Renew } from "../../../src/replication/wire/index.ts";
import { history } from "../support.ts";

/** A rule that a run can remove, to show that the check would notice. */
export type Weakening =
  | "head of the lease"
  | "no node is waited for"
  | "age forgotten"
  | "a restart replaces"
  | "longer window";

export type RegionRun = Readonly<{
  violations: readonly string[];
  byAge: number;
  complete: number;
  /** How many checks of a running node found that it may decide. */
  served: number;
  checks: number;
}>;

const events = 80;
const log = history(events);
const histories: ChainHistory[] = Array.from({ length: events + 1 }, (_, n) =>
  extendHistory(emptyHistory, log.recorded(0, n)),
);
const linkAt = (position: number): Link => log.linkAt(position);
const drift = 0.0025;
const deltaMs = 2_000;
const tick = 50;
const durationMs = 90_000;

/** Mulberry32: small, and the same everywhere. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

class Machine {
  readonly #rate: number;
  readonly #from: number;
  pausedUntil = 0;

  constructor(random: () => number) {
    this.#rate = 1 + (random() * 2 - 1) * drift * 0.95;
    this.#from = random() * 100_000;
  }
  at(real: number): Moment {
    return { monotonic: (this.#from + real * this.#rate) as MonotonicMs, wall: (1_000_000 + real) as UnixMs };
  }
}

type Process = { node: NodeId; boot: BootId; machine: Machine; holder: LeaseHolder; applied: number; renewAt: number };

export function runRegion(seed: number, weakening: Weakening | null = null): RegionRun {
  const random = randomOf(seed);
  const within = (low: number, high: number): number => low + random() * (high - low);
  const messages: { at: number; to: Machine | null; act: () => void }[] = [];
  const violations: string[] = [];
  const completeAt = new Map<number, number>();
  let now = 0;
  let head = 2;
  let boots = 0;
  let cutUntil = 0;
  let [byAge, served, checks] = [0, 0, 0];

  const leader = new Machine(random);
  const granter = new LeaseGranter({
    ...{
      epoch: 1 as Epoch,
      incarnation: "incarnation-1" as Incarnation,
      start: 1 as Position,
      openedAt: leader.at(0).monotonic,
    },
    ...{ lessees: [], deltaMs, drift, windowMaxMs: 60_000, exclusive: false },
  });
  const waiting = new Map<number, (grant: Grant) => void>();
  const onChain = (link: Link): boolean => link.position <= head && link.hash === linkAt(link.position).hash;

  const started = (node: string, machine: Machine, applied: number): Process => {
    boots += 1;
    const boot = `boot-${boots}` as BootId;
    const holder = newLeaseHolder({ node: node as NodeId, boot, at: machine.at(now) });
    return { node: node as NodeId, boot, machine, holder, applied, renewAt: now + within(0, 500) };
  };
  let broker = started("broker-west", new Machine(random), 2);
  let regional = new RegionalGranter();
  let enforced = 2;
  /** Whether the age mark is on the broker's disk. */
  let marked = false;
  let brokerReplaces: BootId | null = null;
  let leaderAnsweredAt = Number.NEGATIVE_INFINITY;
  const nodes = ["one", "two", "three"].map((name) => started(name, new Machine(random), 2));
  const replaced = new Map<string, BootId>();

  const send = (to: Machine | null, act: () => void): void => {
    messages.push({ at: now + within(1, 150), to, act });
  };
  /** Between the regions: lost while the link is cut, at sending or at arrival. */
  const sendFar = (to: Machine, act: () => void): void => {
    if (now < cutUntil) return;
    messages.push({ at: now + within(30, 400), to, act: () => now >= cutUntil && act() });
  };

  function renewOf(one: Process, role: Renew["role"], windowMs: number, confirmed: number): Renew {
    const at = one.machine.at(now);
    one.holder = stepLease(one.holder, { type: "renewDue", at });
    return {
      ...{
        node: one.node,
        boot: one.boot,
        nonce: one.holder.nonce,
        region: "west",
        role,
        version: "1",
        reads: 1,
        windowMs,
      },
      ...{ applied: linkAt(one.applied), enforced: linkAt(confirmed), digest: String(one.applied), configHash: "c" },
      replaces: role === "broker" ? brokerReplaces : (replaced.get(one.node) ?? null),
      monotonicMs: at.monotonic,
    };
  }

  function granted(one: Process, grant: Grant): void {
    const input = { grant, history: histories[one.applied] ?? emptyHistory, at: one.machine.at(now) };
    one.holder = stepLease(one.holder, { type: "granted", ...input });
  }

  function reached(one: Process, applied: number): void {
    if (applied <= one.applied) return;
    one.applied = applied;
    const folded = histories[applied] ?? emptyHistory;
    one.holder = stepLease(one.holder, { type: "projectionMoved", history: folded, at: one.machine.at(now) });
  }

  function renewAtLeader(renew: Renew, answer: (grant: Grant | null) => void): void {
    sendFar(leader, () => {
      const renewed = granter.renew(renew, "remote", { at: leader.at(now).monotonic, onChain, digest: "same" });
      if (renewed.type === "queued")
        waiting.set(renewed.ticket, (grant) => sendFar(broker.machine, () => answer(grant)));
      else sendFar(broker.machine, () => answer(null));
    });
  }

  function beat(): void {
    const round = granter.beginWrite("beat", leader.at(now).monotonic);
    for (const { ticket, grant } of granter.grantAfterCommit(round, linkAt(head), leader.at(now))) {
      waiting.get(ticket)?.(grant);
      waiting.delete(ticket);
    }
  }

  function grantByAge(renew: Renew, at: Moment): Grant | null {
    const lease = leaseHeldAt(broker.holder, at);
    if (lease !== null) marked = true;
    const copy = { lease, applied: linkAt(broker.applied), digest: String(broker.applied), version: "1", level: 1 };
    const answer = regional.grant(renew, copy, at);
    if (answer.type !== "granted") return null;
    byAge += 1;
    const { grant } = answer;
    switch (weakening) {
      case "head of the lease":
        return { ...grant, head: linkAt(2) };
      case "age forgotten":
        return { ...grant, ageMs: 0 };
      case "longer window":
        return { ...grant, windowMs: grant.windowMs * 2 };
      default:
        return grant;
    }
  }

  function receiveRenew(renew: Renew, answer: (grant: Grant) => void): void {
    const at = broker.machine.at(now);
    const own = broker;
    regional.recordRenew(renew, { at: at.monotonic, onChain });
    const answerByAge = (): void => {
      if (own !== broker) return;
      const grant = grantByAge(renew, broker.machine.at(now));
      if (grant !== null) send(null, () => answer(grant));
    };
    if (at.monotonic - leaderAnsweredAt > 2_500) {
      answerByAge();
      return;
    }
    let open = true;
    renewAtLeader(renew, (grant) => {
      if (own !== broker) return;
      leaderAnsweredAt = broker.machine.at(now).monotonic;
      open = false;
      if (grant === null) return;
      regional.recordLeaderAnswer(renew, "granted", leaderAnsweredAt as MonotonicMs);
      send(null, () => answer(grant));
    });
    messages.push({ at: now + 1_000, to: broker.machine, act: () => open && answerByAge() });
  }

  function brokerTurn(): void {
    const at = broker.machine.at(now);
    broker.holder = stepLease(broker.holder, { type: "tick", at });
    while (enforced < broker.applied) {
      const blockedUntil = regional.blockedUntil(linkAt(enforced + 1), { at: at.monotonic, onChain });
      if (blockedUntil !== null && weakening !== "no node is waited for") break;
      enforced += 1;
    }
    if (regional.leased(at.monotonic) === 0 && leaseHeldAt(broker.holder, at) !== null) marked = false;
    if (now < broker.renewAt) return;
    broker.renewAt = now + within(400, 600);
    const own = broker;
    const windowMs = Math.max(deltaMs, regional.windowMs(at.monotonic));
    const renew = renewOf(broker, "broker", windowMs, enforced);
    renewAtLeader(renew, (grant) => {
      if (own !== broker) return;
      leaderAnsweredAt = broker.machine.at(now).monotonic;
      if (grant !== null) granted(own, grant);
    });
    if (now >= cutUntil) {
      const sentHead = head;
      if (random() < 0.9) sendFar(broker.machine, () => own === broker && reached(own, sentHead));
    }
  }

  function nodeTurn(index: number): void {
    const node = nodes[index];
    if (node === undefined) return;
    const at = node.machine.at(now);
    node.holder = stepLease(node.holder, { type: "tick", at });
    if (now < node.renewAt) return;
    node.renewAt = now + within(400, 600);
    const renew = renewOf(node, "proxy", 8_000, node.applied);
    send(broker.machine, () =>
      receiveRenew(renew, (grant) => {
        if (nodes[index] === node)
          messages.push({ at: now + within(1, 100), to: node.machine, act: () => granted(node, grant) });
      }),
    );
    // Its reads take any time up to 3 s.
    send(broker.machine, () => {
      const readUpTo = broker.applied;
      messages.push({
        at: now + within(1, 3_000),
        to: node.machine,
        act: () => nodes[index] === node && reached(node, readUpTo),
      });
    });
  }

  function injectFault(): void {
    const dice = random();
    if (dice < 0.0012) cutUntil = now + within(1_000, 25_000);
    else if (dice < 0.003) {
      const index = Math.floor(within(0, nodes.length));
      const old = nodes[index];
      if (old === undefined) return;
      replaced.set(old.node, old.boot);
      nodes[index] = started(old.node, old.machine, Math.min(old.applied, 2));
    } else if (dice < 0.004) {
      brokerReplaces = marked && weakening !== "a restart replaces" ? null : broker.boot;
      broker = started(broker.node, broker.machine, broker.applied);
      regional = new RegionalGranter();
      enforced = Math.min(enforced, broker.applied);
      leaderAnsweredAt = Number.NEGATIVE_INFINITY;
    } else if (dice < 0.005) broker.machine.pausedUntil = now + within(200, 6_000);
    else if (dice < 0.0065) {
      const machine = nodes[Math.floor(within(0, nodes.length))]?.machine;
      if (machine !== undefined) machine.pausedUntil = now + within(200, 6_000);
    } else if (dice < 0.02 && head < events) head += 1;
  }

  function checkReceipts(): void {
    const at = leader.at(now);
    const lessees = granter.statuses(at.monotonic);
    for (let position = 3; position <= head; position++) {
      if (completeAt.has(position)) continue;
      const query = { link: linkAt(position), commandId: null, wait: "all", region: null } as const;
      if (receiptFor(query, { epoch: 1 as Epoch, lessees, regions: [], at }).complete) completeAt.set(position, now);
    }
    for (const { node, boot, holder, applied, machine } of nodes) {
      if (now < machine.pausedUntil) continue;
      checks += 1;
      if (overdueMs(holder, machine.at(now)) === Number.POSITIVE_INFINITY) continue;
      served += 1;
      for (const [position, at] of completeAt)
        if (applied < position && at < now)
          violations.push(`${node} ${boot} decides from ${applied} at ${now}, ${position} was complete at ${at}`);
    }
  }

  while (now < durationMs && violations.length === 0) {
    now += tick;
    injectFault();
    messages.sort((a, b) => a.at - b.at);
    const due = messages.findIndex(({ at }) => at > now);
    for (const message of messages.splice(0, due < 0 ? messages.length : due)) {
      if (message.to !== null && now < message.to.pausedUntil)
        messages.push({ ...message, at: message.to.pausedUntil });
      else message.act();
    }
    if (now >= broker.machine.pausedUntil) brokerTurn();
    for (const index of nodes.keys()) if (now >= (nodes[index]?.machine.pausedUntil ?? 0)) nodeTurn(index);
    if (now % 100 === 0) beat();
    checkReceipts();
  }
  return { violations, byAge, complete: completeAt.size, served, checks };
}
