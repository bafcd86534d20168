/**
 * Listing: reads a directory that offers lists of people and groups, and a list of members for each group. Pure.
 *
 * - All that a run knows is in its cursor, so that another process can continue it.
 * - A next page that equals the present one, and a run of more than `pagesMax` pages, are refused: some servers never
 *   say that a list has ended.
 * - A page holds the members of several small groups. If the directory refuses a request between them, the page ends
 *   before it.
 */
import * as z from "zod";
import { DirectoryError } from "../../directory-error.ts";
import {
  cursorCharsMax,
  type DirectoryGroup,
  type DirectoryMembers,
  type DirectoryPage,
  type DirectoryPerson,
  type DirectoryProblem,
  emptyPage,
  type ReadRequest,
} from "../../source.ts";

/** What one request of a run is about. */
export type ListingContext = Readonly<{
  /** The `delta` of the earlier run; null: a full run. */
  since: string | null;
  /** What `begin` returned. */
  start: string;
  signal: AbortSignal;
}>;

export type Listed<Items> = Readonly<{ next: string | null }> & Items;
export type ListedPeople = Listed<{ people: readonly DirectoryPerson[]; problems?: readonly DirectoryProblem[] }>;
export type ListedGroups = Listed<{
  groups: readonly DirectoryGroup[];
  /** Ids of the groups whose members the run reads. */
  toRead: readonly string[];
  problems?: readonly DirectoryProblem[];
}>;
export type ListedMembers = Listed<{
  people: readonly string[];
  groups: readonly string[];
  /** Where only the members' list names the people. */
  persons?: readonly DirectoryPerson[];
  problems?: readonly DirectoryProblem[];
}>;

export type Listing = Readonly<{
  /** A note for the whole run, such as its start by the directory's clock. At most 100 characters. */
  begin(context: Omit<ListingContext, "start">): Promise<string>;
  /** @param link null: the first page */
  people(link: string | null, context: ListingContext): Promise<ListedPeople>;
  groups(link: string | null, context: ListingContext): Promise<ListedGroups>;
  members(groupId: string, link: string | null, context: ListingContext): Promise<ListedMembers>;
  /** The `delta` for the next run; null: it is full. */
  end(context: ListingContext): string | null;
}>;

/**
 * The members of a group that the directory no longer knows: it has been deleted since it was listed, or is hidden from
 * us now. That says nothing about its members, so the run is partial.
 */
export const unknownGroup = (groupId: string): ListedMembers => ({
  people: [],
  groups: [],
  problems: [{ about: groupId, message: "a group disappeared while it was being read" }],
  next: null,
});

/** A million people in pages of 100, and as many groups. */
export const pagesMax = 100_000;
/** More members than this end a page. */
const membersMax = 2_000;
/** Requests of a page. */
const requestsMax = 8;

const link = z.string().min(1).max(cursorCharsMax);
const cursorSchema = z.strictObject({
  phase: z.enum(["people", "groups", "members"]),
  /** Of the present list; null: its first page. */
  link: link.nullable(),
  /** Of the list of groups, once `toRead` is empty; null: it has ended. */
  after: link.nullable(),
  toRead: z.array(z.string().min(1).max(256)).max(500),
  pages: z.number().int().min(0).max(pagesMax),
  start: z.string().max(100),
});
type Cursor = z.infer<typeof cursorSchema>;

/** @throws DirectoryError */
export async function readListing(listing: Listing, request: ReadRequest): Promise<DirectoryPage> {
  const { since, signal } = request;
  signal.throwIfAborted();
  const cursor = request.cursor === null ? await firstCursor(listing, { since, signal }) : parseCursor(request.cursor);
  const context: ListingContext = { since, start: cursor.start, signal };
  if (cursor.phase === "people") {
    const { next, people, problems = [] } = await listing.people(cursor.link, context);
    const following: Cursor =
      next === null ? { ...cursor, phase: "groups", link: null } : { ...cursor, link: differing(next, cursor.link) };
    return { ...emptyPage, people, problems, next: formatCursor(following) };
  }
  if (cursor.phase === "groups") {
    const { next, groups, toRead, problems = [] } = await listing.groups(cursor.link, context);
    const after = next === null ? null : differing(next, cursor.link);
    const content = { ...emptyPage, groups, problems };
    return { ...content, ...afterGroups({ ...cursor, link: null, after, toRead: [...toRead] }, listing, context) };
  }
  return readMembers(cursor, listing, context);
}

async function firstCursor(listing: Listing, context: Omit<ListingContext, "start">): Promise<Cursor> {
  const start = await listing.begin(context);
  return { phase: "people", link: null, after: null, toRead: [], pages: 0, start };
}

async function readMembers(cursor: Cursor, listing: Listing, context: ListingContext): Promise<DirectoryPage> {
  const members: DirectoryMembers[] = [];
  const persons: DirectoryPerson[] = [];
  const problems: DirectoryProblem[] = [];
  const whole: string[] = [];
  let at = cursor;
  let count = 0;
  for (let requests = 0; requests < requestsMax && count < membersMax; requests++) {
    const [groupId] = at.toRead;
    if (groupId === undefined) break;
    try {
      const listed = await listing.members(groupId, at.link, context);
      members.push({ groupId, people: listed.people, groups: listed.groups });
      persons.push(...(listed.persons ?? []));
      problems.push(...(listed.problems ?? []));
      count += listed.people.length + listed.groups.length;
      if (context.since !== null && at.link === null && !whole.includes(groupId)) whole.push(groupId);
      at =
        listed.next === null
          ? { ...at, link: null, toRead: at.toRead.slice(1) }
          : { ...at, link: differing(listed.next, at.link) };
    } catch (error) {
      const isPassing = error instanceof DirectoryError && (error.kind === "limited" || error.kind === "unreachable");
      if (!isPassing || requests === 0) throw error;
      break;
    }
  }
  const page = { ...emptyPage, people: persons, members, problems, wholeGroups: whole };
  return { ...page, ...afterGroups(at, listing, context) };
}

/** The cursor after a page of groups or members. */
function afterGroups(
  cursor: Cursor,
  listing: Listing,
  context: ListingContext,
): Readonly<{ next: string | null; delta: string | null }> {
  if (cursor.toRead.length > 0) return { next: formatCursor({ ...cursor, phase: "members" }), delta: null };
  if (cursor.after === null) return { next: null, delta: listing.end(context) };
  return { next: formatCursor({ ...cursor, phase: "groups", link: cursor.after, after: null }), delta: null };
}

function differing(next: string, present: string | null): string {
  if (next === present) throw malformed("the directory names the same page as the next one, without end");
  return next;
}

function formatCursor(cursor: Cursor): string {
  if (cursor.pages >= pagesMax) throw malformed(`the directory has more than ${pagesMax} pages`);
  const text = JSON.stringify({ ...cursor, pages: cursor.pages + 1 });
  if (text.length > cursorCharsMax) throw malformed("the directory's ids and links are too long to continue");
  return text;
}

function parseCursor(text: string): Cursor {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  const parsed = cursorSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new DirectoryError("the cursor is of another version", { kind: "deltaExpired" });
}

function malformed(problem: string): DirectoryError {
  return new DirectoryError(problem, { kind: "malformed" });
}
