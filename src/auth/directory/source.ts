/**
 * Directory source: the contract of an adapter that reads people, groups and memberships from one directory.
 *
 * - A run reads pages, one after the other. It is full or, where the source offers it, a delta since an earlier run.
 * - Reading changes nothing in the directory, and any page may be requested again. The core resumes a run that was cut
 *   by requesting the same cursor once more, perhaps from another instance of the source.
 * - A source throws `DirectoryError` for everything that keeps it from reading. It never repeats a request by itself,
 *   and never waits: the core does both.
 * - What the source could not read, although the rest is there, it names in `problems`. The run is then partial, and
 *   the core removes nothing.
 */

/** A person as the directory has them. Texts are plain: no control characters, well-formed Unicode. */
export type DirectoryPerson = Readonly<{
  /**
   * The directory's own id of the person, which it never gives to another one. It is what `match: subject` and
   * `match: claim` compare, so it must be the value that the sign-in provider sends.
   */
  id: string;
  userName: string;
  /** The primary address, which the directory vouches for; null: none, or one that the person chose. */
  email: string | null;
  name: string;
  /** False: the directory has suspended, deactivated or archived the person. */
  active: boolean;
}>;

export type DirectoryGroup = Readonly<{
  /** The directory's own id of the group. */
  id: string;
  /** Policies name the group by it, or by the id, as configured. */
  name: string;
}>;

/** Direct members of a group. The core follows groups inside groups. */
export type DirectoryMembers = Readonly<{
  groupId: string;
  people: readonly string[];
  groups: readonly string[];
}>;

/** Something that could not be read. `about`: the id of a group or person; null: the whole list. */
export type DirectoryProblem = Readonly<{ about: string | null; message: string }>;

/**
 * One page. Lists may be empty, in any order, and may repeat what an earlier page had: the last word about a person or
 * group counts, and the members of a group are collected over all pages. Members may be on an earlier page than the
 * people and groups they name.
 */
export type DirectoryPage = Readonly<{
  people: readonly DirectoryPerson[];
  groups: readonly DirectoryGroup[];
  /** In a delta: members that were added. */
  members: readonly DirectoryMembers[];
  /** The following four are for a delta, and empty in a full run. Ids that the core does not know are ignored. */
  removedPeople: readonly string[];
  removedGroups: readonly string[];
  removedMembers: readonly DirectoryMembers[];
  /** Groups whose members this run lists completely, so that those who are missing have left. */
  wholeGroups: readonly string[];
  problems: readonly DirectoryProblem[];
  /** Requests the next page; null: this is the last one. At most `cursorCharsMax` characters, and no credential. */
  next: string | null;
  /** On the last page: where a later delta begins; null: the next run is full. Bounded like `next`. */
  delta: string | null;
}>;

export type ReadRequest = Readonly<{
  /** Null: a full run. Otherwise the `delta` of an earlier run. */
  since: string | null;
  /** `next` of the page before; null: the first page. */
  cursor: string | null;
  /** Aborts when this process no longer leads. */
  signal: AbortSignal;
}>;

export type DirectorySource = Readonly<{
  /** @throws DirectoryError; with the kind `deltaExpired` the core begins a full run */
  read(request: ReadRequest): Promise<DirectoryPage>;
  /**
   * The present state of one person, with their direct groups as `members` of each. Absent: the source cannot read one
   * person. Null: the directory does not have the person (any more). @throws DirectoryError
   */
  readPerson?(id: string, signal: AbortSignal): Promise<DirectoryPage | null>;
  /**
   * Calls back when the directory may have changed, so that a run begins at once. Absent: the source cannot know. The
   * returned function ends it.
   */
  watch?(onChange: () => void): () => void;
  close(): Promise<void>;
}>;

/** Bounds of a page. A source requests smaller pages than these. */
export const peoplePerPageMax = 5_000;
export const groupsPerPageMax = 5_000;
export const membersPerPageMax = 50_000;
export const problemsPerPageMax = 100;
export const cursorCharsMax = 8_192;
export const idCharsMax = 256;
export const textCharsMax = 320;

/** A page without content, to be spread before what a source has. */
export const emptyPage: DirectoryPage = {
  people: [],
  groups: [],
  members: [],
  removedPeople: [],
  removedGroups: [],
  removedMembers: [],
  wholeGroups: [],
  problems: [],
  next: null,
  delta: null,
};
