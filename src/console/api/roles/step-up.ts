/**
 * Step-up: whether a person has signed in recently enough for the most dangerous operations. Pure.
 *
 * - The time is that of the session that makes the request: its own `auth_time`, which the identity provider has
 *   signed, and never later than the session's start. So a sign-in elsewhere does not refresh an old session.
 * - A time that is unknown or not plausible is too old.
 */
import type { Principal } from "../../../auth/index.ts";
import type { Config } from "../../../config/index.ts";
import type { UnixMs } from "../../../events/index.ts";

export type StepUp = Config["stepUp"];
export type SignInTimes = Readonly<{
  /** The start of the session. */
  sessionAt: UnixMs;
  /** When the person last authenticated at the provider, as it says; null: it does not. */
  authTime: UnixMs | null;
}>;

export function signInTimesOf({ session, profile }: Pick<Principal, "session" | "profile">): SignInTimes {
  const [said, another] = profile?.claims["auth_time"] ?? [];
  const seconds = typeof said === "number" && another === undefined ? said : Number.NaN;
  const isTime = Number.isFinite(seconds) && seconds > 0 && seconds < 1e11;
  return { sessionAt: session.issuedAt, authTime: isTime ? (Math.floor(seconds * 1_000) as UnixMs) : null };
}

export function isFreshSignIn(
  { sessionAt, authTime }: SignInTimes,
  { maxAgeMs, authTime: rule }: StepUp,
  now: UnixMs,
): boolean {
  if (maxAgeMs === 0) return true;
  const said = authTime ?? (rule === "if_sent" ? sessionAt : null);
  return said !== null && now - Math.min(said, sessionAt) < maxAgeMs;
}

export function staleSignIn({ authTime }: SignInTimes, { maxAgeMs, authTime: rule }: StepUp): string {
  const minutes = Math.max(1, Math.round(maxAgeMs / 60_000));
  const again = `this needs a sign-in that is not older than ${minutes} ${minutes === 1 ? "minute" : "minutes"}; sign in again`;
  return authTime === null && rule === "required"
    ? `${again}. Your identity provider has not said when you signed in (auth_time); if that stays so, use the command line, or step_up.auth_time of the configuration`
    : again;
}

/** Until when a sign-in is fresh; null: it is not, or no limit is set. */
export function freshUntil(times: SignInTimes, stepUp: StepUp, now: UnixMs): UnixMs | null {
  if (stepUp.maxAgeMs === 0 || !isFreshSignIn(times, stepUp, now)) return null;
  return (Math.min(times.authTime ?? times.sessionAt, times.sessionAt) + stepUp.maxAgeMs) as UnixMs;
}
