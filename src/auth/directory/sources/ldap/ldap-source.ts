/**
 * LDAP source: people, groups and members of an LDAP server or Active Directory.
 *
 * - The people and groups are read first, without members, and kept until the run ends (ldap-index.ts). Pages are made
 *   from them in the order of the ids, so another process can continue a run after reading them itself.
 * - The members of each group follow, one base search for each range. So memory holds one group's members at a time.
 * - A later run reads the members of changed groups alone. It is possible as long as no entry has gone since the
 *   earlier run; otherwise the run is full.
 * - Active Directory leaves a person out of the members of their primary group; they are added.
 */

import type { Filter } from "ldapts";
import * as z from "zod";
import { DirectoryError } from "../../directory-error.ts";
import {
  type DirectoryMembers,
  type DirectoryPage,
  type DirectoryProblem,
  type DirectorySource,
  emptyPage,
  type ReadRequest,
} from "../../source.ts";
import type { LdapConnection } from "./ldap-connection.ts";
import { idValue, type LdapEntry, textOf } from "./ldap-entry.ts";
import {
  digestAt,
  groupAttributes,
  type LdapGroup,
  type LdapIndex,
  type LdapPerson,
  type LdapSchema,
  ldapGroupOf,
  ldapPersonOf,
  newestMark,
  personAttributes,
  readIndex,
  searchAll,
} from "./ldap-index.ts";
import { firstPosition, LdapMembers } from "./ldap-members.ts";
import { ldapCodec } from "./ldap-modules.ts";

export type LdapOptions = Readonly<{
  /** Opens a connection and binds. */
  connect: (signal: AbortSignal) => Promise<LdapConnection>;
  schema: LdapSchema;
  /** Entries of a page of a search, and people or groups of a page of the run. */
  pageSize: number;
}>;

const cursorSchema = z.strictObject({
  phase: z.enum(["people", "groups", "members"]),
  /** The id of the last entry of the earlier pages; "": none. */
  after: z.string().max(256),
  /** Where the members of the group after it are read on; null: at their beginning. */
  position: z.strictObject({ part: z.enum(["listed", "primary"]), offset: z.number().int().min(0) }).nullable(),
});
type Cursor = z.infer<typeof cursorSchema>;

const deltaSchema = z.strictObject({
  mark: z.string().min(1).max(19),
  /** Of the entries that existed at the mark. */
  ids: z.string().length(43),
  /** Marks of Active Directory are those of one domain controller. */
  server: z.string().max(1_024),
});
type Delta = z.infer<typeof deltaSchema>;

/** A page ends once it has as many members. */
const membersMax = 10_000;
/** Groups of a page whose members are read. */
const groupsPerPage = 50;
/** Servers that replicate from each other may get a change late, with the time at which it was made. */
const overlapS = 120;

type Run = Readonly<{
  connection: LdapConnection;
  index: LdapIndex;
  members: LdapMembers;
  serverName: string;
  since: Delta | null;
}>;

