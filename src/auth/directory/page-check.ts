/**
 * Page check: what a source returned, within bounds and as plain text, before anything of it counts. Pure.
 *
 * An adapter parses what its provider sent. This check is the same for all of them: a page that exceeds a bound or has
 * an id that is no text is refused whole, so the run fails and removes nothing.
 */
import { isPlainText } from "../../events/index.ts";
import { DirectoryError } from "./directory-error.ts";
import {
  cursorCharsMax,
  type DirectoryMembers,
  type DirectoryPage,
  groupsPerPageMax,
  idCharsMax,
  membersPerPageMax,
  peoplePerPageMax,
  problemsPerPageMax,
  textCharsMax,
} from "./source.ts";

/** @returns the page @throws DirectoryError `malformed` */
export function checkPage(page: DirectoryPage, mode: "full" | "delta"): DirectoryPage {
  requireAtMost(page.people.length + page.removedPeople.length, peoplePerPageMax, "people");
  requireAtMost(page.groups.length + page.removedGroups.length + page.wholeGroups.length, groupsPerPageMax, "groups");
  requireAtMost(page.problems.length, problemsPerPageMax, "problems");
  const lists = [...page.members, ...page.removedMembers];
  requireAtMost(lists.length, groupsPerPageMax, "lists of members");
  requireAtMost(
    lists.reduce((sum, { people, groups }) => sum + people.length + groups.length, 0),
    membersPerPageMax,
    "members",
  );
  const isRemoving = page.removedPeople.length + page.removedGroups.length + page.removedMembers.length > 0;
  if (mode === "full" && (isRemoving || page.wholeGroups.length > 0)) throw malformed("a full run removes nothing");
  for (const person of page.people) {
    requireIds([person.id], "the id of a person");
    requireText(person.userName, "a user name");
    requireText(person.email ?? "", "an e-mail");
    requireText(person.name, "a name");
  }
  for (const { id, name } of page.groups) {
    requireIds([id], "the id of a group");
    requireIds([name], "the name of a group");
  }
  requireIds([...page.removedPeople, ...page.removedGroups, ...page.wholeGroups], "an id");
  for (const members of lists) requireMembers(members);
  for (const cursor of [page.next, page.delta])
    if (cursor !== null && (cursor === "" || cursor.length > cursorCharsMax || !isPlainText(cursor)))
      throw malformed(`a cursor is not text of at most ${cursorCharsMax} characters`);
  return page;
}

function requireMembers({ groupId, people, groups }: DirectoryMembers): void {
  requireIds([groupId], "the id of a group");
  requireIds(people, "the id of a member");
  requireIds(groups, "the id of a group");
}

function requireIds(ids: readonly string[], what: string): void {
  for (const id of ids)
    if (id === "" || id.length > idCharsMax || !isPlainText(id))
      throw malformed(`${what} is not plain text of 1 to ${idCharsMax} characters`);
}

function requireText(value: string, what: string): void {
  if (value.length > textCharsMax || !isPlainText(value))
    throw malformed(`${what} is not plain text of at most ${textCharsMax} characters`);
}

function requireAtMost(count: number, max: number, what: string): void {
  if (count > max) throw malformed(`a page has ${count} ${what}; at most ${max} are read`);
}

/** A name that a directory holds, made fit for a page: one line, well-formed, and not too long. */
export function plainText(value: string): string {
  return value
    .toWellFormed()
    .replace(/\p{Cc}+/gu, " ")
    .trim()
    .slice(0, textCharsMax)
    .toWellFormed();
}

function malformed(problem: string): DirectoryError {
  return new DirectoryError(problem, { kind: "malformed" });
}
