/**
 * Claimed groups: what a statement of an identity provider changes about a person's groups. Pure; the one rule of
 * sign-in, refresh and bearer tokens.
 *
 * - A claim that is absent says nothing, and changes nothing. A claim that is present replaces what the provider said
 *   before, also when it is empty.
 * - A statement that is older than what is known of the person changes nothing.
 */
import { type GroupId, type Profile, parseGroupId } from "../../../events/index.ts";

export type GroupsStatement = Readonly<{
  profile: Profile;
  /** `groups_from_claim`. Null: claims make no groups. */
  claim: string | null;
  age: "new" | "older than what is known";
}>;

/** @returns null when it changes nothing */
export function claimedGroups({ profile, claim, age }: GroupsStatement): readonly GroupId[] | null {
  if (claim === null || age !== "new" || !Object.hasOwn(profile.claims, claim)) return null;
  const groups = new Set<GroupId>();
  for (const value of profile.claims[claim] ?? []) {
    try {
      groups.add(parseGroupId(String(value)));
    } catch {
      // a claim value that cannot be a group id names no group
    }
  }
  return [...groups].sort();
}
