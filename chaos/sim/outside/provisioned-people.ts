/** Provisioned people: what a person who signs in is called at the SCIM client and in the directory. Pure. */
import { directoryClient, type Profile, provisionedUserId, type UserId } from "../../../src/events/index.ts";
import type { OutsideNews } from "../swarm.ts";

export const scimClient = "hr";
export const directoryName = "corp";
/** Groups of the directory. One of them opens a route. */
export const directoryGroups = ["payroll", "staff"] as const;
/** The provider at which people sign in. */
export const issuer = "https://idp.example";

/** Both name a person by the subject at the identity provider. */
export const scimUserOf = (person: string): UserId => provisionedUserId(scimClient, person);
export const directoryUserOf = (person: string): UserId => provisionedUserId(directoryClient(directoryName), person);

export function directoryPeopleFor(profile: Profile): readonly UserId[] {
  return profile.issuer === issuer ? [directoryUserOf(profile.subject)] : [];
}

/** The provisioned people of a person who signs in. */
export function provisionedOf(
  person: UserId,
  { provisioning, directory }: Pick<OutsideNews, "provisioning" | "directory">,
): readonly UserId[] {
  return [...(provisioning ? [scimUserOf(person)] : []), ...(directory ? [directoryUserOf(person)] : [])];
}

/** The transmitter whose signals are obeyed, and the receiver of the cluster's own. */
export const transmitterName = "corp";
export const receiverName = "watcher";
