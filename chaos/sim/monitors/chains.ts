/**
 * Chains: the tree of all events that any server ever wrote. A `Place` in it is one event together with its whole
 * prefix.
 *
 * The tree forks where two servers wrote different events after the same place. An ancestor check takes one step per
 * fork, and forks are few. The code does not use the product's comparison of links.
 */
import type { Epoch, Hash, Incarnation, Link, Position, Recorded } from "../../../src/events/index.ts";

export type Branch = {
  readonly parent: Branch | null;
  /** The last position that this branch shares with its parent. */
  readonly fork: number;
  readonly places: Place[];
  /** A clean commit acknowledged every position up to this one. */
  clean: number;
};

export type Place = Readonly<{
  link: Link;
  branch: Branch;
  before: Place | null;
  recorded: Recorded | null;
  /** The opening event of the epoch at this place. Null: no epoch has been opened yet. */
  opening: Opening | null;
}>;

export type Opening = Readonly<{ epoch: Epoch; incarnation: Incarnation; start: Position }>;

const noHash = "0".repeat(64) as Hash;

export class Chains {
  readonly #byHash = new Map<string, Place>();
  readonly genesis: Place;

  constructor() {
    const trunk: Branch = { parent: null, fork: 0, places: [], clean: 0 };
    const link: Link = { epoch: 0 as Epoch, position: 0 as Position, hash: noHash };
    this.genesis = { link, branch: trunk, before: null, recorded: null, opening: null };
    this.#byHash.set(noHash, this.genesis);
  }

  get size(): number {
    return this.#byHash.size - 1;
  }

  /** Undefined: no server ever wrote this event. */
  find(link: Link): Place | undefined {
    const place = this.#byHash.get(link.hash);
    const same = place !== undefined && place.link.position === link.position && place.link.epoch === link.epoch;
    return same ? place : undefined;
  }

  /** Adds an event. The same event after the same place yields the same place, whichever server writes it. */
  add(recorded: Recorded, before: Place): Place {
    const known = this.#byHash.get(recorded.hash);
    if (known !== undefined) return known;
    // Only the tip of a branch is extended by the same branch. Genesis is the tip of the empty trunk.
    const goesOn = (before.branch.places.at(-1) ?? this.genesis) === before;
    const branch = goesOn ? before.branch : newBranch(before);
    const { epoch, position, hash, event } = recorded;
    const opens = event.type === "EpochOpened";
    const opening = opens ? { epoch, incarnation: event.incarnation, start: position } : before.opening;
    const place: Place = { link: { epoch, position, hash }, branch, before, recorded, opening };
    branch.places.push(place);
    this.#byHash.set(hash, place);
    return place;
  }

  /** True if `earlier` equals `later` or is an ancestor of it. */
  contains(later: Place, earlier: Place): boolean {
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
  at(later: Place, position: number): Place | undefined {
    if (position > later.link.position) return undefined;
    if (position === 0) return this.genesis;
    let branch: Branch | null = later.branch;
    while (branch !== null && position <= branch.fork) branch = branch.parent;
    return branch?.places[position - branch.fork - 1];
  }

  /** The last common ancestor of both places. */
  common(a: Place, b: Place): Place {
    const ways = new Map<Branch, number>();
    for (const { branch, upTo } of wayTo(b)) ways.set(branch, upTo);
    for (const { branch, upTo } of wayTo(a)) {
      const other = ways.get(branch);
      if (other !== undefined) return this.at(a, Math.min(upTo, other)) ?? this.genesis;
    }
    return this.genesis;
  }

  /** The events after `from` up to and including its descendant `to`, newest first. */
  *back(to: Place, from: Place): Generator<Place> {
    for (let at: Place | null = to; at !== null && at !== from && at.link.position > from.link.position; at = at.before)
      yield at;
  }

  acknowledge(place: Place): void {
    let upTo: number = place.link.position;
    for (let branch: Branch | null = place.branch; branch !== null; branch = branch.parent) {
      branch.clean = Math.max(branch.clean, upTo);
      upTo = Math.min(upTo, branch.fork);
    }
  }

  isAcknowledged(place: Place): boolean {
    return place.link.position <= place.branch.clean;
  }
}

/** The branches from a place back to genesis, and the last position that the path uses on each. */
function wayTo(place: Place): Readonly<{ branch: Branch; upTo: number }>[] {
  const way: Readonly<{ branch: Branch; upTo: number }>[] = [];
  let upTo: number = place.link.position;
  for (let branch: Branch | null = place.branch; branch !== null; branch = branch.parent) {
    way.push({ branch, upTo });
    upTo = Math.min(upTo, branch.fork);
  }
  return way;
}

function newBranch(before: Place): Branch {
  return { parent: before.branch, fork: before.link.position, places: [], clean: 0 };
}
