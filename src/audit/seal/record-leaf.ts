/**
 * Record leaf: what the hash tree has for one number of a boot (docs/adr/0057). Pure.
 *
 *   SHA-256( 0x00 ‖ public members ‖ SHA-256(personal members) )
 *
 * - The members are those of the record's line, byte for byte, in their order. So the line is bound exactly, and what
 *   is personal in it can be erased: the erased line has the public members and the inner hash, and the same leaf.
 * - The personal members of a decision hold its request id, 122 random bits: from the inner hash none can be guessed.
 * - `publicMembers` never changes, or stored records would get other leaves. What is not in it is personal, also a
 *   member that is added to records later.
 * - A number without a record has `lostLeaf`.
 */
import { type HashText, hashTextOf, leafHash, treeHashBytes } from "../../events/index.ts";
import { runsPerLine } from "../spool/index.ts";

export const publicMembers: ReadonlySet<string> = new Set([
  "kind",
  "seq",
  "node",
  "boot",
  "region",
  "at",
  "occasion",
  "routeId",
  "routeName",
  "method",
  "result",
  "status",
  "reasons",
  "allow",
  "deny",
  "rule",
  "applied",
  "configHash",
  "overdueMs",
  "latencyMs",
  "cutMs",
  "closed",
  "command",
  "outcome",
  "code",
  "link",
  "targetsMore",
]);

/** The member of an erased line that holds the hash of what was personal. */
export const erasedMember = "erased";

/** The leaf of a number that has no record. */
export const lostLeaf: Buffer = leafHash(Buffer.from("cardea: no record"));

/** The line is not one that a node has written: it is not a plain JSON object, or an erased one that was changed. */
export type LineRefusal = "not-a-record";

export type RecordLeaf = Readonly<{
  leaf: Buffer;
  /** What was personal has been erased. */
  erased: boolean;
}>;

/** @param line with or without its line end */
export function recordLeafOf(line: Buffer): RecordLeaf | LineRefusal {
  const parts = splitLine(line);
  if (parts === undefined) return "not-a-record";
  return { leaf: Buffer.from(leafTextIn(parts), "latin1"), erased: parts.erased !== null };
}

/** The leaf of a line. */
export function leafTextOf(line: Buffer): HashText | LineRefusal {
  const parts = splitLine(line);
  return parts === undefined ? "not-a-record" : leafTextIn(parts);
}

/** The runs of a line of a batch: those from `line * runsPerLine` on. */
type LineRuns = Readonly<{ from: number; runs: Uint16Array; line: number }>;

/** The length of a line, with its end; 0: its runs are not known. */
export function lengthByRuns(runs: Uint16Array, line: number): number {
  const last = runs[line * runsPerLine + runsPerLine - 1] ?? 0;
  return last === 0 ? 0 : last + 2;
}

/**
 * The leaf of a line that begins at `from`, without searching for its members: runs of public and of personal members
 * take turns (spool/record-ring.ts).
 */
export function leafTextByRuns(bytes: Buffer, { from, runs, line }: LineRuns): HashText {
  const at = line * runsPerLine;
  const room = (runs[at + runsPerLine - 1] ?? 0) + overheadBytes;
  begin(shown, { at: prefixBytes, room });
  begin(personal, { at: 0, room });
  let start = 1; // behind the brace; later runs begin with a comma
  for (let run = 0; run < runsPerLine; run++) {
    const end = runs[at + run] ?? 0;
    if (end > start) {
      const part = run % 2 === 0 ? shown : personal;
      const comma = part === personal && part.length === 1 ? 1 : 0; // a part begins without one
      part.length += bytes.copy(part.bytes, part.length, from + start + comma, from + end);
    }
    start = end;
  }
  for (const part of [shown, personal]) part.bytes[part.length++] = braceEnd;
  return leafTextIn({ shown, personal, erased: null });
}

function leafTextIn(parts: SplitLine): HashText {
  const { bytes, length } = parts.shown;
  bytes.write(commitmentOf(parts), length, "latin1");
  return hashTextOf(bytes.subarray(0, length + treeHashBytes));
}

/** The line without what is personal in it. @returns undefined if it is no record */
export function eraseLine(line: Buffer): Buffer | undefined {
  const parts = splitLine(line);
  if (parts === undefined) return undefined;
  const text = parts.shown.bytes.subarray(prefixBytes, parts.shown.length);
  const commitment = Buffer.from(commitmentOf(parts), "latin1").toString("base64url");
  const end = Buffer.from(`${text.length > 2 ? "," : ""}"${erasedMember}":"${commitment}"}`);
  return Buffer.concat([text.subarray(0, -1), end]);
}

/** The bytes of an object with some members of a line. They are valid until the next line is split. */
type Part = { bytes: Buffer; length: number };
type SplitLine = Readonly<{
  /** Behind the prefix of a leaf. */
  shown: Part;
  personal: Part;
  /** The hash of the personal members of an erased line; null: they are there. */
  erased: Buffer | null;
}>;

