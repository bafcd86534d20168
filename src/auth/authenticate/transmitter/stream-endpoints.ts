/**
 * Stream endpoints: configuration, status, subjects and verification of a receiver's stream (OpenID SSF 1.0 §8.1).
 *
 * A receiver has at most one stream. Whether we know a subject that it adds is not revealed.
 */
import type { SignalReceiverConfig } from "../../../config/index.ts";
import { parseStreamState, pollMethod } from "../../shared-signals/index.ts";
import { type ReceiverCaller, requireScope } from "./receiver-credentials.ts";
import { badRequest, SignalRequestError } from "./signal-request-error.ts";
import { subjectHash } from "./signal-subjects.ts";
import { addControl, controlsMax, newStream, type SignalStream, subjectsMax, withStatus } from "./stream-record.ts";
import {
  fieldsOf,
  type JsonFields,
  parsePerson,
  parseReason,
  parseState,
  parseStreamWrite,
  requireMatch,
  viewOf,
} from "./stream-requests.ts";
import { changeRecord, readRecord, streamIn, type TransmitterDeps, withActivity } from "./transmitter-context.ts";

export type StreamAnswer = Readonly<{ status: number; body: unknown }>;

export async function createStream(
  deps: TransmitterDeps,
  caller: ReceiverCaller,
  body: unknown,
): Promise<StreamAnswer> {
  requireScope(caller, "ssf.manage");
  const { receiver } = caller;
  const { requested = null, delivery, description = null } = parseStreamWrite(fieldsOf(body ?? {}), receiver);
  const created = newStream({
    streamId: deps.token(),
    createdAt: deps.clock.wall(),
    delivery: delivery ?? { method: pollMethod, endpoint_url: null },
    requested,
    description,
    at: deps.replica.applied,
  });
  await changeRecord(deps, receiver, (record) => {
    if (record.stream !== null)
      throw new SignalRequestError("conflict", "the receiver has a stream; read, update or delete it");
    return { record: { ...record, stream: created }, answer: null };
  });
  deps.log.info({ receiver: receiver.name, streamId: created.streamId }, "a receiver of signals created its stream");
  return { status: 201, body: viewOf(created, receiver, deps) };
}

/** One stream, or the list of all: there is at most one. */
export async function readStream(
  deps: TransmitterDeps,
  caller: ReceiverCaller,
  streamId: string | undefined,
): Promise<StreamAnswer> {
  requireScope(caller, "ssf.read");
  const { receiver } = caller;
  const { stream } = await noteActivity(deps, receiver);
  if (streamId !== undefined)
    return { status: 200, body: viewOf(streamIn({ salt: "", stream }, streamId), receiver, deps) };
  return { status: 200, body: stream === null ? [] : [viewOf(stream, receiver, deps)] };
}

/** @param how `replace`: what is absent is removed */
export async function updateStream(
  deps: TransmitterDeps,
  caller: ReceiverCaller,
  { body, how }: Readonly<{ body: unknown; how: "change" | "replace" }>,
): Promise<StreamAnswer> {
  requireScope(caller, "ssf.manage");
  const { receiver } = caller;
  const fields = fieldsOf(body);
  const write = parseStreamWrite(fields, receiver);
  const isReplaced = how === "replace";
  const view = await change(deps, receiver, fields["stream_id"], (stream) => {
    requireMatch(fields, viewOf(stream, receiver, deps));
    return {
      ...stream,
      requested: write.requested ?? (isReplaced ? null : stream.requested),
      description: write.description ?? (isReplaced ? null : stream.description),
      delivery: write.delivery ?? (isReplaced ? { method: pollMethod, endpoint_url: null } : stream.delivery),
    };
  });
  return { status: 200, body: viewOf(view, receiver, deps) };
}

export async function deleteStream(
  deps: TransmitterDeps,
  caller: ReceiverCaller,
  streamId: string | undefined,
): Promise<StreamAnswer> {
  requireScope(caller, "ssf.manage");
  const { receiver } = caller;
  if (streamId === undefined) throw badRequest("stream_id is missing");
  await changeRecord(deps, receiver, (record) => {
    streamIn(record, streamId);
    return { record: { ...record, stream: null }, answer: null };
  });
  deps.log.info({ receiver: receiver.name, streamId }, "a receiver of signals deleted its stream");
  return { status: 204, body: null };
}

export async function readStatus(
  deps: TransmitterDeps,
  caller: ReceiverCaller,
  streamId: string | undefined,
): Promise<StreamAnswer> {
  requireScope(caller, "ssf.read");
  const { stream } = await noteActivity(deps, caller.receiver);
  return { status: 200, body: statusView(streamIn({ salt: "", stream }, streamId)) };
}

