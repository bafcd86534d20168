/**
 * Local revocation: a command that only tightens, accepted by a regional broker while the home region was out of reach
 * (docs/adr/0039-a-cut-off-region-revokes-locally.md).
 *
 * - The accepting broker signs it in an envelope. Brokers and nodes keep the envelope, so that each of them can give it
 *   to others and submit it to the leader.
 * - It names ids alone. "All sessions of a user" is expanded when it is accepted, to the ids known at `basis`.
 *
 * Pure.
 */
import {
  type BootId,
  type Command,
  type CommandId,
  commandIdOfEnvelope,
  decode,
  encode,
  isPlainText,
  type Link,
  parseBootId,
  parseCommandId,
  parseSessionId,
  parseUnixMs,
  parseUserId,
  type SessionId,
  type Stream,
  sessionStream,
  type UnixMs,
  type UserId,
  userStream,
} from "../../events/index.ts";
import type { EnvelopeOpener } from "./broker-opener.ts";
import { readEnvelopeShape } from "./envelope-shape.ts";
import { MalformedMessageError, parseLinkMap } from "./messages.ts";

export const localCommands = ["revokeSession", "revokeSessions", "revokeUserSessions", "suspendUser"] as const;
export type LocalCommandType = (typeof localCommands)[number];

export type LocalRevocation = Readonly<{
  commandId: CommandId;
  region: string;
  /** The name of the broker that accepted it. */
  broker: string;
  boot: BootId;
  /** Its number in the store of that broker. */
  seq: number;
  /** What that broker had applied: the ids are those known there. */
  basis: Link;
  actor: string;
  acceptedAt: UnixMs;
  command: LocalCommandType;
  /** The person whose sessions end, or who is suspended. Null: the command named sessions. */
  userId: UserId | null;
  /** Sorted. Empty for a suspension, which denies the person. */
  sessionIds: readonly SessionId[];
  /** Of a suspension; "" otherwise. */
  reason: string;
}>;

/** A revocation and the envelope of the broker that accepted it. */
export type SealedRevocation = Readonly<{ revocation: LocalRevocation; envelope: Uint8Array }>;

/** More than a command over the wire may name (broker/commands/fields.ts). */
export const revocationIdsMax = 20_000;
const textMax = 10_000;

/** The facts that it denies. */
export function deniedStreams({ command, userId, sessionIds }: LocalRevocation): readonly Stream[] {
  if (command === "suspendUser") return userId === null ? [] : [userStream(userId)];
  return sessionIds.map(sessionStream);
}

/** Names one revocation among all brokers and boots. */
export function revocationKey({ broker, boot, seq }: LocalRevocation): string {
  return JSON.stringify([broker, boot, seq]);
}

/** A command that a region may accept by itself. */
export type LocalCommand = Extract<Command, { type: LocalCommandType }>;

/** Whether a repeated command means the same change. All sessions of a user are those of its first acceptance. */
export function isSameChange({ command: type, userId, sessionIds }: LocalRevocation, again: LocalCommand): boolean {
  if (type !== again.type) return false;
  switch (again.type) {
    case "suspendUser":
    case "revokeUserSessions":
      return again.userId === userId;
    case "revokeSession":
      return sessionIds.length === 1 && sessionIds[0] === again.sessionId;
    case "revokeSessions": {
      const ids = new Set(again.sessionIds);
      return ids.size === sessionIds.length && sessionIds.every((id) => ids.has(id));
    }
  }
}

export function encodeRevocation(revocation: LocalRevocation): Uint8Array {
  return encode(revocation);
}

/** Opens an envelope of a broker. @returns the reason why it is refused as text */
export function openRevocation(envelope: Uint8Array, open: EnvelopeOpener): SealedRevocation | string {
  const opened = open(envelope);
  if ("refused" in opened) return opened.refused;
  if (opened.kind !== "local-revocation") return `a ${opened.kind} is not a local revocation`;
  try {
    const revocation = parseRevocation(opened.payload);
    const { name, boot, role } = opened.from;
    if (role !== "broker" || name !== revocation.broker || boot !== revocation.boot)
      return "another process signed it than the broker that it names";
    return { revocation, envelope };
  } catch (error) {
    return error instanceof Error ? error.message : "not a local revocation";
  }
}

/** The content of an envelope whose signature was checked when it arrived. @throws MalformedMessageError */
export function revocationIn(envelope: Uint8Array): LocalRevocation {
  const shape = readEnvelopeShape(envelope);
  if (shape === undefined || shape.kind !== "local-revocation")
    throw new MalformedMessageError("not the envelope of a local revocation");
  return parseRevocation(shape.payload);
}

/** The ids under which it may be submitted: its command's, and one of its own in case that id means another command. */
export function mergeIdsOf({ revocation, envelope }: SealedRevocation): readonly [CommandId, CommandId] {
  return [revocation.commandId, commandIdOfEnvelope(envelope)];
}

function parseRevocation(payload: Uint8Array): LocalRevocation {
  const fields: unknown = decode(payload);
  if (typeof fields !== "object" || fields === null || Array.isArray(fields))
    throw new MalformedMessageError("not a map");
  const m = fields as Readonly<Record<string, unknown>>;
  const command = localCommands.find((each) => each === m["command"]);
  const { seq, sessionIds } = m;
  if (command === undefined) throw new MalformedMessageError("not a command that only tightens");
  if (typeof seq !== "number" || !Number.isSafeInteger(seq) || seq < 1) throw new MalformedMessageError("seq");
  if (!Array.isArray(sessionIds) || sessionIds.length > revocationIdsMax) throw new MalformedMessageError("sessionIds");
  const revocation: LocalRevocation = {
    commandId: parseCommandId(m["commandId"]),
    region: textIn(m, "region"),
    broker: textIn(m, "broker"),
    boot: parseBootId(m["boot"]),
    seq,
    basis: parseLinkMap(m["basis"]),
    actor: textIn(m, "actor"),
    acceptedAt: parseUnixMs(m["acceptedAt"]),
    command,
    userId: m["userId"] === null ? null : parseUserId(m["userId"]),
    sessionIds: sessionIds.map(parseSessionId),
    reason: textIn(m, "reason"),
  };
  if (deniedStreams(revocation).length === 0) throw new MalformedMessageError("it denies nothing");
  return revocation;
}

function textIn(m: Readonly<Record<string, unknown>>, name: string): string {
  const value = m[name];
  if (typeof value === "string" && value.length <= textMax && isPlainText(value)) return value;
  throw new MalformedMessageError(`${name} is not text`);
}
