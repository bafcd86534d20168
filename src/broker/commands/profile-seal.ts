/**
 * Profile seal: seals profiles under the person's key, which is made at first contact, and compares profiles by
 * content: two sealings of one profile never have the same bytes. Pure.
 */
import { isDeepStrictEqual } from "node:util";
import {
  decode,
  encode,
  open,
  type PersonKey,
  type Profile,
  parseProfile,
  type Sealed,
  seal,
  type UserId,
  wrapKey,
} from "../../events/index.ts";
import type { NewKey, Tools } from "./performed.ts";

export type Sealer = Readonly<{
  person: PersonKey;
  newKeys: readonly NewKey[];
  seal: (profile: Profile) => Sealed;
}>;

/** The person's key, or a new one if there is none. */
export function sealerFor(userId: UserId, tools: Tools): Sealer {
  const known = tools.personKeyOf(userId);
  const person = known ?? { userId, keyId: tools.random(8), key: tools.random(32) };
  const newKeys =
    known === undefined ? [{ person, wrapped: wrapKey(person, tools.wrappingKey, tools.random(12)) }] : [];
  return { person, newKeys, seal: (profile) => seal(profile, person, tools.random(12)) };
}

/** Undefined: there is no profile, or this key does not open it. */
export function openProfile(sealed: Sealed | null | undefined, person: PersonKey): Profile | undefined {
  if (sealed === null || sealed === undefined) return undefined;
  try {
    return parseProfile(open(sealed, person));
  } catch {
    return undefined;
  }
}

export function sameProfile(a: Profile | undefined, b: Profile): boolean {
  if (a === undefined) return false;
  const [one, other] = [encode(a), encode(b)];
  // Nearly always a provider names the claims in the same order.
  return Buffer.compare(one, other) === 0 || isDeepStrictEqual(decode(one), decode(other));
}

/** Some providers state a person's name at the first sign-in alone. */
export function withKnownName(profile: Profile, known: Profile | undefined): Profile {
  return profile.name === "" && known !== undefined ? { ...profile, name: known.name } : profile;
}

/** True if both profiles name the same person of the identity provider. */
export function sameSubject(a: Profile, b: Profile): boolean {
  return a.issuer === b.issuer && a.subject === b.subject;
}
