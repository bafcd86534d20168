/**
 * Reassertions: the final denials of a lost suffix on their way back into the log (docs/protocol.md §4.3).
 *
 * - They are sent in small batches, one request in flight, with growing delays until a broker answers.
 * - Nodes that applied the same events hand back the same denials, and the log gets one event for each.
 * - Handing a denial back changes nothing here: it stays in force until the surviving log contains it.
 * - A denial of a person is handed back alone: the log may have decided otherwise since, so the node needs the answer
 *   to this one denial.
 *
 * Pure.
 */
import { commandIdFromBytes, type Hash, type LostTightening, parseStream } from "../../../events/index.ts";
import { type Backoff, backoffMs, upTo } from "../../runtime/jitter.ts";
import type { NodeEffect } from "../messages.ts";

/** @see recordAnswer; `cancel`: the request no longer matters. */
export type ReassertEffect = Extract<NodeEffect, { type: "reassert" | "cancel" }>;

const backoff: Backoff = { first: 500, max: 30_000 };
/** Spreads the first requests, because all nodes detect a loss at about the same time. */
const spreadMs = 1_000;
const answerMsMax = 15_000;
const batchMax = 256;
/** Two losses in a row fit: tightenings.ts remembers at most 16,384 denials. */
const pendingMax = 32_768;
const never = Number.POSITIVE_INFINITY;

export class Reassertions {
  readonly #random: (size: number) => Uint8Array;
  readonly #nextId: () => number;
  readonly #emit: (effect: ReassertEffect) => void;
  readonly #pending = new Map<Hash, LostTightening>();
  #inFlight: Readonly<{ id: number; hashes: readonly Hash[]; until: number }> | null = null;
  #failures = 0;
  #sendAt = never;

  constructor(
    options: Readonly<{
      random: (size: number) => Uint8Array;
      nextId: () => number;
      emit: (effect: ReassertEffect) => void;
    }>,
  ) {
    this.#random = options.random;
    this.#nextId = options.nextId;
    this.#emit = options.emit;
  }

  get size(): number {
    return this.#pending.size;
  }
  get due(): number {
    return this.#inFlight === null ? this.#sendAt : this.#inFlight.until;
  }

  add(events: readonly LostTightening[], now: number): void {
    for (const event of events) if (this.#pending.size < pendingMax) this.#pending.set(event.link.hash, event);
    if (this.#pending.size > 0 && this.#sendAt === never) this.#sendAt = now + upTo(spreadMs, this.#random);
  }

  /** @returns the hash of the denial, if the request held exactly one and succeeded; otherwise null */
  recordAnswer(id: number, answer: "answered" | "failed", now: number): Hash | null {
    if (this.#inFlight?.id !== id) return null;
    const { hashes } = this.#inFlight;
    const [only = null, ...others] = hashes;
    this.#inFlight = null;
    if (answer === "answered") {
      this.#failures = 0;
      for (const hash of hashes) this.#pending.delete(hash);
      this.#sendAt = this.#pending.size > 0 ? now : never;
    } else {
      this.#failures += 1;
      this.#sendAt = now + backoffMs(backoff, this.#failures, this.#random);
    }
    this.wake(now);
    return answer === "answered" && others.length === 0 ? only : null;
  }

  wake(now: number): void {
    if (this.#inFlight !== null && now >= this.#inFlight.until) {
      const { id } = this.#inFlight;
      this.#emit({ type: "cancel", id });
      this.recordAnswer(id, "failed", now);
    }
    if (this.#inFlight !== null || now < this.#sendAt) return;
    const events = this.#nextEvents();
    const id = this.#nextId();
    this.#inFlight = { id, hashes: events.map(({ link }) => link.hash), until: now + answerMsMax };
    const commandId = commandIdFromBytes(this.#random(16));
    this.#emit({ type: "reassert", id, commandId, events });
  }

  #nextEvents(): LostTightening[] {
    const pending = [...this.#pending.values()].slice(0, batchMax);
    const person = pending.findIndex(isOfPerson);
    return person === 0 ? pending.slice(0, 1) : pending.slice(0, person === -1 ? batchMax : person);
  }
}

function isOfPerson({ stream }: LostTightening): boolean {
  return parseStream(stream).kind === "user";
}
