/**
 * Chains: the tree of all events that any server ever wrote. A `Place` in it is one event together with its whole
 * prefix.
 *
 * The tree forks where two servers wrote different events after the same point. An ancestor check takes one step per
 * fork, and forks are few. The code does not use the product's comparison of links.
 */
import type { Epoch, Hash, Incarnation, Link, Position, Recorded } from "../../../src/events/index.ts";

export type Branch = {
  readonly parent: Branch | null;
  /** The last position that this branch shares with its parent. */
  readonly fork: number;
  readonly points: LogPoint[];
  /** A clean commit acknowledged every position up to this one. */
  acknowledgedUpTo: number;
};

export type LogPoint = Readonly<{
  link: Link;
  branch: Branch;
  before: LogPoint | null;
  recorded: Recorded | null;
  /** The opening event of the epoch at this point. Null: no epoch has been opened yet. */
  opening: Opening | null;
}>;

export type Opening = Readonly<{ epoch: Epoch; incarnation: Incarnation; start: Position }>;

const noHash = "0".repeat(64) as Hash;

export class Chains {
  readonly #byHash = new Map<string, LogPoint>();
  readonly genesis: LogPoint;

  constructor() {
    const trunk: Branch = { parent: null, fork: 0, points: [], acknowledgedUpTo: 0 };
    const link: Link = { epoch: 0 as Epoch, position: 0 as Position, hash: noHash };
    this.genesis = { link, branch: trunk, before: null, recorded: null, opening: null };
    this.#byHash.set(noHash, this.genesis);
  }

  get size(): number {
    return this.#byHash.size - 1;
  }

  /** Undefined: no server ever wrote this event. */
  find(link: Link): LogPoint | undefined {
    const point = this.#byHash.get(link.hash);
    const same = point !== undefined && point.link.position === link.position && point.link.epoch === link.epoch;
    return same ? point : undefined;
  }

  /** Adds an event. The same event after the same point yields the same point, whichever server writes it. */
  add(recorded: Recorded, before: LogPoint): LogPoint {
    const known = this.#byHash.get(recorded.hash);
    if (known !== undefined) return known;
    // Only the tip of a branch is extended by the same branch. Genesis is the tip of the empty trunk.
    const isExtension = (before.branch.points.at(-1) ?? this.genesis) === before;
    const branch = isExtension ? before.branch : newBranch(before);
    const { epoch, position, hash, event } = recorded;
    const opens = event.type === "EpochOpened";
    const opening = opens ? { epoch, incarnation: event.incarnation, start: position } : before.opening;
    const point: LogPoint = { link: { epoch, position, hash }, branch, before, recorded, opening };
    branch.points.push(point);
    this.#byHash.set(hash, point);
    return point;
  }

  /** True if `earlier` equals `later` or is an ancestor of it. */
  contains(later: LogPoint, earlier: LogPoint): boolean {
    let branch: Branch | null = later.branch;
    let upTo: number = later.link.position;
    while (branch !== null) {
      if (branch === earlier.branch) return earlier.link.position <= upTo;
      upTo = Math.min(upTo, branch.fork);
      branch = branch.parent;
    }
    return false;
  }

  /** The ancestor of `later`, or `later` itself, at a position. Undefined past `later`. */
  at(later: LogPoint, position: number): LogPoint | undefined {
    if (position > later.link.position) return undefined;
    if (position === 0) return this.genesis;
    let branch: Branch | null = later.branch;
    while (branch !== null && position <= branch.fork) branch = branch.parent;
    return branch?.points[position - branch.fork - 1];
  }

  /** The last common ancestor of both points. */
  common(a: LogPoint, b: LogPoint): LogPoint {
    const paths = new Map<Branch, number>();
    for (const { branch, upTo } of pathTo(b)) paths.set(branch, upTo);
    for (const { branch, upTo } of pathTo(a)) {
      const other = paths.get(branch);
      if (other !== undefined) return this.at(a, Math.min(upTo, other)) ?? this.genesis;
    }
    return this.genesis;
  }

  /** The events after `from` up to and including its descendant `to`, newest first. */
  *backwards(to: LogPoint, from: LogPoint): Generator<LogPoint> {
    for (
      let at: LogPoint | null = to;
      at !== null && at !== from && at.link.position > from.link.position;
      at = at.before
    )
      yield at;
  }

  acknowledge(point: LogPoint): void {
    let upTo: number = point.link.position;
    for (let branch: Branch | null = point.branch; branch !== null; branch = branch.parent) {
      branch.acknowledgedUpTo = Math.max(branch.acknowledgedUpTo, upTo);
      upTo = Math.min(upTo, branch.fork);
    }
  }

  isAcknowledged(point: LogPoint): boolean {
    return point.link.position <= point.branch.acknowledgedUpTo;
  }
}

/** The branches from a point back to genesis, and the last position that the path uses on each. */
function pathTo(point: LogPoint): Readonly<{ branch: Branch; upTo: number }>[] {
  const path: Readonly<{ branch: Branch; upTo: number }>[] = [];
  let upTo: number = point.link.position;
  for (let branch: Branch | null = point.branch; branch !== null; branch = branch.parent) {
    path.push({ branch, upTo });
    upTo = Math.min(upTo, branch.fork);
  }
  return path;
}

function newBranch(before: LogPoint): Branch {
  return { parent: before.branch, fork: before.link.position, points: [], acknowledgedUpTo: 0 };
}
