/**
 * Event claims: the claims of the tokens that we send (OpenID SSF 1.0 §4, CAEP 1.0 §2). Pure.
 *
 * Identity, time, subject and kind of a token follow from the stream and the event. The groups that a
 * `token-claims-change` lists are those at the time when the token is made: they are as new as its event, or newer.
 */
import type { SignalReceiverConfig } from "../../../config/index.ts";
import { claimsOfSession, lastStatedOf, type Projection, type UnixMs, type UserId } from "../../../events/index.ts";
import { securityEventClaims } from "../../shared-signals/index.ts";
import type { Identity, PendingSignal } from "./pending-signals.ts";
import { opaqueId, subjectClaim, subjectFor } from "./signal-subjects.ts";
import { type ControlEvent, controlJti, jtiOf } from "./stream-record.ts";

export type TokenContext = Readonly<{
  issuer: string;
  receiver: SignalReceiverConfig;
  salt: string;
  projection: Pick<Projection, "user" | "groupsOf" | "session" | "sessionsOf">;
  /** What names a person now; undefined: nothing is known. */
  identityOf: (userId: UserId) => Identity | undefined;
  now: UnixMs;
}>;

/** A longer list is not sent, only its length. */
const groupsBytesMax = 16 * 1_024;

export function signalClaims(
  { jti, txn, signal, recorded }: PendingSignal,
  { issuer, receiver, salt, projection, identityOf, now }: TokenContext,
): Readonly<Record<string, unknown>> {
  const { name, userId, sessionId, groupId, isAboutClaims, initiatedBy, reason, more } = signal;
  const known = userId === null ? undefined : knownIdentity(userId, { identityOf, projection });
  const changedClaims = (): Readonly<Record<string, unknown>> =>
    isAboutClaims === true && userId !== null
      ? statedClaims(userId, known, { receiver, projection })
      : groupClaims(userId, { receiver, projection, now });
  const payload = {
    event_timestamp: Math.floor(recorded.recordedAt / 1_000),
    initiating_entity: initiatedBy,
    reason_admin: { en: reason },
    ...more,
    ...(name === "token-claims-change" ? { claims: changedClaims() } : {}),
  };
  const claims = securityEventClaims({
    issuer,
    audience: receiver.audience,
    jti,
    issuedAt: recorded.recordedAt,
    txn,
    subject: subjectFor({ userId, sessionId, groupId }, known, { rules: receiver, salt }),
    name,
    payload,
  });
  return userId === null ? claims : { ...claims, [subjectClaim]: opaqueId(salt, "user", userId) };
}

export function controlClaims(
  { seq, at, name, payload }: ControlEvent,
  of: Readonly<{ streamId: string; issuer: string; audience: string }>,
): Readonly<Record<string, unknown>> {
  const { streamId, issuer, audience } = of;
  return securityEventClaims({
    issuer,
    audience,
    jti: controlJti(streamId, seq),
    issuedAt: at,
    txn: jtiOf(streamId, "control txn", seq),
    subject: { format: "opaque", id: streamId },
    name,
    payload,
  });
}

/** An erasure may have come after the signal was read. */
function knownIdentity(
  userId: UserId,
  { identityOf, projection }: Pick<TokenContext, "identityOf" | "projection">,
): Identity | undefined {
  return projection.user(userId)?.status === "erased" ? undefined : identityOf(userId);
}

/** The claims that the receiver gets, as they are now. One that the person has no more is null. */
function statedClaims(
  userId: UserId,
  known: Identity | undefined,
  { receiver, projection }: Pick<TokenContext, "receiver" | "projection">,
): Readonly<Record<string, unknown>> {
  const claims = claimsOfSession(known?.claims ?? {}, lastStatedOf(projection, userId), known);
  const shown = receiver.claims.map((name): [string, unknown] => {
    const values = Object.hasOwn(claims, name) ? (claims[name] ?? []) : [];
    return [name, values.length === 0 ? null : values.length === 1 ? values[0] : values];
  });
  const bytes = JSON.stringify(shown).length;
  return bytes > groupsBytesMax ? { claims_count: shown.length } : Object.fromEntries(shown);
}

function groupClaims(
  userId: UserId | null,
  { receiver, projection, now }: Pick<TokenContext, "receiver" | "projection" | "now">,
): Readonly<Record<string, unknown>> {
  if (userId === null) return { members: [] }; // the subject is a group that was removed
  const shown = receiver.groups === null ? null : new Set<string>(receiver.groups);
  const groups = [...projection.groupsOf(userId, now)].filter((groupId) => shown === null || shown.has(groupId)).sort();
  return JSON.stringify(groups).length > groupsBytesMax ? { groups_count: groups.length } : { groups };
}
