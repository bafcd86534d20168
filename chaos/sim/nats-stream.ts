/**
 * NATS stream: the JetStream part of the NATS model, a replay buffer that may lose messages. Pure except for its own
 * state.
 *
 * It keeps to the observed behavior of a real server (test/integration/fidelity/nats-fidelity.test.ts):
 * - A message id seen within the window is answered with the first sequence, before any other check.
 * - A wrong expected sequence is refused, and nothing is stored.
 * - Sequences grow by one.
 *
 * It may also lose an acknowledged suffix or the whole stream, as real servers have done. A mirror keeps the sequences
 * and lags behind.
 */
import type { Fact } from "../../src/events/index.ts";

export type StreamEntry<M> = Readonly<{ sequence: number; at: number; id: string | null; message: M }>;

export type PublishCondition = Readonly<{
  /** `Nats-Msg-Id`. */
  id?: string;
  /** `Nats-Expected-Last-Sequence`. */
  expectedLast?: number;
}>;

export type PubAck =
  | Fact<"stored", { sequence: number; duplicate: boolean }>
  | Fact<"refused", { lastSequence: number }>
  | Fact<"no-stream", unknown>;

export type StreamOptions = Readonly<{ dedupeMs: number; entriesMax: number }>;

export class StreamModel<M> {
  readonly #options: StreamOptions;
  #entries: StreamEntry<M>[] = [];
  #ids = new Map<string, Readonly<{ sequence: number; at: number }>>();
  #last = 0;
  #exists = false;
  /** Increases with each creation: a stream recreated under the same name is a different stream. */
  generation = 0;

  constructor(options: StreamOptions) {
    this.#options = options;
  }

  get exists(): boolean {
    return this.#exists;
  }
  get lastSequence(): number {
    return this.#last;
  }
  get size(): number {
    return this.#entries.length;
  }

  create(): "created" | "there" {
    if (this.#exists) return "there";
    this.#exists = true;
    this.generation += 1;
    return "created";
  }

  delete(): void {
    this.#exists = false;
    this.#entries = [];
    this.#ids.clear();
    this.#last = 0;
  }

  append(message: M, at: number, { id, expectedLast }: PublishCondition): PubAck {
    if (!this.#exists) return { type: "no-stream" };
    if (id !== undefined) {
      const first = this.#ids.get(id);
      if (first !== undefined && at - first.at < this.#options.dedupeMs)
        return { type: "stored", sequence: first.sequence, duplicate: true };
    }
    if (expectedLast !== undefined && expectedLast !== this.#last) return { type: "refused", lastSequence: this.#last };
    this.#last += 1;
    this.#entries.push({ sequence: this.#last, at, id: id ?? null, message });
    if (this.#entries.length > this.#options.entriesMax) this.#entries.shift();
    if (id !== undefined) this.#remember(id, at);
    return { type: "stored", sequence: this.#last, duplicate: false };
  }

  /**
   * The loss that Jepsen found: acknowledged messages vanish and their sequences are reused. @returns the number lost
   */
  loseSuffix(count: number): number {
    const lost = this.#entries.splice(Math.max(0, this.#entries.length - count));
    this.#last -= lost.length;
    for (const { id } of lost) if (id !== null) this.#ids.delete(id);
    return lost.length;
  }

  since(at: number, limit: number): readonly StreamEntry<M>[] {
    const first = this.#entries.findIndex((entry) => entry.at >= at);
    return first < 0 ? [] : this.#entries.slice(first, first + limit);
  }

  after(sequence: number): readonly StreamEntry<M>[] {
    const first = this.#entries.findIndex((entry) => entry.sequence > sequence);
    return first < 0 ? [] : this.#entries.slice(first);
  }

  #remember(id: string, at: number): void {
    this.#ids.set(id, { sequence: this.#last, at });
    const oldest = this.#ids.entries().next().value;
    if (oldest !== undefined && at - oldest[1].at >= this.#options.dedupeMs) this.#ids.delete(oldest[0]);
  }
}

/**
 * Mirror of a remote stream, by sequence. After the origin has lost messages, the two differ until the origin has
 * passed the mirror's last sequence.
 */
export class MirrorModel<M> {
  readonly #entriesMax: number;
  #entries: StreamEntry<M>[] = [];
  #last = 0;

  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax;
  }

  get lastSequence(): number {
    return this.#last;
  }

  /** @returns the number of messages copied */
  follow(origin: StreamModel<M>): number {
    const fresh = origin.after(this.#last);
    this.#entries.push(...fresh);
    this.#last = fresh.at(-1)?.sequence ?? this.#last;
    if (this.#entries.length > this.#entriesMax) this.#entries.splice(0, this.#entries.length - this.#entriesMax);
    return fresh.length;
  }

  since(at: number, limit: number): readonly StreamEntry<M>[] {
    const first = this.#entries.findIndex((entry) => entry.at >= at);
    return first < 0 ? [] : this.#entries.slice(first, first + limit);
  }
}
