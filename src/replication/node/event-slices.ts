/**
 * Event slices: an event may change thousands of memberships, and folding many of them in one piece would hold up
 * decisions. Both classes cut what arrives at event boundaries, so the state at every position stays exact. Pure.
 *
 * - The first slice is folded at once. Other work runs before each of the others.
 * - Order stays: a delivery waits for the slices of the one before.
 * - A revocation or another event that only denies is never delayed: everything up to it is folded at once.
 * - Slices that wait are bounded: beyond `waitingWeightMax` they are folded at once, as without slices.
 */
import { type Link, linkOf, type Recorded, sameLink } from "../../events/index.ts";
import type { EventRange } from "./follower.ts";
import type { Delivered, ReadAnswer } from "./messages.ts";

/** At most 5 ms of folding. A page of 1,000 events of usual size is one slice. */
const sliceWeightMax = 1_000;
/** Of one membership. Generous: listeners look at each of them too. */
const memberWeight = 2;
/** About 2 MB of events. */
const waitingWeightMax = 100_000;

export class DeliverySlices {
  readonly #apply: (delivery: Delivered) => void;
  readonly #later: (job: () => void) => void;
  readonly #waiting: Delivered[] = [];
  #waitingWeight = 0;
  #isScheduled = false;

  /** @param parts.later runs a job after other work */
  constructor(parts: Readonly<{ apply: (delivery: Delivered) => void; later: (job: () => void) => void }>) {
    this.#apply = parts.apply;
    this.#later = parts.later;
  }

  /** Applies the first slice at once, unless others wait. */
  push(delivery: Delivered): void {
    for (const [nth, range] of slicesOf(delivery).entries()) {
      // The keys come with the first slice, so that an erasure in it is not undone by a later one.
      this.#waiting.push({ ...delivery, ...range, keys: nth === 0 ? delivery.keys : [] });
      this.#waitingWeight += totalWeight(range.events);
    }
    if (this.#waitingWeight > waitingWeightMax || tightens(delivery)) this.flush();
    else if (!this.#isScheduled) this.#step();
  }

  /** Applies everything that waits. */
  flush(): void {
    while (this.#waiting.length > 0) this.#applyNext();
  }

  clear(): void {
    this.#waiting.length = 0;
    this.#waitingWeight = 0;
  }

  #step(): void {
    this.#applyNext();
    if (this.#waiting.length === 0 || this.#isScheduled) return;
    this.#isScheduled = true;
    this.#later(() => {
      this.#isScheduled = false;
      this.#step();
    });
  }

  #applyNext(): void {
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.#waitingWeight -= totalWeight(next.events);
    this.#apply(next);
  }
}

type PageAnswer = Extract<ReadAnswer, { type: "page" }>;

/** The rest of a page whose first slices have been answered: the next reads get it without a call to a broker. */
export class PageSlices {
  #rest: readonly PageAnswer[] = [];

  /** The first slice of a page; any other answer as it is. */
  first(answer: ReadAnswer): ReadAnswer {
    this.#rest = [];
    if (answer.type !== "page" || tightens(answer.page)) return answer;
    const [first = answer.page, ...rest] = slicesOf(answer.page);
    this.#rest = rest.map((page) => ({ ...answer, page, keys: [] }));
    return { ...answer, page: first };
  }

  /** The slice that follows a link; undefined: none is here, and what was is dropped. */
  after(link: Link): ReadAnswer | undefined {
    const [next, ...rest] = this.#rest;
    const follows = next !== undefined && sameLink(next.page.previous, link);
    this.#rest = follows ? rest : [];
    return follows ? next : undefined;
  }
}

/** Consecutive ranges. An event alone may weigh more than a slice. */
export function slicesOf({ previous, events, last }: EventRange): readonly EventRange[] {
  const slices: EventRange[] = [];
  let [from, weight] = [0, 0];
  const linkBefore = (at: number): Link => {
    const before = events[at - 1];
    return before === undefined ? previous : linkOf(before);
  };
  for (const [at, recorded] of events.entries()) {
    const own = eventWeight(recorded);
    if (at > from && weight + own > sliceWeightMax) {
      slices.push({ previous: linkBefore(from), events: events.slice(from, at), last: linkBefore(at) });
      [from, weight] = [at, 0];
    }
    weight += own;
  }
  if (from === 0) return [{ previous, events, last }];
  return [...slices, { previous: linkBefore(from), events: events.slice(from), last }];
}

const tightens = ({ events }: EventRange): boolean => events.some(({ effect }) => effect === "tightens");
const totalWeight = (events: readonly Recorded[]): number => events.reduce((sum, each) => sum + eventWeight(each), 0);

function eventWeight({ event }: Recorded): number {
  switch (event.type) {
    case "GroupMembersChanged":
      return 1 + memberWeight * (countOf(event.added) + countOf(event.removed));
    case "UserGroupsReplaced":
      return 1 + memberWeight * countOf(event.groupIds);
    case "SessionsExpired":
      return 1 + memberWeight * countOf(event.sessionIds);
    case "MembershipsExpired":
      return 1 + memberWeight * countOf(event.userIds);
    default:
      return 1;
  }
}

/** 0 for what is no list: an event that cannot be folded is for the fold to report. */
const countOf = (list: unknown): number => (Array.isArray(list) ? list.length : 0);
