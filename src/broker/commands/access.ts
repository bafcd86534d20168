/**
 * Access: the streams that performing a command reads and writes. Pure.
 *
 * A batch never holds two commands of which one could see the other's change: all are performed against one head, and a
 * command that touches the same stream waits for the next batch. Be generous: a stream too many costs a batch, a stream
 * too few would make a decision wrong.
 */
import type { Stream } from "../../events/index.ts";

export type Access = Readonly<{ reads: readonly Stream[]; writes: readonly Stream[] }>;

/** Streams that commands already use. */
export class AccessSet {
  readonly #reads = new Set<Stream>();
  readonly #writes = new Set<Stream>();

  add({ reads, writes }: Access): void {
    for (const stream of reads) this.#reads.add(stream);
    for (const stream of writes) this.#writes.add(stream);
  }

  /** True when one command would see or undo a change of the other. */
  conflicts({ reads, writes }: Access): boolean {
    // A lookup hashes and interns the text, also in an empty set.
    if (this.#writes.size > 0) {
      for (const stream of writes) if (this.#writes.has(stream)) return true;
      for (const stream of reads) if (this.#writes.has(stream)) return true;
    }
    if (this.#reads.size > 0) for (const stream of writes) if (this.#reads.has(stream)) return true;
    return false;
  }
}
