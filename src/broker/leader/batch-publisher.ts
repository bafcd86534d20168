/**
 * Batch publisher: publishes a leader's commits, and again when a delivery may have been lost. Pure.
 *
 * It publishes clean commits only, immediately; the commit path never waits for it. Batches that the fan-out dropped,
 * or accepted shortly before a reconnect, are read from the log again, which shows nothing above the durable horizon,
 * and published for the replay buffer. This only saves time: a copy finds what it missed by its links.
 */
import { type Link, sameLink } from "../../events/index.ts";
import type { AppendBatch, LogPage } from "../../replication/log/index.ts";
import type { Counters } from "../core/counters.ts";
import type { Leadership, LogAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import { peopleIn } from "../state/people-in-events.ts";

export type PublishableBatch = Pick<AppendBatch, "previous" | "entries" | "last" | "newKeys">;

type PublishedBatch = Readonly<{ previous: Link; last: Link; at: number }>;

/** A connection that breaks may lose what was published within this time. */
const unconfirmedMs = 10_000;
const recentMax = 4_096;
const pageEvents = 512;
/** The most events published again; copies read the rest from a broker. */
const republishedMax = 10_000;

export class BatchPublisher {
  readonly #context: StepContext;
  readonly #parts: Readonly<{ state: BrokerState; counters: Counters }>;
  #epoch: Readonly<{ by: Leadership; start: Link; leadershipNo: number }> | null = null;
  /** Recently published, oldest first. */
  #recent: PublishedBatch[] = [];
  /** The fan-out dropped everything after this link. */
  #lostFrom: Link | null = null;
  /** Publishing again after this link, page by page; null: not publishing again. */
  #resendFrom: Link | null = null;
  #page: LogPage | null = null;
  #republished = 0;

  constructor(context: StepContext, parts: Readonly<{ state: BrokerState; counters: Counters }>) {
    this.#context = context;
    this.#parts = parts;
  }

  /** @param of.start the link before the epoch's first event: events before it are not ours to publish */
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

  /** Call it only after a clean commit. */
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

  /** The fan-out dropped the batch that ends here. */
  dropped(last: Link): void {
    if (this.#epoch === null) return;
    const published = this.#recent.find((one) => sameLink(one.last, last));
    const from = published?.previous ?? this.#epoch.start;
    if (this.#lostFrom === null || from.position < this.#lostFrom.position) this.#lostFrom = from;
  }

  /** The fan-out has connected (again). */
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
    if (of === "page" && outcome.type === "page") {
      this.#pageRead(outcome.page);
      return;
    }
    if (of === "keys" && outcome.type === "keys" && this.#page !== null) {
      const page = this.#page;
      this.#page = null;
      this.#republish(page, outcome.keys);
      return;
    }
    this.#resendFrom = null; // copies read what they miss from a broker
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
    if (users.length === 0) {
      this.#republish(page, []);
      return;
    }
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
