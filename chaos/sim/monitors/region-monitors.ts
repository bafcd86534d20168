/**
 * Region monitors: what a regional broker grants by age, marks on its disk, and reports as enforced (docs/adr/0013).
 *
 * - A lease by age is at least as old as the regional broker's own lease.
 * - The broker's disk holds the mark of such a lease while the lease counts.
 * - The nodes that hold such a lease enforce everything that the broker confirms.
 */
import type { ProcessName, SimFactOf, SimMs } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import type { GroundTruth, NodeView } from "./ground-truth.ts";
import { grantKey, type LeaseTracker } from "./lease-tracker.ts";
import { formatLink } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import { nodeOf } from "./projection-monitors.ts";
import { seconds } from "./violation.ts";

/** Rounding error of a clock reading, ms. */
const roundedMs = 0.5;

/** Checks at the node: the age, in true time, that the node assigns to its lease after a grant by age. */
export function watchLeasesByAge(truth: GroundTruth, leaseTracker: LeaseTracker): Monitor {
  const { findings, observations } = truth;
  const clocks = new Map<ProcessName, SimFactOf<"clock-set">>();

  function check(fact: SimFactOf<"grant-received">): void {
    const restsOn = leaseTracker.restsOn(fact);
    const clock = clocks.get(fact.process);
    if (restsOn === undefined || clock === undefined || fact.anchorAgeMs === undefined) return;
    if (clock.at > restsOn) return; // the clock changed meanwhile, so the interval has no single rate
    observations.add("lease-age-checked");
    const ageMs = fact.anchorAgeMs / clock.rate;
    const trueMs = fact.at - restsOn;
    if (ageMs >= trueMs - roundedMs) return;
    const what = `${fact.process} counts its lease from ${seconds(ageMs)} ago, and the renew that it rests on left ${seconds(trueMs)} ago`;
    findings.add("lease-by-age", what, [fact]);
  }

  return {
    invariants: ["lease-by-age"],
    before: {
      "clock-set": (fact) => {
        clocks.set(fact.process, fact);
      },
      "grant-received": check,
    },
  };
}

/**
 * No grant by age leaves before the mark is on disk. The mark stays there while a lease by age from this boot counts.
 */
export function watchAgeMarks(truth: GroundTruth, held: LeasesByAge): Monitor {
  const { findings, observations } = truth;
  const marks = new Map<ProcessName, SimFactOf<"age-mark">>();
  /** By process: the boot that holds a lease from the leader. */
  const granted = new Map<ProcessName, string>();

  function checkGrant(fact: SimFactOf<"grant-sent">): void {
    if (fact.agedMs === null) return;
    observations.add("age-mark-checked");
    const mark = marks.get(fact.process);
    if (mark?.mark === "on the disk") return;
    const what = `${fact.process} grants ${fact.node} a lease by age before the age mark is on its disk`;
    findings.add("age-marked", what, mark === undefined ? [fact] : [mark, fact]);
  }

  function checkMark(fact: SimFactOf<"age-mark">): void {
    const before = marks.get(fact.process);
    marks.set(fact.process, fact);
    if (fact.mark === "on the disk" || before?.mark !== "on the disk" || fact.how !== "removed") return;
    observations.add("age-mark-checked");
    if (granted.get(fact.process) !== fact.boot) {
      findings.add("age-marked", `${fact.process} removes the age mark without a lease of its own`, [before, fact]);
      return;
    }
    for (const node of truth.nodes.values()) {
      const until = held.until(fact, node);
      if (until === null || until <= fact.at) continue;
      const what = `${fact.process} removes the age mark, and ${node.process} may hold its lease by age for another ${seconds(until - fact.at)}`;
      findings.add("age-marked", what, [before, fact]);
    }
  }

  return {
    invariants: ["age-marked"],
    before: {
      "age-mark": checkMark,
      "grant-sent": checkGrant,
      "grant-received": (fact) => {
        if (fact.taken && (fact.agedMs ?? null) === null) granted.set(fact.process, fact.boot);
      },
    },
  };
}

