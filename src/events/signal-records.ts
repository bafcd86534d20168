/**
 * Signal records: what a transmitter of Shared Signals has said about a subject, as a user of its own in the log. Pure.
 *
 * - Its id follows from the transmitter and the identifier of the subject, so every process finds it without a search,
 *   also before the person has ever signed in. It reveals neither. It is never the user of a session.
 * - Its state is the state of the user. Suspended: the transmitter has disabled the account, and sign-ins of people who
 *   match are refused. `sessionsRevokedBelow`: their sessions that are older have ended.
 * - What orders the signals, and what the transmitter said of its stream, is a claim of its sealed profile.
 *
 * Why so: docs/adr/0046-signals-are-records-of-their-transmitter.md.
 */
import { hash as digestOf } from "node:crypto";
import { type CommandId, parseUserId, type UnixMs, type UserId } from "./ids.ts";
import { encode } from "./messagepack.ts";
import type { Profile } from "./profile.ts";

/** The cluster level from which signals may be recorded: every leader then looks at the records before a sign-in. */
export const signalsFrom = 5;

export const signalActions = [
  "record",
  "revoke-sessions",
  "require-new-sign-in",
  "replace-claims",
  "suspend",
  "restore",
] as const;
export type SignalAction = (typeof signalActions)[number];

/**
 * - `enforced`: sessions ended, claims were replaced, or the record was suspended or restored.
 * - `unchanged`: there was nothing to end or to change.
 * - `recorded`: the action is only to record.
 * - `stale`: a newer signal about the subject has been recorded before, or an operator has lifted this one.
 * - `unmatched`: the subject has no form that this receiver matches, or a critical member that it cannot process.
 */
export type SignalOutcome = "enforced" | "unchanged" | "recorded" | "stale" | "unmatched";

/** The state of the stream, as the transmitter last said. Times are of the transmitter. */
export type SignalStreamState = Readonly<{
  streamId: string;
  status: "enabled" | "paused" | "disabled" | null;
  statusAt: UnixMs | null;
  /** When the last verification event was issued. */
  verifiedAt: UnixMs | null;
  /** The `state` that it brought, which this cluster chose; null: the transmitter sent it by itself. */
  verifiedState: string | null;
}>;

export type SubjectSignals = Readonly<{
  kind: "subject";
  /** What the last signal about the account said; null: there was none. */
  state: "enabled" | "disabled" | null;
  /** When that happened, by the clock of the transmitter; 0: never. Earlier signals are stale. */
  stateAt: UnixMs;
  event: string;
  /** Sessions below `sessionsRevokedBelow` that began after this time have not ended. Null: all have. */
  endedUpTo: UnixMs | null;
}>;
export type StreamSignals = Readonly<{ kind: "stream" }> & SignalStreamState;
export type TransmitterRecord = SubjectSignals | StreamSignals;

const idPrefix = "signal:";
const issuerPrefix = "signal:";
const claim = "signal";
const namePattern = /^[a-z0-9][a-z0-9.-]{0,39}$/;
const recordCharsMax = 4_096;

export const isTransmitterName = (name: string): boolean => namePattern.test(name);

/** An identifier in the form that a record and the profile of a sign-in have in common. */
export type SubjectKey = Readonly<
  | { by: "subject"; issuer: string; subject: string }
  | { by: "email"; email: string }
  | { by: "stream" }
  | { by: "other"; text: string }
>;

export function signalRecordId(transmitter: string, key: SubjectKey): UserId {
  return parseUserId(
    `${idPrefix}${transmitter}:${digestOf("sha256", encode(["cardea signal", ...partsOf(key)]), "base64url")}`,
  );
}

function partsOf(key: SubjectKey): readonly string[] {
  switch (key.by) {
    case "subject":
      return [key.by, withoutSlash(key.issuer), key.subject];
    case "email":
      return [key.by, key.email.toLowerCase()];
    case "stream":
      return [key.by];
    case "other":
      return [key.by, key.text];
  }
}

/** The transmitter of a record; undefined: the user is no record of a signal. */
export function transmitterOf(userId: UserId): string | undefined {
  return userId.startsWith(idPrefix) ? userId.slice(idPrefix.length).split(":")[0] : undefined;
}

export const isSignalRecord = (userId: UserId): boolean => userId.startsWith(idPrefix);

/**
 * The command id of a token: a repeated token is the same command.
 * @param part 0, 1, 2 … of the commands for one token
 */
export function signalCommandId(
  transmitter: string,
  token: Readonly<{ issuer: string; jti: string }>,
  part: number,
): CommandId {
  const h = digestOf("sha256", encode(["cardea signal token", transmitter, token.issuer, token.jti, part]), "hex");
  const variant = ((Number.parseInt(h.slice(16, 18), 16) & 0x3f) | 0x80).toString(16);
  const id = `${h.slice(0, 8)}-${h.slice(8, 12)}-8${h.slice(13, 16)}-${variant}${h.slice(18, 20)}-${h.slice(20, 32)}`;
  return id as CommandId; // a version 8 UUID
}

export function signalProfile(transmitter: string, record: TransmitterRecord): Profile {
  return {
    issuer: `${issuerPrefix}${transmitter}`,
    subject: record.kind,
    email: "",
    emailVerified: false,
    name: "",
    claims: { [claim]: [asciiJson(record)] },
  };
}

/** Undefined: the profile has no record that this build can read. */
export function parseTransmitterRecord(profile: Profile | undefined): TransmitterRecord | undefined {
  const text = profile?.issuer.startsWith(issuerPrefix) === true ? profile.claims[claim]?.[0] : undefined;
  if (typeof text !== "string" || text.length > recordCharsMax) return undefined;
  try {
    const value = JSON.parse(text) as Partial<TransmitterRecord> | null;
    if (value?.kind === "stream" && typeof value.streamId === "string")
      return {
        kind: "stream",
        streamId: value.streamId,
        status: value.status ?? null,
        statusAt: value.statusAt ?? null,
        verifiedAt: value.verifiedAt ?? null,
        verifiedState: value.verifiedState ?? null,
      };
    if (value?.kind !== "subject" || !Number.isSafeInteger(value.stateAt) || typeof value.event !== "string")
      return undefined;
    const { state, stateAt, event, endedUpTo = null } = value as SubjectSignals;
    if (endedUpTo !== null && !Number.isSafeInteger(endedUpTo)) return undefined;
    const isKnown = state === "enabled" || state === "disabled" || state === null;
    return isKnown ? { kind: "subject", state, stateAt, event, endedUpTo } : undefined;
  } catch {
    return undefined; // not a record that this build can read
  }
}

/** JSON without a character outside of ASCII: claims are plain text. */
function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function withoutSlash(url: string): string {
  return url.endsWith("/") ? url.slice(0, -1) : url;
}
