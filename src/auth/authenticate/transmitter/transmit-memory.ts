/**
 * Transmit memory: what the leading broker knows of each stream, for metrics and for retention. Pure.
 *
 * Only configured receivers are in it, 16 at most. The records in the vault hold everything that delivery needs.
 */
import { noPosition, type Position, type UnixMs } from "../../../events/index.ts";

export const deliveryResults = ["delivered", "dead-letter", "failed"] as const;
export type DeliveryResult = (typeof deliveryResults)[number];

export type StreamReport = Readonly<{
  status: "enabled" | "paused" | "disabled" | "none";
  method: "push" | "poll" | "none";
  /** Tokens that wait; at the bound of the window there may be more. */
  pending: number;
  /** When the oldest of them was recorded; null: none waits. */
  oldestAt: UnixMs | null;
  /** Positions of the log after the cursor. */
  behind: number;
  /** When the log last lacked what the receiver had to get; 0: never. */
  gapAt: UnixMs;
  /** Whether the last delivery failed. */
  failing: boolean;
  /** The log is needed after this position, unless `heldSince` is too long ago; null: it is not needed. */
  neededAfter: Position | null;
  heldSince: UnixMs | null;
}>;

export type TransmitMemory = Readonly<{
  reports: Map<string, StreamReport>;
  counts: Map<string, Record<DeliveryResult, number>>;
  /** Whether every receiver's record was read since this process leads. */
  state: {
    loaded: boolean;
    /** When it began to read them; null: it has not. */
    loadingSince: UnixMs | null;
  };
}>;

export function newTransmitMemory(): TransmitMemory {
  return { reports: new Map(), counts: new Map(), state: { loaded: false, loadingSince: null } };
}

export function countDelivery({ counts }: TransmitMemory, receiver: string, result: DeliveryResult): void {
  let of = counts.get(receiver);
  if (of === undefined) {
    of = { delivered: 0, "dead-letter": 0, failed: 0 };
    counts.set(receiver, of);
  }
  of[result]++;
}

/** How long retention waits for a stream; after that the stream has a gap, of which the receiver is notified. */
export const holdMsMax = 7 * 24 * 3_600_000;

/** The position after which streams need the log; null: they need nothing. */
export function neededAfter({ reports, state }: TransmitMemory, now: UnixMs): Position | null {
  const { loaded, loadingSince } = state;
  // A record that cannot be read must not keep the log forever.
  if (!loaded && (loadingSince === null || now - loadingSince <= holdMsMax)) return noPosition;
  let oldest: Position | null = null;
  for (const { neededAfter: after, heldSince } of reports.values()) {
    if (after === null || (heldSince !== null && now - heldSince > holdMsMax)) continue;
    if (oldest === null || after < oldest) oldest = after;
  }
  return oldest;
}
