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

export type Published = Pick<AppendBatch, "previous" | "entries" | "last" | "newKeys">;

type Sent = Readonly<{ previous: Link; last: Link; at: number }>;

/** A connection that breaks may take with it what was given to it within this. */
const unsureMs = 10_000;
const sentMax = 4_096;
const pageEvents = 512;
/** Beyond this many events, whoever missed them reads them from a broker. */
const relayedMax = 10_000;

export class BatchPublisher {
  readonly #work: StepContext;
  readonly #parts: Readonly<{ ledger: BrokerState; counters: Counters }>;
  #lead: Readonly<{ by: Leadership; start: Link; term: number }> | null = null;
  /** Published lately, oldest first. */
  #sent: Sent[] = [];
  /** Surely not sent from here on. */
  #lostFrom: Link | null = null;
  /** Being published again: from here on, page by page. */
  #from: Link | null = null;
  #page: LogPage | null = null;
  #relayed = 0;

  constructor(work: StepContext, parts: Readonly<{ ledger: BrokerState; counters: Counters }>) {
    this.#work = work;
    this.#parts = parts;
  }

  /** @param of.start what the epoch's first event stands behind: what was before it is not ours to publish */
  begin(by: Leadership, of: Readonly<{ start: Link; term: number }>): void {
    this.end();
    this.#lead = { by, ...of };
  }

  end(): void {
    this.#lead = null;
    this.#sent = [];
    this.#lostFrom = null;
    this.#from = null;
    this.#page = null;
  }

  /** To be called after a clean commit, and only then. */
  publish(batch: Published): void {
    if (this.#lead === null) return;
    const { by } = this.#lead;
    const { previous, last } = batch;
    const now = this.#work.now;
    this.#sent.push({ previous, last, at: now });
    let old = 0;
    while (old < this.#sent.length && (this.#sent[old]?.at ?? now) < now - unsureMs) old += 1;
    old = Math.max(old, this.#sent.length - sentMax);
    if (old > 64) this.#sent = this.#sent.slice(old);
    this.#work.emit({ type: "publish", by, how: "commit", batch: batchOf(by, batch) });
  }

  /** The fan-out could not take it. */
  dropped(last: Link): void {
    if (this.#lead === null) return;
    const sent = this.#sent.find((one) => sameLink(one.last, last));
    const from = sent?.previous ?? this.#lead.start;
    if (this.#lostFrom === null || from.position < this.#lostFrom.position) this.#lostFrom = from;
  }

  /** A connection was made (again). */
  connected(): void {
    if (this.#lead === null) return;
    const since = this.#work.now - unsureMs;
    const unsure = this.#sent.find(({ at }) => at >= since)?.previous ?? null;
    const from = earlier(this.#lostFrom, unsure);
    this.#lostFrom = null;
    if (from === null) return;
    const reading = this.#from !== null;
    this.#from = earlier(this.#from, from);
    this.#relayed = 0;
    if (!reading) this.#read();
  }

  answered(of: "page" | "keys", term: number, outcome: LogAnswer): void {
    if (this.#lead?.term !== term || this.#from === null) return;
    if (of === "page" && outcome.type === "page") return this.#take(outcome.page);
    if (of === "keys" && outcome.type === "keys" && this.#page !== null) {
      const page = this.#page;
      this.#page = null;
      return this.#send(page, outcome.keys);
    }
    this.#from = null; // copies read from a broker what they miss
    this.#page = null;
  }

  #read(): void {
    if (this.#lead === null || this.#from === null) return;
    const { term } = this.#lead;
    this.#work.callLog({ op: "read", after: this.#from, limit: pageEvents }, { to: "relay", term, of: "page" });
  }

  #take(page: LogPage): void {
    if (this.#lead === null) return;
    if (page.entries.length === 0) {
      this.#from = null;
      return;
    }
    const people = peopleIn(page.entries);
    if (people.length === 0) return this.#send(page, []);
    this.#page = page;
    this.#work.callLog({ op: "keys", users: people }, { to: "relay", term: this.#lead.term, of: "keys" });
  }

  #send(page: LogPage, keys: AppendBatch["newKeys"]): void {
    if (this.#lead === null) return;
    const { by } = this.#lead;
    const { previous, entries, last } = page;
    this.#relayed += entries.length;
    this.#parts.counters.relayed += entries.length;
    this.#work.emit({ type: "publish", by, how: "relay", batch: { ...by, previous, entries, last, keys } });
    const done = last.position >= this.#parts.ledger.applied.position || this.#relayed >= relayedMax;
    this.#from = done ? null : last;
    if (!done) this.#read();
  }
}

export function batchOf(by: Leadership, { previous, entries, last, newKeys }: Published) {
  return { ...by, previous, entries: entries.map(({ bytes }) => bytes), last, keys: newKeys };
}

function earlier(a: Link | null, b: Link | null): Link | null {
  if (a === null || b === null) return a ?? b;
  return b.position < a.position ? b : a;
}
