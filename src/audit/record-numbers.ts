/**
 * Record numbers: reserves the numbers of decision records on disk, so that the next boot can tell what may be lost.
 *
 * - Numbers are reserved in blocks, in the background and ahead of their use. A decision never waits for the disk.
 * - The mark on disk also has the number of used numbers, and of those that every sink has written. While records are
 *   made, it is renewed about once a second.
 * - A boot that shuts down cleanly leaves a mark without reserved numbers. After any other mark records may be lost,
 *   and the next boot declares them with a gap record (audit-record.ts).
 * - While the mark cannot be written, numbers are used without a reservation and counted.
 */
import type { BootId } from "../events/index.ts";
import type { Sleep } from "./audit-sink.ts";

/** Numbers of one boot. `written` ≤ `used` ≤ `reserved`. */
export type NumbersMark = Readonly<{
  boot: BootId;
  /** Every sink has written the records up to this number, or gap records for them. */
  written: number;
  /** The newest number when the mark was written. */
  used: number;
  /** No later number is used before another mark is on disk. */
  reserved: number;
}>;

export type NumbersStore = Readonly<{
  /** @returns null if there is no readable mark */
  read(): Promise<NumbersMark | null>;
  /** Resolves when the mark would survive a power failure. */
  write(mark: NumbersMark): Promise<void>;
}>;

export type RecordNumbers = Readonly<{
  /** The mark of an earlier boot that did not shut down cleanly; null: nothing can be lost. */
  ended: NumbersMark | null;
  /** Called for each record. Returns at once. */
  use(number: number): void;
  /** How many numbers were used without a reservation. */
  unreserved(): number;
  /** Called after the last record. Leaves a mark without reserved numbers. */
  close(): Promise<void>;
}>;

const blockNumbers = 50_000;
/** The next block is reserved when fewer than these are left. */
const leadNumbers = 25_000;
const renewMs = 1_000;

/** Reads the mark of the previous boot and reserves the first block. */
export async function openRecordNumbers(options: {
  boot: BootId;
  store: NumbersStore;
  /** The newest number that every sink has written. */
  written: () => number;
  sleep: Sleep;
  onFailure: (error: unknown) => void;
}): Promise<RecordNumbers> {
  const { boot, store, sleep, onFailure } = options;
  const before = await store.read();
  let used = 0;
  let unreserved = 0;
  let saved: NumbersMark = { boot, written: 0, used: 0, reserved: 0 };
  let failing = false;
  let closing = false;
  /** Numbers up to this one need no new mark. */
  let renewAfter = 0;
  let running: Promise<void> | undefined;
  let wake = new AbortController();

  async function save(reserved: number): Promise<void> {
    const written = used === 0 ? 0 : Math.min(options.written(), used);
    const mark: NumbersMark = { boot, written, used, reserved };
    try {
      await store.write(mark);
      saved = mark;
      failing = false;
    } catch (error) {
      if (!failing) onFailure(error);
      failing = true;
    }
  }

  /** Renews the mark until nothing has changed since the last one. */
  async function renew(): Promise<void> {
    for (;;) {
      await save(used + blockNumbers);
      renewAfter = failing ? Number.POSITIVE_INFINITY : saved.reserved - leadNumbers;
      wake = new AbortController();
      // The wait ends early when the block runs low.
      if (used < renewAfter && !closing) await sleep(renewMs, wake.signal).catch(() => {});
      if (closing || (!failing && used === saved.used && options.written() === saved.written)) break;
    }
    renewAfter = used;
    running = undefined;
  }

  await save(blockNumbers);
  return {
    ended: before !== null && before.written < before.reserved ? before : null,
    use(number) {
      used = number;
      if (number > saved.reserved) unreserved++;
      if (number <= renewAfter) return;
      renewAfter = Number.POSITIVE_INFINITY; // until the next mark is on disk
      if (running === undefined) running = renew();
      else wake.abort();
    },
    unreserved: () => unreserved,
    async close() {
      closing = true;
      while (running !== undefined) {
        wake.abort();
        await running;
      }
      renewAfter = Number.POSITIVE_INFINITY;
      await save(used);
    },
  };
}
