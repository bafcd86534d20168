/** Streams: the names of the events of one entity, which also name the facts that a decision read. Pure. */
import type { DeviceId, GroupId, NodeId, ServiceAccountId, SessionId, UserId } from "./ids.ts";

export type StreamKind =
  | "session"
  | "user"
  | "group"
  | "device"
  | "service-account"
  | "configuration"
  | "signal-stream"
  | "cluster";
/**
 * The name of the events of one entity, `kind:id`. No kind contains a colon, so two entities never share a stream,
 * whatever their ids. Streams also name the facts that a decision read.
 */
export type Stream = `${StreamKind}:${string}`;

export const sessionStream = (id: SessionId): Stream => `session:${id}`;
export const userStream = (id: UserId): Stream => `user:${id}`;
export const groupStream = (id: GroupId): Stream => `group:${id}`;
export const deviceStream = (id: DeviceId): Stream => `device:${id}`;
export const serviceAccountStream = (id: ServiceAccountId): Stream => `service-account:${id}`;
export const configurationStream = (id: NodeId): Stream => `configuration:${id}`;
/** @param receiver a name in `signal_receivers` */
export const signalStream = (receiver: string): Stream => `signal-stream:${receiver}`;
export const clusterStream: Stream = "cluster:log";
/** Expiry sweeps and directory syncs concern many entities at once. */
export const sweepStream: Stream = "cluster:sweep";
/** When sessions were last used concerns many sessions at once. */
export const activityStream: Stream = "cluster:activity";
/** The seals of audit records, of all nodes. */
export const auditStream: Stream = "cluster:audit";
/** One stream, so that the bounds of access requests are exact. */
export const accessRequestStream: Stream = "cluster:access-requests";
/** One stream, so that the leader decides about one held change after the other, and its bounds are exact. */
export const heldStream: Stream = "cluster:held";

/** The entity of a stream. */
export type ParsedStream =
  | Readonly<{ kind: "session"; id: SessionId }>
  | Readonly<{ kind: "user"; id: UserId }>
  | Readonly<{ kind: "group"; id: GroupId }>
  | Readonly<{ kind: "device"; id: DeviceId }>
  | Readonly<{ kind: "service-account"; id: ServiceAccountId }>
  | Readonly<{ kind: "configuration"; id: NodeId }>
  | Readonly<{ kind: "signal-stream"; id: string }>
  | Readonly<{ kind: "cluster"; id: "log" | "sweep" | "activity" | "held" | "audit" | "access-requests" }>;

/** Splits a stream at its first colon. */
export function parseStream(stream: Stream): ParsedStream {
  const colon = stream.indexOf(":");
  return { kind: stream.slice(0, colon), id: stream.slice(colon + 1) } as ParsedStream;
}
