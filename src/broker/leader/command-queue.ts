/**
 * Command queue: commands that wait for the next batch, in two lanes. Pure.
 *
 * Tightening commands overtake the others, but never one on the same stream: within a stream, commands keep their order
 * of arrival. A flood of tightening commands leaves a quarter of each batch to the others.
 */
import type { Stream } from "../../events/index.ts";
import { type Access, AccessSet } from "../commands/access.ts";
import type { QueuedCommand } from "../core/internal-messages.ts";

export type QueueBounds = Readonly<{ commandsMax: number; bytesMax: number }>;

const urgentShare = 0.75;

export class CommandQueue {
  readonly #bounds: QueueBounds;
  #urgent: QueuedCommand[] = [];
  #normal: QueuedCommand[] = [];
  /**
   * The streams of the normal lane, each with its number of commands. Null: not counted, because no tightening command
   * has arrived since the lane was last empty.
   */
  #counts: StreamCounts | null = null;
  #bytes = 0;

  constructor(bounds: QueueBounds) {
    this.#bounds = bounds;
  }

  get size(): number {
    return this.#urgent.length + this.#normal.length;
  }

  /** @returns false when the queue is full */
  offer(queued: QueuedCommand): boolean {
    if (this.size >= this.#bounds.commandsMax || this.#bytes + queued.bytes > this.#bounds.bytesMax) return false;
    this.#bytes += queued.bytes;
    if (queued.urgent && !this.#conflictsWithNormal(queued.access)) this.#urgent.push(queued);
    else this.#pushNormal([queued], "back");
    return true;
  }

  /** Takes the candidates of the next batch, in the order in which they are performed. */
  take(max: number): QueuedCommand[] {
    const urgentMax = this.#normal.length === 0 ? max : Math.ceil(max * urgentShare);
    const urgent = this.#urgent.splice(0, urgentMax);
    const normal = this.#normal.splice(0, max - urgent.length);
    if (this.#normal.length === 0) this.#counts = null;
    else for (const queued of normal) this.#counts?.add(queued.access, -1);
    const taken = [...urgent, ...normal];
    for (const queued of taken) this.#bytes -= queued.bytes;
    return taken;
  }

  /**
   * Puts commands back to the front, in their old order. A tightening command that arrived meanwhile must not overtake
   * one of them on the same stream: it is queued after it.
   */
  requeue(commands: readonly QueuedCommand[]): void {
    const normal: QueuedCommand[] = [];
    const urgent: QueuedCommand[] = [];
    const before = new AccessSet();
    const place = (queued: QueuedCommand): void => {
      if (queued.urgent && !before.conflicts(queued.access)) {
        urgent.push(queued);
      } else {
        normal.push(queued);
        before.add(queued.access);
      }
    };
    for (const queued of [...commands].sort((a, b) => a.order - b.order)) {
      place(queued);
      this.#bytes += queued.bytes;
    }
    const waiting = this.#urgent;
    this.#urgent = urgent;
    for (const queued of waiting) place(queued);
    this.#pushNormal(normal, "front");
  }

  /** Removes one command; false: it was not here. */
  remove(queued: QueuedCommand): boolean {
    const urgent = this.#urgent.indexOf(queued);
    const normal = urgent >= 0 ? -1 : this.#normal.indexOf(queued);
    if (urgent >= 0) this.#urgent.splice(urgent, 1);
    if (normal >= 0) {
      this.#normal.splice(normal, 1);
      this.#counts?.add(queued.access, -1);
    }
    if (urgent < 0 && normal < 0) return false;
    this.#bytes -= queued.bytes;
    return true;
  }

  #pushNormal(commands: readonly QueuedCommand[], end: "front" | "back"): void {
    this.#normal = end === "front" ? [...commands, ...this.#normal] : this.#normal;
    if (end === "back") this.#normal.push(...commands);
    for (const queued of commands) this.#counts?.add(queued.access, 1);
  }

  #conflictsWithNormal(access: Access): boolean {
    if (this.#normal.length === 0) return false;
    if (this.#counts === null) {
      this.#counts = new StreamCounts();
      for (const queued of this.#normal) this.#counts.add(queued.access, 1);
    }
    return this.#counts.conflicts(access);
  }
}

/** The streams that commands read and write, each with its number of commands. */
class StreamCounts {
  readonly #reads = new Map<Stream, number>();
  readonly #writes = new Map<Stream, number>();

  add({ reads, writes }: Access, by: 1 | -1): void {
    for (const stream of reads) addTo(this.#reads, stream, by);
    for (const stream of writes) addTo(this.#writes, stream, by);
  }

  conflicts({ reads, writes }: Access): boolean {
    return (
      writes.some((stream) => this.#writes.has(stream) || this.#reads.has(stream)) ||
      reads.some((stream) => this.#writes.has(stream))
    );
  }
}

function addTo(counts: Map<Stream, number>, stream: Stream, by: number): void {
  const count = (counts.get(stream) ?? 0) + by;
  if (count === 0) counts.delete(stream);
  else counts.set(stream, count);
}
