/**
 * LDAP index: every person and group of a directory, without the members, read in two paged searches.
 *
 * - A run needs it to find out which people and groups the names in a group's members are.
 * - `mark` says when an entry last changed, by the server: `uSNChanged` in Active Directory, else `modifyTimestamp`.
 *   `created` is alike. A later run reads the members of changed groups alone.
 * - A digest over the ids of the entries that existed at a mark shows whether one of them has gone since.
 */
import { createHash } from "node:crypto";
import type { Filter } from "ldapts";
import { DirectoryError } from "../../directory-error.ts";
import type { DirectoryGroup, DirectoryPerson } from "../../source.ts";
import type { LdapConnection } from "./ldap-connection.ts";
import { dnKey, idOf, type LdapEntry, markOf, relativeIdOf, siblingSid, textOf } from "./ldap-entry.ts";

export type LdapSchema = Readonly<{
  isActiveDirectory: boolean;
  people: Readonly<{ base: string; filter: Filter; id: string; userName: string; email: string; name: string }>;
  groups: Readonly<{ base: string; filter: Filter; id: string; name: string; member: string }>;
}>;

type Marked = Readonly<{ dn: string; mark: string; created: string }>;
export type LdapPerson = Marked &
  Readonly<{
    person: DirectoryPerson;
    /** The last number of the SID of the primary group. */
    primaryGroup: number | null;
    primarySid: Buffer | null;
  }>;
export type LdapGroup = Marked & Readonly<{ group: DirectoryGroup; relativeId: number | null }>;

export type LdapIndex = Readonly<{
  /** Sorted by id. */
  people: readonly LdapPerson[];
  groups: readonly LdapGroup[];
  personByDn: ReadonlyMap<string, string>;
  personByUserName: ReadonlyMap<string, string>;
  groupByDn: ReadonlyMap<string, string>;
}>;

export const peopleMax = 500_000;
export const groupsMax = 100_000;
const emptyPagesMax = 100;
/** All names, ids and texts of an index together, in characters. */
const indexCharsMax = 256 * 1024 * 1024;

export async function readIndex(
  connection: LdapConnection,
  options: Readonly<{ schema: LdapSchema; pageSize: number; signal: AbortSignal }>,
): Promise<LdapIndex> {
  const { schema } = options;
  let chars = 0;
  const count = (dn: string, { id, name }: Readonly<{ id: string; name: string }>): void => {
    chars += 2 * dn.length + id.length + name.length;
    if (chars > indexCharsMax) throw malformed("the names of all entries are too long to keep");
  };
  const people = new Map<string, LdapPerson>();
  const personByDn = new Map<string, string>();
  const personByUserName = new Map<string, string>();
  await searchAll(connection, { ...schema.people, attributes: personAttributes(schema) }, options, (entry) => {
    const found = ldapPersonOf(entry, schema);
    requireNew(people, found.person.id, peopleMax);
    count(entry.dn, found.person);
    people.set(found.person.id, found);
    personByDn.set(dnKey(entry.dn), found.person.id);
    personByUserName.set(found.person.userName.toLowerCase(), found.person.id);
  });
  const groups = new Map<string, LdapGroup>();
  const groupByDn = new Map<string, string>();
  await searchAll(connection, { ...schema.groups, attributes: groupAttributes(schema) }, options, (entry) => {
    const found = ldapGroupOf(entry, schema);
    requireNew(groups, found.group.id, groupsMax);
    count(entry.dn, found.group);
    groups.set(found.group.id, found);
    groupByDn.set(dnKey(entry.dn), found.group.id);
  });
  return {
    people: sortedById(people),
    groups: sortedById(groups),
    personByDn,
    personByUserName,
    groupByDn,
  };
}

/** The newest mark of all entries; "": the server shows none, so no later run can begin there. */
export function newestMark({ people, groups }: LdapIndex): string {
  let newest = "";
  for (const { mark, created } of [...people, ...groups]) {
    if (mark === "" || created === "") return "";
    if (mark > newest) newest = mark;
  }
  return newest;
}

/** Of the ids of all entries that existed at a mark. */
export function digestAt({ people, groups }: LdapIndex, mark: string): string {
  const hash = createHash("sha256");
  const add = (ids: readonly string[]): void => {
    for (let at = 0; at < ids.length; at += idsPerUpdate)
      hash.update(`${JSON.stringify(ids.slice(at, at + idsPerUpdate))}\n`);
    hash.update("\n");
  };
  add(people.filter(({ created }) => created <= mark).map(({ person }) => person.id));
  add(groups.filter(({ created }) => created <= mark).map(({ group }) => group.id));
  return hash.digest("base64url");
}

const idsPerUpdate = 1_000;

