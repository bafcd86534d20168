/**
 * Provisioned person: what a SCIM client or a directory says about a person, as a user of its own in the log. Pure.
 *
 * - Its user id follows from the client and the key that correlates it with people who sign in, so every process finds
 *   it without a search, also before the person has ever signed in. It is never the user of a session.
 * - Its resource is a claim of its sealed profile. Erasing it destroys it like any profile.
 * - Its state is the state of the user: suspended means that the client has deactivated or deleted it.
 *
 * Why so: docs/adr/0043-provisioned-people-are-users.md.
 */
import { hash as digestOf } from "node:crypto";
import { parseUserId, type UserId } from "./ids.ts";
import { encode } from "./messagepack.ts";
import { isPlainText } from "./plain-text.ts";
import type { Profile } from "./profile.ts";

/** The cluster level from which SCIM clients may write: every leader then looks at the person before a sign-in. */
export const provisionedFrom = 4;
/** The same for directories. */
export const directoriesFrom = 5;

export type ScimResource = Readonly<Record<string, unknown>>;
export type ProvisionedRecord = Readonly<{
  /** 1, 2, 3 …: the resource's ETag. */
  version: number;
  /** The id of the SCIM resource, random; a resource that is created again gets another. */
  id: string;
  /** ISO 8601. */
  createdAt: string;
  changedAt: string;
  /** Null: deleted, or moved. */
  resource: ScimResource | null;
  /** The correlating key has changed, and this user has the record now. */
  movedTo: UserId | null;
}>;

const issuerPrefix = "scim:";
/** No SCIM client's name has a colon. */
const directoryPrefix = "directory:";
const claim = "scim";
/** Bound of one record as text. */
export const provisionedBytesMax = 32 * 1024;
const clientPattern = /^[a-z0-9][a-z0-9.-]{0,39}$/;

export const isScimClientName = (name: string): boolean => clientPattern.test(name);
/** The names of directories have the same form. */
export const isDirectoryName = isScimClientName;

/** The client whose records a directory's are, beside the SCIM clients. */
export const directoryClient = (directory: string): string => `${directoryPrefix}${directory}`;
/** The actor of everything that a run of the directory changes. */
export const directoryActor = (directory: string): string => `service:directory/${directory}`;
export const isDirectoryClient = (client: string): boolean => client.startsWith(directoryPrefix);
/** The name of the directory of a client for which `isDirectoryClient` is true. */
export const directoryOf = (client: string): string => client.slice(directoryPrefix.length);
/** The source of the memberships that a client gives. */
export const sourceOfClient = (client: string): "directory" | "scim" =>
  isDirectoryClient(client) ? "directory" : "scim";
/** The cluster level from which a client may write. */
export const levelOfClient = (client: string): number =>
  isDirectoryClient(client) ? directoriesFrom : provisionedFrom;

/** @param key what the client's record and the profile of a sign-in have in common */
export function provisionedUserId(client: string, key: string): UserId {
  const h = digestOf("sha256", encode(["cardea provisioned person", client, key]), "hex");
  return parseUserId(`${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20, 32)}`);
}

export function isProvisioned({ issuer }: Profile): boolean {
  return issuer.startsWith(issuerPrefix) || isDirectoryClient(issuer);
}

export function provisionedProfile(
  client: string,
  record: ProvisionedRecord,
  shown: Readonly<{ email: string; name: string }>,
): Profile {
  return {
    issuer: isDirectoryClient(client) ? client : `${issuerPrefix}${client}`,
    subject: record.id,
    email: shown.email,
    emailVerified: false,
    name: shown.name,
    claims: { [claim]: [asciiJson(record)] },
  };
}

/** Undefined: it is no provisioned person. */
export function parseProvisioned(
  profile: Profile | undefined,
): Readonly<{ client: string; record: ProvisionedRecord }> | undefined {
  if (profile === undefined || !isProvisioned(profile)) return undefined;
  const text = profile.claims[claim]?.[0];
  const record = typeof text === "string" ? parseRecord(text) : undefined;
  const { issuer } = profile;
  return record && { client: isDirectoryClient(issuer) ? issuer : issuer.slice(issuerPrefix.length), record };
}

function parseRecord(text: string): ProvisionedRecord | undefined {
  if (text.length > provisionedBytesMax) return undefined;
  try {
    const value = JSON.parse(text) as Partial<ProvisionedRecord> | null;
    if (typeof value !== "object" || value === null) return undefined;
    const { version, id, createdAt, changedAt, resource, movedTo } = value;
    const isResource = resource === null || (typeof resource === "object" && !Array.isArray(resource));
    if (!Number.isSafeInteger(version) || typeof id !== "string" || !isPlainText(id) || !isResource) return undefined;
    if (typeof createdAt !== "string" || typeof changedAt !== "string") return undefined;
    return {
      version: Number(version),
      id,
      createdAt,
      changedAt,
      resource: resource ?? null,
      movedTo: movedTo === null || movedTo === undefined ? null : parseUserId(movedTo),
    };
  } catch {
    return undefined; // not a record that this build can read
  }
}

/** JSON without a character outside of ASCII: claims are plain text. */
export function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
