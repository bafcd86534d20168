/**
 * Replaced claims: what a transmitter of signals has said of a person's claims since a session's own were stated. They
 * are a claim of the person's sealed profile, so a new sign-in elsewhere does not undo them for older sessions. Pure.
 *
 * - Of each claim the newest statement counts, by its own time. So a signal that comes again, or late, undoes nothing.
 *   Times are whole seconds. Of two with one time the later to arrive counts, while the log knows a repeated token.
 * - A session whose claims the provider has stated later than that does not see them.
 *
 * Why so: docs/adr/0046-signals-are-records-of-their-transmitter.md.
 */
import type { UnixMs, UserId } from "./ids.ts";
import type { Claims, ClaimValue, Profile } from "./profile.ts";
import type { Projection } from "./projection/projection.ts";
import { asciiJson } from "./provisioned.ts";

/** No claim of a provider has this name here. */
const claim = "cardea:replaced";
/** Of one person, as JSON. */
const charsMax = 16 * 1_024;
const namesMax = 64;
/** The session may have been stated before the event, by the clock of the transmitter. */
const clockDifferenceMs = 60_000;

/** An hour less than the log keeps command ids. */
const repeatedMs = 23 * 3_600_000;

/** `at`: by the clock of the transmitter. `heardAt`: by that of the leader. */
type Replaced = Readonly<{ at: UnixMs; heardAt: UnixMs; values: readonly ClaimValue[] }>;
type ReplacedClaims = Readonly<Record<string, Replaced>>;

/** Whether claims that were stated at a time may be older than an event. */
export const isStatedBefore = (statedAt: UnixMs, eventAt: UnixMs): boolean => statedAt <= eventAt + clockDifferenceMs;

/**
 * Adds claims to those that are replaced.
 * @returns undefined: there would be too many @returns `names`: of the claims for which this is the newest statement
 */
export function replaceClaims(
  profile: Profile,
  claims: Claims,
  { at, heardAt }: Readonly<{ at: UnixMs; heardAt: UnixMs }>,
): Readonly<{ profile: Profile; names: readonly string[] }> | undefined {
  const before = replacedIn(profile);
  const names = Object.keys(claims).filter((name) => {
    const known = Object.hasOwn(before, name) ? before[name] : undefined;
    return known === undefined || known.at < at || (known.at === at && heardAt - known.heardAt < repeatedMs);
  });
  const added = names.map((name): [string, Replaced] => [name, { at, heardAt, values: claims[name] ?? [] }]);
  const after: ReplacedClaims = { ...before, ...Object.fromEntries(added) };
  const text = asciiJson(after);
  if (text.length > charsMax || Object.keys(after).length > namesMax) return undefined;
  return { profile: { ...profile, claims: { ...withoutReplaced(profile.claims), [claim]: [text] } }, names };
}

/** A new statement of the provider's keeps what transmitters have said, for sessions that are older than that. */
export function withKnownReplaced(profile: Profile, known: Profile | undefined): Profile {
  const stated =
    profile.claims[claim] === undefined ? profile : { ...profile, claims: withoutReplaced(profile.claims) };
  const kept = known?.claims[claim];
  return kept === undefined ? stated : { ...stated, claims: { ...stated.claims, [claim]: kept } };
}

/**
 * The claims of a session now.
 * @param statedAt when the provider stated those of the session
 * @param person the profile of the person; undefined: there is none
 */
export function claimsOfSession(claims: Claims, statedAt: UnixMs, person: Profile | undefined): Claims {
  const stated = withoutReplaced(claims);
  if (person === undefined || person.claims[claim] === undefined) return stated;
  const newer = Object.entries(replacedIn(person)).filter(([, { at }]) => isStatedBefore(statedAt, at));
  if (newer.length === 0) return stated;
  return { ...stated, ...Object.fromEntries(newer.map(([name, { values }]) => [name, values])) };
}

/** When the provider last stated the claims of a person in a session that is live; 0: in none. */
export function lastStatedOf(projection: Pick<Projection, "session" | "sessionsOf">, userId: UserId): UnixMs {
  let last = 0;
  for (const id of projection.sessionsOf(userId)) {
    const session = projection.session(id);
    if (session?.status === "active") last = Math.max(last, session.refreshedAt);
  }
  return last as UnixMs;
}

function withoutReplaced(claims: Claims): Claims {
  if (!Object.hasOwn(claims, claim)) return claims;
  const { [claim]: _, ...rest } = claims;
  return rest;
}

function replacedIn({ claims }: Profile): ReplacedClaims {
  const [text] = claims[claim] ?? [];
  if (typeof text !== "string" || text.length > charsMax) return {};
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as ReplacedClaims) : {};
  } catch {
    return {}; // this build did not write it
  }
}
