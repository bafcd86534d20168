/**
 * Operator streams: the streams of our receivers as operators see and control them. Any authenticate process answers:
 * the record is read from a broker, and what waits is counted from the log.
 */
import type { SignalReceiverConfig } from "../../../config/index.ts";
import { pushMethod, type StreamState } from "../../shared-signals/index.ts";
import { sourceOf } from "./node-source.ts";
import { PendingSignals } from "./pending-signals.ts";
import { setStatus } from "./stream-endpoints.ts";
import { deliveredEvents, filterOf } from "./stream-filter.ts";
import type { DeadLetter, DeliveryFailure, SignalStream, StreamRecord } from "./stream-record.ts";
import { changeRecord, readRecord, type TransmitterDeps } from "./transmitter-context.ts";

export type SignalStreamView = Readonly<{
  receiver: string;
  audience: string;
  status: StreamState | "none";
  /** Who set the status; null: there is no stream. */
  statusBy: SignalStream["statusBy"] | null;
  reason: string | null;
  streamId: string | null;
  method: "push" | "poll" | null;
  /** The address that tokens are pushed to; null: none. */
  endpoint: string | null;
  events: readonly string[];
  /** Tokens that wait. `more`: there are more than were counted. */
  pending: number;
  more: boolean;
  /** When the oldest of them was recorded, ISO 8601; null: none waits, or it is not known. */
  oldestAt: string | null;
  lagSeconds: number | null;
  /** Positions of the log after the last one that is delivered. */
  behind: number;
  delivered: number;
  refused: number;
  gaps: number;
  deliveredAt: string | null;
  activeAt: string | null;
  failure: Readonly<{ at: string; reason: string }> | null;
  deadLetters: readonly Readonly<{ jti: string; position: number; at: string; err: string; description: string }>[];
}>;

export type OperatorStreams = Readonly<{
  list: () => Promise<readonly SignalStreamView[]>;
  /** @returns undefined: no such receiver, or it has no stream */
  setStatus: (
    receiver: string,
    to: Readonly<{ status: StreamState; reason: string | null; actor: string }>,
  ) => Promise<SignalStreamView | undefined>;
}>;

/** Pages of the log that one answer reads for each receiver. */
const pagesMax = 10;

/** @param deps its databroker is in the operator's role */
export function createOperatorStreams(
  deps: TransmitterDeps,
  receivers: readonly SignalReceiverConfig[],
): OperatorStreams {
  return {
    list: () => Promise.all(receivers.map(async (each) => viewOf(deps, each, (await readRecord(deps, each)).record))),
    async setStatus(name, { status, reason, actor }) {
      const receiver = receivers.find((each) => each.name === name);
      if (receiver === undefined) return undefined;
      const record = await changeRecord(
        deps,
        receiver,
        (before) => {
          const { stream } = before;
          if (
            stream === null ||
            (stream.status === status && stream.statusBy === "operator" && stream.reason === reason)
          )
            return { record: before, answer: before };
          // What a receiver may enable again is its own choice from then on.
          const by = status === "enabled" ? "transmitter" : "operator";
          const changed = { ...before, stream: setStatus(deps, stream, { status, reason, by }) };
          return { record: changed, answer: changed };
        },
        actor,
      );
      return record.stream === null ? undefined : viewOf(deps, receiver, record);
    },
  };
}

const noStreamView = {
  status: "none",
  statusBy: null,
  reason: null,
  streamId: null,
  method: null,
  endpoint: null,
  pending: 0,
  more: false,
  oldestAt: null,
  lagSeconds: null,
  behind: 0,
  delivered: 0,
  refused: 0,
  gaps: 0,
  deliveredAt: null,
  activeAt: null,
  failure: null,
  deadLetters: [],
} as const;

async function viewOf(
  deps: TransmitterDeps,
  receiver: SignalReceiverConfig,
  record: StreamRecord,
): Promise<SignalStreamView> {
  const { name, audience, events } = receiver;
  const { stream } = record;
  const none = { ...noStreamView, receiver: name, audience, events };
  if (stream === null) return none;
  const { status, statusBy, reason, streamId, delivery, delivered, refused, gaps } = stream;
  const waiting = await countPending(deps, receiver, { record, stream });
  const { oldestAt } = waiting;
  return {
    ...none,
    status,
    statusBy,
    reason,
    streamId,
    method: delivery.method === pushMethod ? "push" : "poll",
    endpoint: delivery.method === pushMethod ? delivery.endpoint_url : null,
    events: deliveredEvents(receiver, stream.requested),
    pending: waiting.pending,
    more: waiting.more,
    oldestAt: isoOf(oldestAt),
    lagSeconds: oldestAt === 0 ? null : Math.max(0, Math.round((deps.clock.wall() - oldestAt) / 1_000)),
    behind: Math.max(0, deps.replica.applied.position - stream.cursor.after.position),
    delivered,
    refused,
    gaps,
    deliveredAt: isoOf(stream.deliveredAt),
    activeAt: isoOf(stream.activeAt),
    failure: stream.failure && failureView(stream.failure),
    deadLetters: stream.deadLetters.map(letterView),
  };
}

async function countPending(
  deps: TransmitterDeps,
  receiver: SignalReceiverConfig,
  { record, stream }: Readonly<{ record: StreamRecord; stream: SignalStream }>,
): Promise<Readonly<{ pending: number; more: boolean; oldestAt: number }>> {
  const controls = stream.controls.length;
  const window = new PendingSignals(filterOf(receiver, record, stream), stream);
  let more = stream.status !== "disabled";
  for (let pages = 0; pages < pagesMax && more; pages++) {
    const outcome = await window.scan(sourceOf(deps), null);
    more = outcome === "more" || outcome === "full";
    if (outcome === "full") break;
  }
  const { pending } = window;
  const oldestAt = Math.min(
    pending[0]?.recorded.recordedAt ?? Number.POSITIVE_INFINITY,
    stream.controls[0]?.at ?? Number.POSITIVE_INFINITY,
  );
  return {
    pending: pending.length + controls,
    more,
    oldestAt: Number.isFinite(oldestAt) ? oldestAt : 0,
  };
}

const isoOf = (at: number): string | null => (at === 0 ? null : new Date(at).toISOString());
const failureView = ({ at, reason }: DeliveryFailure) => ({ at: new Date(at).toISOString(), reason });
const letterView = ({ at, ...letter }: DeadLetter) => ({ ...letter, at: new Date(at).toISOString() });
