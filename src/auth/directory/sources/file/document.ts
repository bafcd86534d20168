/**
 * Document: people and groups in one JSON or CSV text, with the shape of docs/directories.md.
 *
 * - It is parsed in pieces, with a pause after each, so that other work of the process goes on.
 * - A record that is not what the shape says refuses the whole document, with its place: half a list would look like a
 *   list of people who have left. A document that was cut is refused for the same reason.
 */
import { JSONParser } from "@streamparser/json";
import { parse as createCsvParser } from "csv-parse";
import * as z from "zod";
import { DirectoryError } from "../../directory-error.ts";
import { plainText } from "../../page-check.ts";
import {
  type DirectoryMembers,
  type DirectoryPage,
  type DirectoryPerson,
  emptyPage,
  idCharsMax,
} from "../../source.ts";

export type DocumentFormat = "json" | "csv";
export type Document = Readonly<{
  people: readonly DirectoryPerson[];
  /** By id: the name and the direct members. */
  groups: ReadonlyMap<string, Readonly<{ name: string; people: readonly string[]; groups: readonly string[] }>>;
}>;

const recordsMax = 500_000;
const groupsMax = 100_000;
const membershipsMax = 5_000_000;
const recordBytesMax = 8 * 1024 * 1024;
const pieceBytes = 64 * 1024;

const id = z.union([z.string(), z.number().int()]).transform(String).pipe(z.string().min(1).max(idCharsMax));
const optionalText = z.string().max(4_096).nullish();
const personRecord = z.object({
  id,
  user_name: optionalText,
  email: optionalText,
  name: optionalText,
  active: z.boolean().nullish(),
  groups: z.array(id).max(20_000).nullish(),
});
const groupRecord = z.object({
  id,
  name: optionalText,
  members: z.array(id).max(membershipsMax).nullish(),
  groups: z.array(id).max(groupsMax).nullish(),
});
const csvBooleans: Readonly<Record<string, boolean>> = { "": true, true: true, "1": true, false: false, "0": false };

/** @param pause lets other work go first @throws DirectoryError `malformed` */
export async function parseDocument(
  bytes: Uint8Array,
  format: DocumentFormat,
  pause: () => Promise<void>,
): Promise<Document> {
  const collected = new Collected();
  if (format === "json") await parseJson(bytes, collected, pause);
  else await parseCsv(bytes, collected, pause);
  return collected.finish();
}

async function parseJson(bytes: Uint8Array, collected: Collected, pause: () => Promise<void>): Promise<void> {
  const parser = new JSONParser({ paths: ["$.people", "$.people.*", "$.groups", "$.groups.*"], keepStack: false });
  /** The first one: the parser takes what `onValue` throws for its own. */
  let problem: unknown;
  const lists = new Set<string>();
  parser.onValue = ({ value, key, stack }) => {
    const list = stack.length === 1 ? String(key) : String(stack[1]?.key);
    try {
      if (stack.length !== 1 && typeof key !== "number") throw refused(`${list} is not a list`);
      if (stack.length !== 1) collected.add(list, value, `${list}[${key}]`);
      else if (!Array.isArray(value)) throw refused(`${list} is not a list`);
      else lists.add(list);
    } catch (error) {
      problem ??= error;
    }
  };
  parser.onError = (error) => {
    problem ??= error;
  };
  parser.onEnd = () => undefined;
  try {
    for (let from = 0; from < bytes.length && problem === undefined; from += pieceBytes) {
      parser.write(bytes.subarray(from, from + pieceBytes));
      await pause();
    }
  } catch (error) {
    problem ??= error;
  }
  if (problem instanceof DirectoryError) throw problem;
  // The parser's message quotes the document, which has people's names.
  if (problem !== undefined || !parser.isEnded) throw refused("it is not JSON, or was cut");
  if (!lists.has("people")) throw refused("it has no list people");
}

async function parseCsv(bytes: Uint8Array, collected: Collected, pause: () => Promise<void>): Promise<void> {
  const lineFeed = 0x0a;
  if (bytes.length > 0 && bytes.at(-1) !== lineFeed)
    throw refused("its last line does not end with a line break, so it may have been cut");
  let isKnown = false;
  const parser = createCsvParser({
    bom: true,
    columns(header: readonly string[]) {
      const names = header.map((name) => name.trim().toLowerCase());
      if (!names.includes("id")) throw refused("its first line names no column id");
      isKnown = true;
      return names;
    },
    info: true,
    max_record_size: recordBytesMax,
    skip_empty_lines: true,
    trim: true,
  });
  const read = (async () => {
    for await (const { record, info } of parser as AsyncIterable<{
      record: Readonly<Record<string, string>>;
      info: Readonly<{ lines: number }>;
    }>)
      collected.add("people", fromCsv(record, info.lines), `line ${info.lines}`);
  })();
  read.catch(() => undefined);
  for (let from = 0; from < bytes.length && !parser.destroyed; from += pieceBytes) {
    parser.write(bytes.subarray(from, from + pieceBytes));
    await pause();
  }
  parser.end();
  try {
    await read;
  } catch (error) {
    if (error instanceof DirectoryError) throw error;
    const { code, lines } = error as Readonly<{ code?: string; lines?: number }>;
    throw refused(`line ${lines ?? "?"} is not CSV (${code ?? "unknown"})`);
  }
  if (!isKnown) throw refused("it has no first line with the names of the columns");
}

