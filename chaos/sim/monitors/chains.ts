/**
 * Chains: every event that any server ever wrote, as a tree. A place in it is one event with all that came before.
 *
 * Where two servers wrote different events behind the same place, the tree forks. Whether a place lies on the way to
 * another takes a step per fork, and there are few. Nothing here knows how the product compares links.
 */
import type { Epoch, Hash, Incarnation, Link, Position, Recorded } from "../../../src/events/index.ts";

export type Branch = {
  readonly parent: Branch | null;
  /** The last position that it shares with its parent. */
  readonly fork: number;
  readonly places: Place[];
  /** Everything up to here was acknowledged by a clean commit. */
  clean: number;
};

export type Place = Readonly<{
  link: Link;
  branch: Branch;
  before: Place | null;
  recorded: Recorded | null;
  /** The epoch's first event at or before this. */
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

  /** Undefined: no server ever wrote it. */
  find(link: Link): Place | undefined {
    const place = this.#byHash.get(link.hash);
    const same = place !== undefined && place.link.position === link.position && place.link.epoch === link.epoch;
    return same ? place : undefined;
  }

  /** The same event behind the same place is the same place, whoever writes it. */
  add(recorded: Recorded, before: Place): Place {
    const known = this.#byHash.get(recorded.hash);
    if (known !== undefined) return known;
    // Only the tip of a branch is followed by the same branch; genesis is the tip of the empty trunk.
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

  /** True when `earlier` is on the way to `later`, or is it. */
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

  /** The place at a position on the way to `later`. */
  at(later: Place, position: number): Place | undefined {
    if (position > later.link.position) return undefined;
    if (position === 0) return this.genesis;
    let branch: Branch | null = later.branch;
    while (branch !== null && position <= branch.fork) branch = branch.parent;
    return branch?.places[position - branch.fork - 1];
  }

  /** The last place on the way to both. */
  common(a: Place, b: Place): Place {
    const ways = new Map<Branch, number>();
    for (const { branch, upTo } of wayTo(b)) ways.set(branch, upTo);
    for (const { branch, upTo } of wayTo(a)) {
      const other = ways.get(branch);
      if (other !== undefined) return this.at(a, Math.min(upTo, other)) ?? this.genesis;
    }
    return this.genesis;
  }

  /** The events behind `from` up to and including `to`, which lies behind it; newest first. */
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

/** The branches on the way to a place, the last first, and how far each is on it. */
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