const prefixBytes = 1;
/** Room around the members: the prefix, the braces and the inner hash. */
const overheadBytes = prefixBytes + 2 + treeHashBytes;
/** Used again for each line: a line costs three copies and two hashes, and no other memory. */
const shown: Part = { bytes: Buffer.alloc(4_096), length: 0 };
const personal: Part = { bytes: Buffer.alloc(4_096), length: 0 };

const [brace, braceEnd, bracket, bracketEnd, quote, backslash, comma, colon, lineEnd] = [
  0x7b, 0x7d, 0x5b, 0x5d, 0x22, 0x5c, 0x2c, 0x3a, 0x0a,
];

function commitmentOf({ erased, personal }: SplitLine): HashText {
  return erased?.toString("latin1") ?? hashTextOf(personal.bytes.subarray(0, personal.length));
}

function begin(part: Part, { at, room }: Readonly<{ at: number; room: number }>): void {
  if (part.bytes.length < room) part.bytes = Buffer.alloc(room);
  part.bytes[0] = 0; // the prefix of a leaf
  part.bytes[at] = brace;
  part.length = at + 1;
}

/** Appends members that follow each other in the line. */
function add(part: Part, line: Buffer, { from, to }: Readonly<{ from: number; to: number }>): void {
  if (part.bytes[part.length - 1] !== brace) part.bytes[part.length++] = comma;
  part.length += line.copy(part.bytes, part.length, from, to);
}

/** Members that follow each other and go to the same part are copied at once. */
function splitLine(line: Buffer): SplitLine | undefined {
  // Each byte is one character, so offsets are equal, and searching a string is faster.
  const text = line.toString("latin1", 0, line.at(-1) === lineEnd ? line.length - 1 : line.length);
  const end = text.length - 1;
  if (end < 1 || text.charCodeAt(0) !== brace || text.charCodeAt(end) !== braceEnd) return undefined;
  begin(shown, { at: prefixBytes, room: line.length + overheadBytes });
  begin(personal, { at: 0, room: line.length + overheadBytes });
  let erased: Buffer | null = null;
  let run: { part: Part; from: number; to: number } | null = null;
  for (let at = 1; at < end; ) {
    const keyEnd = text.charCodeAt(at) === quote ? endOfString(text, at) : -1;
    if (keyEnd < 0 || text.charCodeAt(keyEnd) !== colon || erased !== null) return undefined;
    const next = endOfValue(text, keyEnd + 1);
    if (next < 0 || (text.charCodeAt(next) !== comma && next !== end) || next === end - 1) return undefined;
    const name = text.slice(at + 1, keyEnd - 1);
    if (name === erasedMember) {
      erased = commitmentIn(text.slice(keyEnd + 1, next)) ?? null;
      if (erased === null) return undefined;
    } else {
      const part = publicMembers.has(name) ? shown : personal;
      if (run !== null && run.part === part) run.to = next;
      else {
        if (run !== null) add(run.part, line, run);
        run = { part, from: at, to: next };
      }
    }
    at = next + 1;
  }
  if (run !== null) add(run.part, line, run);
  if (erased !== null && personal.length > 1) return undefined;
  for (const part of [shown, personal]) part.bytes[part.length++] = braceEnd;
  return { shown, personal, erased };
}

const commitmentPattern = /^"[A-Za-z0-9_-]{43}"$/;

function commitmentIn(text: string): Buffer | undefined {
  if (!commitmentPattern.test(text)) return undefined;
  const bytes = Buffer.from(text.slice(1, -1), "base64url");
  return bytes.length === treeHashBytes && `"${bytes.toString("base64url")}"` === text ? bytes : undefined;
}

/** @returns the offset after the closing quote; -1: there is none */
function endOfString(text: string, from: number): number {
  for (let at = text.indexOf('"', from + 1); at >= 0; at = text.indexOf('"', at + 1)) {
    let escapes = 0;
    while (text.charCodeAt(at - 1 - escapes) === backslash) escapes++;
    if (escapes % 2 === 0) return at + 1;
  }
  return -1;
}

/** @returns the offset after a value; -1: it has no end */
function endOfValue(text: string, from: number): number {
  const first = text.charCodeAt(from);
  if (first === quote) return endOfString(text, from);
  if (first !== brace && first !== bracket) return endOfWord(text, from);
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === quote) {
      const end = endOfString(text, at);
      if (end < 0) return -1;
      at = end - 1;
    } else if (code === brace || code === bracket) depth++;
    else if (code === braceEnd || code === bracketEnd) {
      depth--;
      if (depth === 0) return at + 1;
    }
  }
  return -1;
}

/** A number, `true`, `false` or `null`. */
function endOfWord(text: string, from: number): number {
  let at = from;
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === comma || code === braceEnd) break;
    const isPart = (code >= 0x30 && code <= 0x39) || (code >= 0x61 && code <= 0x7a);
    if (!isPart && code !== 0x2d && code !== 0x2b && code !== 0x2e && code !== 0x45) return -1;
  }
  return at > from ? at : -1;
}