export function createLdapSource(options: LdapOptions): DirectorySource {
  let run: Run | undefined;
  const end = (): void => {
    run?.connection.close();
    run = undefined;
  };

  async function begin({ since, signal }: ReadRequest): Promise<Run> {
    end();
    const delta = since === null ? null : parseText(deltaSchema, since);
    const connection = await options.connect(signal);
    try {
      const serverName = await readServerName(connection, options.schema, signal);
      const index = await readIndex(connection, { ...options, signal });
      if (delta !== null && (delta.server !== serverName || digestAt(index, delta.mark) !== delta.ids))
        throw new DirectoryError("an entry has gone since the last run, or another server answers", {
          kind: "deltaExpired",
        });
      const members = new LdapMembers(connection, index, options.schema);
      run = { connection, index, members, serverName, since: delta };
      return run;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  return {
    async read(request) {
      request.signal.throwIfAborted();
      const cursor = request.cursor === null ? firstCursor : parseText(cursorSchema, request.cursor);
      const present = request.cursor === null || run === undefined ? await begin(request) : run;
      try {
        const page = await readPage(cursor, present, options.pageSize, request.signal);
        if (page.next === null) end();
        return page;
      } catch (error) {
        end();
        throw error;
      }
    },
    readPerson: (id, signal) => readPerson(id, options, signal),
    close: async () => end(),
  };
}

const firstCursor: Cursor = { phase: "people", after: "", position: null };

/** Active Directory: the domain controller that answers. */
async function readServerName(
  connection: LdapConnection,
  { isActiveDirectory }: LdapSchema,
  signal: AbortSignal,
): Promise<string> {
  if (!isActiveDirectory) return "";
  let name = "";
  const { PresenceFilter } = ldapCodec();
  const search = { base: "", scope: "base", attributes: ["dsServiceName"], pageSize: null } as const;
  await connection.searchPage(
    { ...search, filter: new PresenceFilter({ attribute: "objectClass" }), cookie: Buffer.alloc(0) },
    (entry) => {
      name = textOf(entry, "dsServiceName");
    },
    signal,
  );
  return name;
}

async function readPage(cursor: Cursor, run: Run, pageSize: number, signal: AbortSignal): Promise<DirectoryPage> {
  const { index, since } = run;
  const { phase, after } = cursor;
  if (phase === "members") return readMembers(cursor, run, signal);
  if (phase === "people") {
    const found = entriesAfter(index.people, ({ person }) => person.id, after, pageSize);
    const people = found.filter((each) => hasChanged(each, since)).map(({ person }) => person);
    const last = found.at(-1)?.person.id;
    return { ...emptyPage, people, next: format(following("people", found.length < pageSize ? undefined : last)) };
  }
  const found = entriesAfter(index.groups, ({ group }) => group.id, after, pageSize);
  const groups = found.filter((each) => hasChanged(each, since)).map(({ group }) => group);
  const last = found.at(-1)?.group.id;
  return { ...emptyPage, groups, next: format(following("groups", found.length < pageSize ? undefined : last)) };
}

/** @param last undefined: the phase has ended */
function following(phase: "people" | "groups", last: string | undefined): Cursor {
  if (last !== undefined) return { phase, after: last, position: null };
  return { phase: phase === "people" ? "groups" : "members", after: "", position: null };
}

/** The entries after an id, in the order of the ids. */
function entriesAfter<Entry>(
  entries: readonly Entry[],
  keyOf: (entry: Entry) => string,
  after: string,
  size: number,
): readonly Entry[] {
  let from = 0;
  for (let to = entries.length; from < to; ) {
    const middle = (from + to) >> 1;
    const entry = entries[middle];
    if (entry !== undefined && keyOf(entry) <= after) from = middle + 1;
    else to = middle;
  }
  return entries.slice(from, from + size);
}

function hasChanged({ mark }: Readonly<{ mark: string }>, since: Delta | null): boolean {
  return since === null || mark === "" || mark >= earlier(since.mark);
}

/** A time some seconds before a mark; a number of changes stays as it is. */
function earlier(mark: string): string {
  if (mark.length !== 14) return mark;
  const [year, month, day, hour, minute, second] = [0, 4, 6, 8, 10, 12].map((at, i) =>
    Number(mark.slice(at, i === 0 ? 4 : at + 2)),
  );
  const time = Date.UTC(year ?? 0, (month ?? 1) - 1, day, hour, minute, (second ?? 0) - overlapS);
  return Number.isNaN(time) ? "" : new Date(time).toISOString().replace(/\D/g, "").slice(0, 14);
}

async function readMembers(cursor: Cursor, run: Run, signal: AbortSignal): Promise<DirectoryPage> {
  const { index, since, members: reader } = run;
  const members: DirectoryMembers[] = [];
  const wholeGroups: string[] = [];
  const problems: DirectoryProblem[] = [];
  let { after, position } = cursor;
  let count = 0;
  for (let groups = 0; groups < groupsPerPage && count < membersMax; groups++) {
    const [found] = entriesAfter(index.groups, ({ group }) => group.id, after, 1);
    if (found === undefined) return { ...emptyPage, members, wholeGroups, problems, delta: deltaOf(run) };
    const { id } = found.group;
    if (!hasChanged(found, since) && !reader.isPrimary(found)) {
      after = id;
      continue;
    }
    if (since !== null && !wholeGroups.includes(id)) wholeGroups.push(id);
    try {
      const piece = await reader.read(found, position ?? firstPosition, signal);
      members.push(piece.members);
      count += piece.members.people.length + piece.members.groups.length;
      position = piece.next;
    } catch (error) {
      const problem = groupProblem(error);
      if (problem === null) throw error;
      problems.push({ about: id, message: problem });
      position = null;
    }
    if (position === null) after = id;
  }
  return { ...emptyPage, members, wholeGroups, problems, next: format({ phase: "members", after, position }) };
}

const noSuchObject = 32;
const insufficientAccess = 50;

/** A group that cannot be read while the others can. Null: the error is about more than the group. */
function groupProblem(error: unknown): string | null {
  const status = error instanceof DirectoryError && "status" in error ? error.status : null;
  if (status === noSuchObject) return "the group disappeared while it was being read";
  return status === insufficientAccess ? "we are not allowed to read the group" : null;
}

/** Null: the next run is full. */
function deltaOf({ index, serverName }: Run): string | null {
  const mark = newestMark(index);
  if (mark === "") return null;
  const delta: Delta = { mark, ids: digestAt(index, mark), server: serverName };
  return JSON.stringify(delta);
}

const personGroupsMax = 10_000;

/** The person with an id, and the groups that name them as a member. */
async function readPerson(id: string, options: LdapOptions, signal: AbortSignal): Promise<DirectoryPage | null> {
  const { schema } = options;
  const value = idValue(id, schema.people.id);
  if (value === undefined) return null;
  const { AndFilter, EqualityFilter } = ldapCodec();
  const equals = (attribute: string, is: Buffer | string): Filter => new EqualityFilter({ attribute, value: is });
  const connection = await options.connect(signal);
  try {
    let found: LdapPerson | undefined;
    await searchAll(
      connection,
      {
        base: schema.people.base,
        filter: new AndFilter({ filters: [schema.people.filter, equals(schema.people.id, value)] }),
        attributes: personAttributes(schema),
      },
      { pageSize: options.pageSize, signal },
      (entry) => {
        if (found !== undefined) throw malformed("two entries have the same id; choose another attribute as the id");
        found = ldapPersonOf(entry, schema);
      },
    );
    if (found === undefined) return null;
    const { person, dn, primarySid } = found as LdapPerson;
    if (person.id !== id) throw malformed("another entry has the id of the person");
    const { member } = schema.groups;
    const groups: LdapGroup[] = [];
    const search = { base: schema.groups.base, attributes: groupAttributes(schema) };
    const add = (entry: LdapEntry): void => {
      if (groups.length >= personGroupsMax) throw malformed("a person is in more groups than are read");
      groups.push(ldapGroupOf(entry, schema));
    };
    const page = { pageSize: options.pageSize, signal };
    const named = equals(member, member.toLowerCase() === "memberuid" ? person.userName : dn);
    // The members of a primary group do not name the person, but the group has a SID of its own.
    const others = primarySid === null ? [] : [equals("objectSid", primarySid)];
    for (const filter of [named, ...others])
      await searchAll(
        connection,
        { ...search, filter: new AndFilter({ filters: [schema.groups.filter, filter] }) },
        page,
        add,
      );
    const members = groups.map(({ group }): DirectoryMembers => ({ groupId: group.id, people: [id], groups: [] }));
    return { ...emptyPage, people: [person], groups: groups.map(({ group }) => group), members };
  } finally {
    connection.close();
  }
}

function format(cursor: Cursor): string {
  return JSON.stringify(cursor);
}

function parseText<T>(schema: z.ZodType<T>, written: string): T {
  let value: unknown;
  try {
    value = JSON.parse(written);
  } catch {
    value = null;
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new DirectoryError("the cursor is of another version", { kind: "deltaExpired" });
}

function malformed(problem: string): DirectoryError {
  return new DirectoryError(problem, { kind: "malformed" });
}