/** Reads all pages of a search. */
export async function searchAll(
  connection: LdapConnection,
  search: Readonly<{ base: string; filter: Filter; attributes: readonly string[] }>,
  { pageSize, signal }: Readonly<{ pageSize: number; signal: AbortSignal }>,
  onEntry: (entry: LdapEntry) => void,
): Promise<void> {
  let cookie: Buffer = Buffer.alloc(0);
  let emptyPages = 0;
  const count = (entry: LdapEntry): void => {
    emptyPages = 0;
    onEntry(entry);
  };
  do {
    // Active Directory sends an empty page now and then. Entries end by themselves: none may come twice.
    if (emptyPages >= emptyPagesMax) throw malformed("the server sends empty pages without end");
    emptyPages += 1;
    cookie = await connection.searchPage({ ...search, scope: "sub", pageSize, cookie }, count, signal);
  } while (cookie.byteLength > 0);
}

export function personAttributes({ isActiveDirectory, people }: LdapSchema): readonly string[] {
  const own = [people.id, people.userName, people.email, people.name];
  return isActiveDirectory
    ? [...own, "sAMAccountName", "userAccountControl", "primaryGroupID", "objectSid", "uSNChanged", "uSNCreated"]
    : [...own, "nsAccountLock", "pwdAccountLockedTime", "modifyTimestamp", "createTimestamp"];
}

export function groupAttributes({ isActiveDirectory, groups }: LdapSchema): readonly string[] {
  const own = [groups.id, groups.name];
  return isActiveDirectory
    ? [...own, "objectSid", "uSNChanged", "uSNCreated"]
    : [...own, "modifyTimestamp", "createTimestamp"];
}

export function ldapPersonOf(entry: LdapEntry, { isActiveDirectory, people }: LdapSchema): LdapPerson {
  const id = idOf(entry, people.id);
  if (id === "") throw malformed(`a person has no ${people.id}, or we may not read it`);
  const email = textOf(entry, people.email);
  const userName = textOf(entry, people.userName) || textOf(entry, "sAMAccountName") || id;
  const primaryGroup = Number.parseInt(textOf(entry, "primaryGroupID"), 10);
  return {
    dn: entry.dn,
    person: {
      id,
      userName,
      email: email === "" ? null : email,
      name: textOf(entry, people.name),
      active: isActiveDirectory ? isEnabled(entry) : !isLocked(entry),
    },
    primaryGroup: Number.isNaN(primaryGroup) ? null : primaryGroup,
    primarySid: Number.isNaN(primaryGroup) ? null : siblingSid(entry, primaryGroup),
    ...marksOf(entry, isActiveDirectory),
  };
}

export function ldapGroupOf(entry: LdapEntry, { isActiveDirectory, groups }: LdapSchema): LdapGroup {
  const id = idOf(entry, groups.id);
  if (id === "") throw malformed(`a group has no ${groups.id}, or we may not read it`);
  const name = textOf(entry, groups.name);
  return {
    dn: entry.dn,
    group: { id, name: name === "" || name.length > 256 ? id : name },
    relativeId: relativeIdOf(entry),
    ...marksOf(entry, isActiveDirectory),
  };
}

function marksOf(entry: LdapEntry, isActiveDirectory: boolean): Readonly<{ mark: string; created: string }> {
  return isActiveDirectory
    ? { mark: markOf(entry, "uSNChanged"), created: markOf(entry, "uSNCreated") }
    : { mark: markOf(entry, "modifyTimestamp"), created: markOf(entry, "createTimestamp") };
}

const accountDisabled = 0x2;

/** Without the attribute, no account would ever count as disabled. */
function isEnabled(entry: LdapEntry): boolean {
  const control = textOf(entry, "userAccountControl");
  if (!/^-?\d{1,10}$/.test(control)) throw malformed("a person has no userAccountControl, or we may not read it");
  return (Number(control) & accountDisabled) === 0;
}

/** Of 389 Directory Server, and of the password policy of OpenLDAP, where this time means "for ever". */
function isLocked(entry: LdapEntry): boolean {
  return (
    textOf(entry, "nsAccountLock").toLowerCase() === "true" || textOf(entry, "pwdAccountLockedTime") === "000001010000Z"
  );
}

/** One id for two entries would give the second one the groups of the first. */
function requireNew(known: ReadonlyMap<string, unknown>, id: string, max: number): void {
  if (known.has(id)) throw malformed("two entries have the same id; choose another attribute as the id");
  if (known.size >= max) throw malformed(`the directory has more than ${max} entries of a kind`);
}

/** Sorting the keys alone is several times faster than sorting entries by a comparison. */
function sortedById<Entry>(entries: ReadonlyMap<string, Entry>): readonly Entry[] {
  return [...entries.keys()].sort().flatMap((id) => entries.get(id) ?? []);
}

function malformed(problem: string): DirectoryError {
  return new DirectoryError(problem, { kind: "malformed" });
}