export async function updateStatus(
  deps: TransmitterDeps,
  caller: ReceiverCaller,
  body: unknown,
): Promise<StreamAnswer> {
  requireScope(caller, "ssf.manage");
  const fields = fieldsOf(body);
  const status = parseStreamState(fields["status"]);
  if (status === undefined) throw badRequest("status is neither enabled, paused nor disabled");
  const reason = parseReason(fields["reason"]);
  const changed = await change(deps, caller.receiver, fields["stream_id"], (stream) => {
    if (stream.statusBy === "operator" && stream.status !== status)
      throw new SignalRequestError(
        "access_denied",
        `an operator of the transmitter has set the stream to ${stream.status}`,
      );
    return setStatus(deps, stream, { status, reason, by: "receiver" });
  });
  return { status: 200, body: statusView(changed) };
}

/** A disabled stream holds nothing: when it is enabled, it begins at the present. */
export function setStatus(
  { clock, replica }: Pick<TransmitterDeps, "clock" | "replica">,
  stream: SignalStream,
  to: Pick<SignalStream, "status" | "reason"> & Readonly<{ by: SignalStream["statusBy"] }>,
): SignalStream {
  const at = clock.wall();
  const changed = withStatus(stream, { ...to, at });
  if (stream.status !== "disabled" || to.status === "disabled") return changed;
  return { ...changed, cursor: { after: replica.applied, index: 0 }, done: [] };
}

export async function changeSubject(
  deps: TransmitterDeps,
  caller: ReceiverCaller,
  { body, how }: Readonly<{ body: unknown; how: "add" | "remove" }>,
): Promise<StreamAnswer> {
  requireScope(caller, "ssf.manage");
  const { receiver } = caller;
  const fields = fieldsOf(body);
  const person = parsePerson(fields["subject"]);
  await changeRecord(deps, receiver, (record) => {
    const stream = streamIn(record, fields["stream_id"]);
    const listed = new Set(stream.subjects);
    const hash = subjectHash(person, record.salt);
    // Of a stream with all subjects, those that are left out are listed; else those that are included.
    if ((how === "add") === (receiver.subjects === "none")) listed.add(hash);
    else listed.delete(hash);
    if (listed.size > subjectsMax)
      throw new SignalRequestError("access_denied", `a stream lists at most ${subjectsMax} subjects`);
    const active = withActivity(stream, receiver, deps.clock.wall());
    if (listed.size === stream.subjects.length && active === stream) return { record, answer: null };
    return { record: { ...record, stream: { ...active, subjects: [...listed] } }, answer: null };
  });
  return { status: how === "add" ? 200 : 204, body: null };
}

export async function requestVerification(
  deps: TransmitterDeps,
  caller: ReceiverCaller,
  body: unknown,
): Promise<StreamAnswer> {
  requireScope(caller, "ssf.manage");
  const { receiver } = caller;
  const fields = fieldsOf(body);
  const state = parseState(fields["state"]);
  await change(deps, receiver, fields["stream_id"], (stream) => {
    if (stream.status === "disabled") throw badRequest("the stream is disabled");
    const at = deps.clock.wall();
    const leftMs = stream.verifiedAt + receiver.minVerificationMs - at;
    if (leftMs > 0 || stream.controls.length >= controlsMax)
      throw new SignalRequestError(
        "too_many_requests",
        `verifications may follow each other after ${Math.ceil(receiver.minVerificationMs / 1_000)} s`,
        { retryAfterS: Math.max(1, Math.ceil(leftMs / 1_000)) },
      );
    const payload = state === undefined ? {} : { state };
    return { ...addControl(stream, { at, name: "verification", payload }), verifiedAt: at };
  });
  return { status: 204, body: null };
}

async function change(
  deps: TransmitterDeps,
  receiver: SignalReceiverConfig,
  streamId: unknown,
  to: (stream: SignalStream) => SignalStream,
): Promise<SignalStream> {
  return changeRecord(deps, receiver, (record) => {
    const stream = withActivity(to(streamIn(record, streamId)), receiver, deps.clock.wall());
    return { record: { ...record, stream }, answer: stream };
  });
}

/** Reading counts as activity of the receiver (SSF 1.0 §8.1.1). */
async function noteActivity(
  deps: TransmitterDeps,
  receiver: SignalReceiverConfig,
): Promise<Readonly<{ stream: SignalStream | null }>> {
  const { record } = await readRecord(deps, receiver);
  const { stream } = record;
  if (stream === null || withActivity(stream, receiver, deps.clock.wall()) === stream) return { stream };
  return changeRecord(deps, receiver, (now) => {
    const active = now.stream && withActivity(now.stream, receiver, deps.clock.wall());
    return { record: active === now.stream ? now : { ...now, stream: active }, answer: { stream: active } };
  });
}

function statusView({ streamId, status, reason }: SignalStream): JsonFields {
  return { stream_id: streamId, status, ...(reason === null ? {} : { reason }) };
}
