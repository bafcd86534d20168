/**
 * Seen times: when each session was last used, and the longest pause in its use. Pure.
 *
 * Two numbers per record in a block. A block without any such session has no memory here.
 */
import type { UnixMs } from "../ids.ts";
import { blockRecords } from "./session-block.ts";

/** What the log knows of a session's use; see `SeenSession`. */
export type SessionUse = Readonly<{ seenAt: UnixMs; pauseMs: number }>;

/** Combines two reports. @returns the first one if the second adds nothing */
export function latestUse(a: SessionUse | undefined, b: SessionUse): SessionUse {
  if (a === undefined) return b;
  if (b.seenAt <= a.seenAt && b.pauseMs <= a.pauseMs) return a;
  return { seenAt: Math.max(a.seenAt, b.seenAt) as UnixMs, pauseMs: Math.max(a.pauseMs, b.pauseMs) };
}

type Block = Readonly<{ seenAt: Float64Array; pauseMs: Float64Array }>;

export class SeenTimes {
  /** `seenAt` 0: nothing is known of the record. */
  readonly #blocks: (Block | undefined)[] = [];

  get(record: number): SessionUse | undefined {
    const block = this.#blocks[record >>> 14];
    const at = record & (blockRecords - 1);
    const seenAt = block?.seenAt[at] ?? 0;
    return seenAt === 0 ? undefined : { seenAt: seenAt as UnixMs, pauseMs: block?.pauseMs[at] ?? 0 };
  }

  /** 0: nothing is known of the record. */
  seenAt(record: number): number {
    return this.#blocks[record >>> 14]?.seenAt[record & (blockRecords - 1)] ?? 0;
  }

  set(record: number, use: SessionUse | undefined): void {
    const number = record >>> 14;
    if (use === undefined && this.#blocks[number] === undefined) return;
    while (this.#blocks.length <= number) this.#blocks.push(undefined);
    const block = this.#blocks[number] ?? newBlock();
    this.#blocks[number] = block;
    const at = record & (blockRecords - 1);
    block.seenAt[at] = use?.seenAt ?? 0;
    block.pauseMs[at] = use?.pauseMs ?? 0;
  }
}

function newBlock(): Block {
  return { seenAt: new Float64Array(blockRecords), pauseMs: new Float64Array(blockRecords) };
}
