/** Stream filter: what a stream includes, by the receiver's configuration and by what the receiver asked for. Pure. */
import { type SentSignal, type SignalReceiverConfig, sentSignals } from "../../../config/index.ts";
import { eventUriOf } from "../../shared-signals/index.ts";
import type { StreamFilter } from "./pending-signals.ts";
import type { SignalStream, StreamRecord } from "./stream-record.ts";

export function filterOf(
  receiver: SignalReceiverConfig,
  { salt }: Pick<StreamRecord, "salt">,
  stream: SignalStream,
): StreamFilter {
  return {
    streamId: stream.streamId,
    salt,
    events: new Set(deliveredEvents(receiver, stream.requested)),
    groups: receiver.groups === null ? null : new Set(receiver.groups),
    claims: receiver.claims,
    mode: receiver.subjects,
    listed: new Set(stream.subjects),
  };
}

/** What is sent: allowed by the operator, and asked for by the receiver. */
export function deliveredEvents(
  { events }: Pick<SignalReceiverConfig, "events">,
  requested: readonly string[] | null,
): readonly SentSignal[] {
  const isRequested = (name: SentSignal): boolean => requested === null || requested.includes(eventUriOf(name));
  return sentSignals.filter((name) => events.includes(name) && isRequested(name));
}

export function isSameFilter(a: StreamFilter, b: StreamFilter): boolean {
  return textOf(a) === textOf(b);
}

function textOf({ streamId, salt, events, groups, claims, mode, listed }: StreamFilter): string {
  const lists = [[...events], groups === null ? null : [...groups], claims, [...listed]];
  return JSON.stringify([streamId, salt, mode, ...lists]);
}
