/**
 * Event block: consecutive events of the log, as the archive of a broker keeps them after retention has dropped them.
 * Pure.
 *
 * A block needs no signature. Its reader computes the hash of each event from the link before the block; only the true
 * events lead to a link that the log, a snapshot or a decision record names.
 */
import {
  CodedError,
  decode,
  decodeEvents,
  encode,
  formatLink,
  type Link,
  linkOf,
  type Position,
  parseEpoch,
  parseHash,
  parsePosition,
  type Recorded,
  type UnixMs,
} from "../../events/index.ts";

const kind = "cardea events";
const format = 1;
/** A block holds one page of the log: about 1 MB, or a single larger event. */
export const blockBytesMax = 32 * 1024 * 1024;
export const blockEventsMax = 10_000;

export type EventBlock = Readonly<{
  /** The link of the event before the first. */
  after: Link;
  /** At least one. */
  entries: readonly Uint8Array[];
  events: readonly Recorded[];
  last: Link;
  lastAt: UnixMs;
}>;

/** The bytes are not a block of events, or are another one than its name says. */
export class EventBlockError extends CodedError<"ERR_REPLICATION_EVENT_BLOCK"> {
  override readonly code = "ERR_REPLICATION_EVENT_BLOCK";
  /** Its content is wrong for every build. False: another build may be able to read it. */
  readonly isDamaged: boolean;
  constructor(problem: string, options?: ErrorOptions & Readonly<{ isDamaged?: boolean }>) {
    super(`a block of archived events cannot be used: ${problem}`, options);
    this.isDamaged = options?.isDamaged ?? true;
  }
}

/** @throws EventBlockError, MalformedEventError */
export function eventBlock(after: Link, entries: readonly Uint8Array[]): EventBlock {
  const events = decodeEvents(entries, after);
  const newest = events.at(-1);
  if (newest === undefined) throw new EventBlockError("it has no events");
  return { after, entries, events, last: linkOf(newest), lastAt: newest.recordedAt };
}

/** A block whose events need not be decoded, because the log that they come from has verified them. */
export type EventPage = Omit<EventBlock, "events">;

export function encodeBlock({ after, entries }: Pick<EventBlock, "after" | "entries">): Uint8Array {
  return encode([kind, format, [after.epoch, after.position, after.hash], entries]);
}

/** @throws EventBlockError */
export function parseBlock(bytes: Uint8Array): EventBlock {
  try {
    const fields: unknown = decode(bytes);
    if (!Array.isArray(fields) || fields[0] !== kind) throw new EventBlockError("it is not one");
    if (fields[1] !== format)
      throw new EventBlockError(`it is of format ${String(fields[1])}, and this build reads format ${format}`, {
        isDamaged: false,
      });
    const [, , link, entries] = fields as unknown[];
    if (!Array.isArray(link) || !Array.isArray(entries) || entries.length > blockEventsMax)
      throw new EventBlockError("it is malformed");
    const [epoch, position, hash] = link as unknown[];
    if (!entries.every((entry): entry is Uint8Array => entry instanceof Uint8Array))
      throw new EventBlockError("it is malformed");
    return eventBlock({ epoch: parseEpoch(epoch), position: parsePosition(position), hash: parseHash(hash) }, entries);
  } catch (cause) {
    if (cause instanceof EventBlockError) throw cause;
    const isDamaged = cause instanceof CodedError; // not if memory ran out
    throw new EventBlockError(cause instanceof Error ? cause.message : "it cannot be read", { cause, isDamaged });
  }
}

/** A block by its file name: what is known of it without reading it. */
export type BlockName = Readonly<{ file: string; first: Position; last: Link; lastAt: UnixMs }>;

export function nameOfBlock({ after, last, lastAt }: Pick<EventBlock, "after" | "last" | "lastAt">): string {
  const first = String(after.position + 1).padStart(16, "0");
  return `${first}-${last.position}-${last.epoch}-${last.hash}-${lastAt}`;
}

/** @returns undefined: it is no name of a block */
export function parseBlockName(file: string): BlockName | undefined {
  const [, first, position, epoch, hash, at] =
    /^(\d{16})-(\d{1,16})-(\d{1,16})-([0-9a-f]{64})-(\d{1,16})$/.exec(file) ?? [];
  if (first === undefined || !isPosition(first) || !isPosition(position) || !isPosition(epoch)) return undefined;
  return {
    file,
    first: parsePosition(Number(first)),
    last: { epoch: parseEpoch(Number(epoch)), position: parsePosition(Number(position)), hash: parseHash(hash) },
    lastAt: Number(at) as UnixMs,
  };
}

const isPosition = (digits: string | undefined): boolean => Number.isSafeInteger(Number(digits));

/** The link at a position of the block, which may be the one before its first event. */
export function linkInBlock({ after, events }: EventBlock, position: Position): Link | undefined {
  if (position === after.position) return after;
  const event = events[position - after.position - 1];
  return event === undefined ? undefined : linkOf(event);
}

/** @throws EventBlockError unless the block is the one that its name says */
export function checkBlockName(block: EventBlock, name: BlockName): void {
  if (nameOfBlock(block) !== name.file)
    throw new EventBlockError(`it ends at ${formatLink(block.last)}, and its name says ${formatLink(name.last)}`);
}