/** A regional broker reports as enforced only what every node with a lease by age from this boot enforces. */
export function watchRegionClaims(truth: GroundTruth, leaseTracker: LeaseTracker, held: LeasesByAge): Monitor {
  const { chains, findings, observations } = truth;

  function check(fact: SimFactOf<"renew-sent" | "confirm-sent">): void {
    const claimed = truth.find(fact.enforced);
    if (nodeOf(truth, fact)?.lessee !== "broker" || claimed === undefined || !truth.oneWriter) return;
    for (const node of truth.nodes.values()) {
      const until = held.untilWithout(fact, node, claimed);
      if (until === null || until <= fact.at) continue;
      const decides = leaseTracker.mayDecideUntil(node.process, claimed);
      if (decides === null || decides <= fact.at) continue;
      observations.add("region-claim-checked");
      if (chains.contains(node.enforced, claimed)) continue;
      const what = `${fact.process} says that it enforces ${formatLink(claimed.link)}, and ${node.process} with a lease by age enforces ${formatLink(node.enforced.link)}`;
      findings.add("region-enforced", what, [fact]);
    }
  }

  return { invariants: ["region-enforced"], before: { "renew-sent": check, "confirm-sent": check } };
}

type Granter = Readonly<{ process: ProcessName; boot: string }>;
type Sent = Readonly<{ process: ProcessName; boot: string; head: LogPoint | undefined; leaseFrom: SimMs }>;
type LeaseByAge = Readonly<{ granter: Granter; head: LogPoint | undefined; until: SimMs }>;

/**
 * Leases by age that nodes have accepted, from each broker of their region: the granting boot, and the time until which
 * each surely counts. A lease no longer counts once its node has stopped, left or rebuilt.
 */
export class LeasesByAge {
  readonly #truth: GroundTruth;
  readonly #leaseTracker: LeaseTracker;
  /** By `grantKey`. */
  readonly #sent = new Map<string, Sent>();
  readonly #held = new Map<ProcessName, readonly LeaseByAge[]>();

  constructor(truth: GroundTruth, leaseTracker: LeaseTracker) {
    this.#truth = truth;
    this.#leaseTracker = leaseTracker;
  }

  /**
   * Time until which such leases of the node count. Null: this boot of the regional broker granted none that counts.
   */
  until(granter: Granter, node: NodeView): SimMs | null {
    return latest(this.#leases(granter, node));
  }

  /** Like `until`, for leases whose head lacks this point: a node may use them before it has applied the point. */
  untilWithout(granter: Granter, node: NodeView, point: LogPoint): SimMs | null {
    const { chains } = this.#truth;
    return latest(
      this.#leases(granter, node).filter(({ head }) => head === undefined || !chains.contains(head, point)),
    );
  }

  #leases(granter: Granter, node: NodeView): readonly LeaseByAge[] {
    const held = this.#held.get(node.process);
    if (held === undefined || !node.up || node.lessee === null || node.leaving !== null) return [];
    return held.filter((lease) => lease.granter.process === granter.process && lease.granter.boot === granter.boot);
  }

  monitor(): Monitor {
    const forget = ({ process }: Readonly<{ process: ProcessName }>): void => {
      this.#held.delete(process);
    };
    return {
      invariants: [],
      before: {
        "grant-sent": (fact) => this.#grantSent(fact),
        "grant-received": (fact) => this.#taken(fact),
        started: forget,
        killed: forget,
        paused: forget,
        resumed: forget,
        "clock-set": forget,
        rebuilding: forget,
        "goodbye-sent": forget,
      },
    };
  }

  #grantSent(fact: SimFactOf<"grant-sent">): void {
    const boot = this.#truth.nodes.get(fact.process)?.boot;
    if (fact.agedMs === null || boot === undefined) return;
    // The broker may have used an older lease than the newest that it received, so the age in its grant decides.
    const leaseFrom = fact.at - fact.agedMs / (1 + this.#truth.options.drift);
    this.#sent.set(grantKey(fact), { process: fact.process, boot, head: this.#truth.find(fact.head), leaseFrom });
    if (this.#sent.size > 4_096) this.#sent.delete(this.#sent.keys().next().value ?? "");
  }

  #taken(fact: SimFactOf<"grant-received">): void {
    const sent = this.#sent.get(grantKey(fact));
    const restsOn = this.#leaseTracker.restsOn(fact);
    if (!fact.taken || sent === undefined || restsOn === undefined) return;
    const until = Math.min(restsOn, sent.leaseFrom) + fact.windowMs * (1 - this.#truth.options.drift);
    const counting = (this.#held.get(fact.process) ?? []).filter((lease) => lease.until > fact.at);
    const { process, boot } = sent;
    this.#held.set(fact.process, [...counting, { granter: { process, boot }, head: sent.head, until }]);
  }
}

function latest(leases: readonly LeaseByAge[]): SimMs | null {
  return leases.length === 0 ? null : Math.max(...leases.map(({ until }) => until));
}
