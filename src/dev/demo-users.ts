/**
 * Demo users: the people of the demo identity provider and what is claimed about them.
 *
 * Pure. Any password opens these accounts, so nothing outside a demonstration may trust this provider.
 */
import { CodedError } from "../events/index.ts";

export type DemoUser = Readonly<{
  /** What is typed at sign-in; also the `sub`. */
  user: string;
  name: string;
  email: string;
  groups: readonly string[];
}>;

export const demoUsers: readonly DemoUser[] = [
  { user: "alice", name: "Alice Archer", email: "alice@example.com", groups: ["eng", "admins"] },
  { user: "bob", name: "Bob Baker", email: "bob@example.com", groups: ["sales"] },
  { user: "carol", name: "Carol Cook", email: "carol@example.com", groups: ["sales", "eng"] },
];

/** Which scope shows which claims; `groups` comes with `profile` too, since few clients ask for it by name. */
export const demoClaims = {
  openid: ["sub"],
  profile: ["name", "preferred_username", "groups"],
  email: ["email", "email_verified"],
  groups: ["groups"],
};
export const demoScopes = ["openid", "profile", "email", "groups", "offline_access"];

export function claimsOf(user: DemoUser): Readonly<Record<string, unknown>> & Readonly<{ sub: string }> {
  return {
    sub: user.user,
    name: user.name,
    preferred_username: user.user,
    email: user.email,
    email_verified: true,
    groups: [...user.groups],
  };
}

export class UnknownDemoUserError extends CodedError<"ERR_DEV_UNKNOWN_USER"> {
  override readonly code = "ERR_DEV_UNKNOWN_USER";
  readonly user: string;
  constructor(user: string) {
    super(`the demo identity provider has no user ${JSON.stringify(user)}`);
    this.user = user;
  }
}

const groupsMax = 100;
/** A list of group names from outside; null when it is none. */
export function parseGroups(value: unknown): readonly string[] | null {
  if (!Array.isArray(value) || value.length > groupsMax) return null;
  const groups = value.filter(
    (group): group is string => typeof group === "string" && /^[^\p{Cc}]{1,256}$/u.test(group),
  );
  return groups.length === value.length ? [...new Set(groups)] : null;
}
