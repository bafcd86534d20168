/**
 * Correlation: which provisioned people a person who signs in is, and the key by which a SCIM client or a directory
 * names a person. Pure.
 *
 * Both sides derive the same user id from the client and the key (`provisionedUserId`), so no search is needed, and the
 * leader can decide at its head. Only profiles of the issuer of the client's own provider correlate: another issuer
 * could choose a subject.
 */
import type { ScimClientConfig } from "../../../config/index.ts";
import { type Profile, provisionedUserId, type ScimResource, type UserId } from "../../../events/index.ts";
import { primaryEmail, textAttribute } from "./scim-attributes.ts";

/** The provisioned people that a profile correlates with. */
export type ProvisionedFor = (profile: Profile) => readonly UserId[];

/** A claim may have several values; more than this do not name one person. */
const valuesMax = 4;
const keyCharsMax = 512;

/**
 * @param issuer of the provider of clients that name none; null: there is none
 * @param named the issuers of the other providers, by name
 * @returns undefined: no SCIM client or directory has people who can sign in here
 */
export function provisionedFor(
  clients: readonly ScimClientConfig[],
  issuer: string | null,
  named: ReadonlyMap<string, string> = new Map(),
): ProvisionedFor | undefined {
  const byIssuer = new Map<string, ScimClientConfig[]>();
  for (const client of clients) {
    const own = client.provider === null ? issuer : (named.get(client.provider) ?? null);
    if (own !== null) byIssuer.set(withoutSlash(own), [...(byIssuer.get(withoutSlash(own)) ?? []), client]);
  }
  if (byIssuer.size === 0) return undefined;
  return (profile) =>
    (byIssuer.get(withoutSlash(profile.issuer)) ?? []).flatMap((client) =>
      keysOf(client, profile).map((key) => provisionedUserId(client.name, key)),
    );
}

function keysOf({ match, claim }: ScimClientConfig, profile: Profile): readonly string[] {
  switch (match) {
    case "subject":
      return keyed(profile.subject);
    case "email":
      return profile.emailVerified ? keyed(profile.email.toLowerCase()) : [];
    case "claim": {
      const values = Object.hasOwn(profile.claims, claim ?? "") ? (profile.claims[claim ?? ""] ?? []) : [];
      return values.length > valuesMax ? [] : values.flatMap((value) => keyed(String(value)));
    }
  }
}

/** The key of a client's person; undefined: the resource lacks it. */
export function keyOfResource({ match }: ScimClientConfig, resource: ScimResource): string | undefined {
  const text =
    match === "email"
      ? (primaryEmail(resource) ?? textAttribute(resource, "userName"))?.toLowerCase()
      : textAttribute(resource, "externalId");
  return text === undefined ? undefined : keyed(text)[0];
}

/** The key of a person of a directory; undefined: the person lacks it. */
export function keyOfPerson(
  { match }: Pick<ScimClientConfig, "match">,
  { id, email }: Readonly<{ id: string; email: string | null }>,
): string | undefined {
  return keyed(match === "email" ? (email ?? "").toLowerCase() : id)[0];
}

/** What a client must send so that its people can be matched. */
export function keyName({ match }: ScimClientConfig): string {
  return match === "email" ? "a primary e-mail or a userName" : "an externalId";
}

function keyed(text: string): readonly string[] {
  return text === "" || text.length > keyCharsMax || !text.isWellFormed() ? [] : [text];
}

function withoutSlash(url: string): string {
  return url.endsWith("/") ? url.slice(0, -1) : url;
}