function fromCsv(record: Readonly<Record<string, string>>, line: number): unknown {
  const column = (name: string): string => (Object.hasOwn(record, name) ? (record[name] ?? "") : "");
  const written = column("active").toLowerCase();
  if (!Object.hasOwn(csvBooleans, written)) throw refused(`line ${line}: active is neither true nor false`);
  const groups = column("groups")
    .split(";")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  return {
    id: column("id"),
    user_name: column("user_name"),
    email: column("email"),
    name: column("name"),
    active: csvBooleans[written],
    groups,
  };
}

class Collected {
  readonly #people = new Map<string, DirectoryPerson>();
  readonly #groups = new Map<string, { name: string; people: Set<string>; groups: Set<string> }>();
  /** Groups that a person names: their id is their name. */
  readonly #named = new Map<string, Set<string>>();
  #memberships = 0;

  add(list: string, value: unknown, place: string): void {
    if (list === "people") this.#addPerson(value, place);
    else this.#addGroup(value, place);
    if (this.#people.size > recordsMax) throw refused(`it has more than ${recordsMax} people`);
    if (this.#groups.size + this.#named.size > groupsMax) throw refused(`it has more than ${groupsMax} groups`);
    if (this.#memberships > membershipsMax) throw refused(`it has more than ${membershipsMax} memberships`);
  }

  finish(): Document {
    for (const [name, people] of this.#named) {
      const group = this.#groups.get(name) ?? { name, people: new Set<string>(), groups: new Set<string>() };
      for (const person of people) group.people.add(person);
      this.#groups.set(name, group);
    }
    const groups = [...this.#groups].map(([groupId, { name, people, groups: inner }]) => {
      return [groupId, { name, people: [...people], groups: [...inner] }] as const;
    });
    return { people: [...this.#people.values()], groups: new Map(groups) };
  }

  #addPerson(value: unknown, place: string): void {
    const record = parseRecord(personRecord, value, place);
    const email = plainText(record.email ?? "");
    this.#people.set(record.id, {
      id: record.id,
      userName: plainText(record.user_name ?? "") || email || record.id,
      email: email === "" ? null : email,
      name: plainText(record.name ?? ""),
      active: record.active ?? true,
    });
    for (const name of record.groups ?? []) {
      const people = this.#named.get(name) ?? new Set();
      people.add(record.id);
      this.#named.set(name, people);
      this.#memberships += 1;
    }
  }

  #addGroup(value: unknown, place: string): void {
    const record = parseRecord(groupRecord, value, place);
    const group = this.#groups.get(record.id) ?? { name: "", people: new Set(), groups: new Set() };
    group.name = plainText(record.name ?? "").slice(0, idCharsMax) || record.id;
    for (const member of record.members ?? []) group.people.add(member);
    for (const inner of record.groups ?? []) group.groups.add(inner);
    this.#memberships += (record.members?.length ?? 0) + (record.groups?.length ?? 0);
    this.#groups.set(record.id, group);
  }
}

function parseRecord<T>(schema: z.ZodType<T>, value: unknown, place: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0] ?? { path: [], message: "is not valid" };
  throw refused(`${place}${path.map((step) => `.${String(step)}`).join("")}: ${message}`);
}

/** The pages of a document, in order; a cursor names one by its number. */
export function documentPage(
  { people, groups }: Document,
  { number, size }: Readonly<{ number: number; size: number }>,
): Readonly<{ page: DirectoryPage; isLast: boolean }> {
  const peoplePages = Math.ceil(people.length / size);
  if (number < peoplePages)
    return {
      page: { ...emptyPage, people: people.slice(number * size, (number + 1) * size) },
      isLast: number === peoplePages - 1 && groups.size === 0,
    };
  const from = (number - peoplePages) * size;
  const page: { groups: DirectoryPage["groups"][number][]; members: DirectoryMembers[] } = { groups: [], members: [] };
  let at = 0;
  // Members are counted through all groups, so that a large group is spread over pages.
  for (const [groupId, group] of groups) {
    const length = group.people.length + group.groups.length + 1;
    if (at + length > from && at < from + size) {
      const slice = <T>(list: readonly T[], before: number): readonly T[] =>
        list.slice(Math.max(0, from - at - before), Math.max(0, from + size - at - before));
      page.groups.push({ id: groupId, name: group.name });
      page.members.push({
        groupId,
        people: slice(group.people, 1),
        groups: slice(group.groups, 1 + group.people.length),
      });
    }
    at += length;
    if (at >= from + size) break;
  }
  const total = [...groups.values()].reduce((sum, group) => sum + group.people.length + group.groups.length + 1, 0);
  return { page: { ...emptyPage, ...page }, isLast: from + size >= total };
}

function refused(problem: string): DirectoryError {
  return new DirectoryError(`the document is refused: ${problem}`, { kind: "malformed" });
}
