/**
 * Batch publisher: publishes a leader's commits, and publishes them again when a delivery may have been lost. Pure.
 *
 * Only what has committed cleanly is published, at once; the commit path never waits for it. What the fan-out could not take, or
 * took shortly before its connection was made anew, is read from the log again, which shows nothing above the durable horizon,
 * and published for the replay buffer. All of this only hastens: a copy finds what it missed by its links.
 */
import { type Link, sameLink } from "../../events/index.ts";
import type { AppendBatch, LogPage } from "../../replication/index.ts";
import type { Counters } from "../core/counters.ts";
import type { Leadership, LogAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import { peopleIn } from "../state/people-in-events.ts";

export type PublishableBatch = Pick<AppendBatch, "previous" | "entries" | "last" | "newKeys">;

type PublishedBatch = Readonly<{ previous: Link; last: Link; at: number }>;

/** A connection that breaks may take with it what was given to it within this. */
const unconfirmedMs = 10_000;
const recentMax = 4_096;
const pageEvents = 512;
/** Beyond this many events, whoever missed them reads them from a broker. */
const republishedMax = 10_000;

export class BatchPublisher {
  readonly #context: StepContext;
  readonly #parts: Readonly<{ state: BrokerState; counters: Counters }>;
  #epoch: Readonly<{ by: Leadership; start: Link; leadershipNo: number }> | null = null;
  /** Published lately, oldest first. */
  #recent: PublishedBatch[] = [];
  /** Surely not sent from here on. */
  #lostFrom: Link | null = null;
  /** Being published again: from here on, page by page. */
  #resendFrom: Link | null = null;
  #page: LogPage | null = null;
  #republished = 0;

  constructor(context: StepContext, parts: Readonly<{ state: BrokerState; counters: Counters }>) {
    this.#context = context;
    this.#parts = parts;
  }

  /** @param of.start what the epoch's first event stands behind: what was before it is not ours to publish */
  begin(by: Leadership, of: Readonly<{ start: Link; leadershipNo: number }>): void {
    this.end();
    this.#epoch = { by, ...of };
  }

  end(): void {
    this.#epoch = null;
    this.#recent = [];
    this.#lostFrom = null;
    this.#resendFrom = null;
    this.#page = null;
  }

  /** To be called after a clean commit, and only then. */
  publish(batch: PublishableBatch): void {
    if (this.#epoch === null) return;
    const { by } = this.#epoch;
    const { previous, last } = batch;
    const now = this.#context.now;
    this.#recent.push({ previous, last, at: now });
    let old = 0;
    while (old < this.#recent.length && (this.#recent[old]?.at ?? now) < now - unconfirmedMs) old += 1;
    old = Math.max(old, this.#recent.length - recentMax);
    if (old > 64) this.#recent = this.#recent.slice(old);
    this.#context.emit({ type: "publish", by, how: "commit", batch: batchOf(by, batch) });
  }

  /** The fan-out could not take it. */
  dropped(last: Link): void {
    if (this.#epoch === null) return;
    const published = this.#recent.find((one) => sameLink(one.last, last));
    const from = published?.previous ?? this.#epoch.start;
    if (this.#lostFrom === null || from.position < this.#lostFrom.position) this.#lostFrom = from;
  }

  /** A connection was made (again). */
  connected(): void {
    if (this.#epoch === null) return;
    const since = this.#context.now - unconfirmedMs;
    const unconfirmed = this.#recent.find(({ at }) => at >= since)?.previous ?? null;
    const from = earlier(this.#lostFrom, unconfirmed);
    this.#lostFrom = null;
    if (from === null) return;
    const isReading = this.#resendFrom !== null;
    this.#resendFrom = earlier(this.#resendFrom, from);
    this.#republished = 0;
    if (!isReading) this.#read();
  }

  logAnswered(of: "page" | "keys", leadershipNo: number, outcome: LogAnswer): void {
    if (this.#epoch?.leadershipNo !== leadershipNo || this.#resendFrom === null) return;
    if (of === "page" && outcome.type === "page") return this.#pageRead(outcome.page);
    if (of === "keys" && outcome.type === "keys" && this.#page !== null) {
      const page = this.#page;
      this.#page = null;
      return this.#republish(page, outcome.keys);
    }
    this.#resendFrom = null; // copies read from a broker what they miss
    this.#page = null;
  }

  #read(): void {
    if (this.#epoch === null || this.#resendFrom === null) return;
    const { leadershipNo } = this.#epoch;
    this.#context.callLog(
      { op: "read", after: this.#resendFrom, limit: pageEvents },
      { to: "publisher", leadershipNo, of: "page" },
    );
  }

  #pageRead(page: LogPage): void {
    if (this.#epoch === null) return;
    if (page.entries.length === 0) {
      this.#resendFrom = null;
      return;
    }
    const users = peopleIn(page.entries);
    if (users.length === 0) return this.#republish(page, []);
    this.#page = page;
    this.#context.callLog(
      { op: "keys", users: users },
      { to: "publisher", leadershipNo: this.#epoch.leadershipNo, of: "keys" },
    );
  }

  #republish(page: LogPage, keys: AppendBatch["newKeys"]): void {
    if (this.#epoch === null) return;
    const { by } = this.#epoch;
    const { previous, entries, last } = page;
    this.#republished += entries.length;
    this.#parts.counters.relayed += entries.length;
    this.#context.emit({ type: "publish", by, how: "republish", batch: { ...by, previous, entries, last, keys } });
    const done = last.position >= this.#parts.state.applied.position || this.#republished >= republishedMax;
    this.#resendFrom = done ? null : last;
    if (!done) this.#read();
  }
}

export function batchOf(by: Leadership, { previous, entries, last, newKeys }: PublishableBatch) {
  return { ...by, previous, entries: entries.map(({ bytes }) => bytes), last, keys: newKeys };
}

function earlier(a: Link | null, b: Link | null): Link | null {
  if (a === null || b === null) return a ?? b;
  return b.position < a.position ? b : a;
}
