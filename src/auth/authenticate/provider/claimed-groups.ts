/**
 * Claimed groups: the change that a provider's statement makes to a person's groups.
 *
 * - Sign-in, refresh and bearer tokens all use this rule.
 * - An absent claim changes nothing. A present claim replaces the provider's earlier groups, also when it is empty.
 * - A statement that is older than the known facts about the person changes nothing.
 *
 * Pure.
 */
import { type GroupId, type Profile, parseGroupId } from "../../../events/index.ts";

export type GroupsStatement = Readonly<{
  profile: Profile;
  /** `groups_from_claim`. Null: groups do not come from claims. */
  claim: string | null;
  age: "new" | "older than what is known";
}>;

/** @returns null: no change */
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
