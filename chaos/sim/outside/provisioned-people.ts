/** Provisioned people: what a person who signs in is called at the SCIM client. Pure. */
import { provisionedUserId, type UserId } from "../../../src/events/index.ts";
import type { OutsideNews } from "../swarm.ts";

export const scimClient = "hr";

/** The SCIM client names a person by the subject at the identity provider. */
export const scimUserOf = (person: UserId): UserId => provisionedUserId(scimClient, person);

/** The provisioned people with whom a person who signs in correlates. */
export function provisionedOf(person: UserId, { provisioning }: OutsideNews): readonly UserId[] {
  return provisioning ? [scimUserOf(person)] : [];
}
