/**
 * User events: what happened to people, and the form of their personal data. Only types; they are part of the catalog
 * (catalog.ts).
 */
import type { Fact, Position, UnixMs, UserId } from "../ids.ts";
import type { RevocationReason } from "../session-events.ts";
import type { SignalAction, SignalOutcome } from "../signal-records.ts";

/** Encrypted personal data, as `seal` writes it: key id, nonce, AES-256-GCM ciphertext and tag. */
export type Sealed = Uint8Array;

export type UserUpserted = Fact<"UserUpserted", { userId: UserId; profile: Sealed }>;
/** Revokes every session of the user that was created at or below `upTo`; null: below this event's own position. */
export type UserSessionsRevoked = Fact<
  "UserSessionsRevoked",
  { userId: UserId; upTo: Position | null; reason: RevocationReason }
>;
/**
 * Also revokes the existing sessions. A later restore readmits the person but not those sessions.
 * `until` absent: the suspension has no end. A later event never brings the end of a suspension forward.
 */
export type UserSuspended = Fact<"UserSuspended", { userId: UserId; reason: string; until?: UnixMs }>;
/** The sweep: a suspension has reached its end. `at`: the leader's time. It ends none whose end is later. */
export type SuspensionExpired = Fact<"SuspensionExpired", { userId: UserId; at: UnixMs }>;
/** An operator wants the leader to ask the identity provider about the person now. It changes no state. */
export type UserRefreshRequested = Fact<"UserRefreshRequested", { userId: UserId; requestedAt: UnixMs }>;
export type UserRestored = Fact<"UserRestored", { userId: UserId }>;
/** The same transaction destroys the person's key. */
export type UserErased = Fact<"UserErased", { userId: UserId }>;
/**
 * A transmitter of Shared Signals has said something about a subject. What follows from it is in events of its own, of
 * the same command.
 */
export type SignalReceived = Fact<
  "SignalReceived",
  {
    /** The record of the subject (signal-records.ts). */
    userId: UserId;
    /** A name in `signal_transmitters`. */
    transmitter: string;
    /** The name of the event, or its URI. */
    event: string;
    action: SignalAction;
    outcome: SignalOutcome;
    /** By the clock of the transmitter. */
    issuedAt: UnixMs;
    occurredAt: UnixMs;
  }
>;
