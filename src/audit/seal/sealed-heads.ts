/**
 * Sealed heads: the size and root of each seal that was made of a boot, so that the node knows its own seals again when
 * the log has lost newer ones, as a failover or a restored backup can. Pure.
 *
 * The newest are whole. Of the earlier ones there are 10 bytes of the root: enough to tell a seal from any other.
 */
export type TreeHead = Readonly<{ size: number; root: Buffer }>;

const wholeMax = 128;
/** Two weeks, with a seal every five minutes. */
export const earlierMax = 4_096;
const sizeBytes = 6;
const entryBytes = 16;

export type SealedHeadsForm = Readonly<{
  heads: readonly Readonly<{ size: number; root: string }>[];
  /** Absent: an older build wrote it. */
  earlierHeads?: string;
}>;

export class SealedHeads {
  /** Oldest first. */
  #whole: TreeHead[] = [];
  #earlier = Buffer.alloc(0);

  add(head: TreeHead): void {
    const left = this.#whole.length >= wholeMax ? this.#whole[0] : undefined;
    this.#whole = [...this.#whole.slice(1 - wholeMax), head];
    if (left === undefined) return;
    const kept = this.#earlier.subarray(Math.max(0, this.#earlier.length - (earlierMax - 1) * entryBytes));
    this.#earlier = Buffer.concat([kept, entryOf(left)]);
  }

  /** As far as it remembers. */
  has(head: TreeHead): boolean {
    if (this.#whole.some(({ size, root }) => size === head.size && root.equals(head.root))) return true;
    const entry = entryOf(head);
    for (let at = 0; at < this.#earlier.length; at += entryBytes)
      if (this.#earlier.compare(entry, 0, entryBytes, at, at + entryBytes) === 0) return true;
    return false;
  }

  form(): SealedHeadsForm {
    const heads = this.#whole.map(({ size, root }) => ({ size, root: root.toString("base64url") }));
    return { heads, earlierHeads: this.#earlier.toString("base64url") };
  }

  static from({ heads, earlierHeads = "" }: SealedHeadsForm): SealedHeads {
    const all = new SealedHeads();
    all.#whole = heads.map(({ size, root }) => ({ size, root: Buffer.from(root, "base64url") }));
    all.#earlier = Buffer.from(earlierHeads, "base64url");
    return all;
  }
}

function entryOf({ size, root }: TreeHead): Buffer {
  const entry = Buffer.alloc(entryBytes);
  entry.writeUIntBE(size, 0, sizeBytes);
  root.copy(entry, sizeBytes, 0, entryBytes - sizeBytes);
  return entry;
}
