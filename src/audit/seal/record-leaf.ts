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
import { hash as digestOf } from "node:crypto";
import { leafHash, treeHashBytes } from "../../events/index.ts";

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
  return { leaf: digestOfLeaf(parts), erased: parts.erased };
}

/** The line without what is personal in it. @returns undefined if it is no record */
export function eraseLine(line: Buffer): Buffer | undefined {
  const parts = splitLine(line);
  if (parts === undefined) return undefined;
  const { text, commitment } = parts;
  const end = Buffer.from(`${text.length > 2 ? "," : ""}"${erasedMember}":"${commitment.toString("base64url")}"}`);
  return Buffer.concat([text.subarray(0, -1), end]);
}

type SplitLine = Readonly<{ text: Buffer; commitment: Buffer; erased: boolean }>;

const prefix = Buffer.from([0x00]);

function digestOfLeaf({ text, commitment }: SplitLine): Buffer {
  return digestOf("sha256", Buffer.concat([prefix, text, commitment]), "buffer");
}

const [brace, braceEnd, bracket, bracketEnd, quote, backslash, comma, colon] = [
  0x7b, 0x7d, 0x5b, 0x5d, 0x22, 0x5c, 0x2c, 0x3a,
];
const objectOf = (members: readonly Buffer[]): Buffer => Buffer.concat([open, ...withCommas(members), close]);
const open = Buffer.from("{");
const close = Buffer.from("}");
const separator = Buffer.from(",");

function withCommas(members: readonly Buffer[]): readonly Buffer[] {
  return members.flatMap((member, at) => (at === 0 ? [member] : [separator, member]));
}

/** Runs of members that follow each other are kept as one piece: a line has few of them. */
function splitLine(whole: Buffer): SplitLine | undefined {
  const line = whole.at(-1) === 0x0a ? whole.subarray(0, -1) : whole;
  if (line[0] !== brace || line.at(-1) !== braceEnd) return undefined;
  const shown: Buffer[] = [];
  const personal: Buffer[] = [];
  let commitment: Buffer | undefined;
  for (let at = 1; at < line.length - 1; ) {
    const keyEnd = line[at] === quote ? endOfString(line, at) : undefined;
    if (keyEnd === undefined || line[keyEnd] !== colon || commitment !== undefined) return undefined;
    const end = endOfValue(line, keyEnd + 1);
    if (end === undefined || (line[end] !== comma && end !== line.length - 1)) return undefined;
    if (line[end] === comma && end === line.length - 2) return undefined; // a comma before the end
    const name = line.toString("latin1", at + 1, keyEnd - 1);
    const member = line.subarray(at, end);
    if (name === erasedMember) {
      commitment = commitmentIn(line.subarray(keyEnd + 1, end));
      if (commitment === undefined || personal.length > 0) return undefined;
    } else (publicMembers.has(name) ? shown : personal).push(member);
    at = end + 1;
  }
  const hash = commitment ?? digestOf("sha256", objectOf(personal), "buffer");
  return { text: objectOf(shown), commitment: hash, erased: commitment !== undefined };
}

const commitmentPattern = /^"[A-Za-z0-9_-]{43}"$/;

function commitmentIn(value: Buffer): Buffer | undefined {
  const text = value.toString("latin1");
  if (!commitmentPattern.test(text)) return undefined;
  const bytes = Buffer.from(text.slice(1, -1), "base64url");
  return bytes.length === treeHashBytes && `"${bytes.toString("base64url")}"` === text ? bytes : undefined;
}

/** @returns the offset after the closing quote */
function endOfString(line: Buffer, from: number): number | undefined {
  for (let at = line.indexOf(quote, from + 1); at >= 0; at = line.indexOf(quote, at + 1)) {
    let escapes = 0;
    while (line[at - 1 - escapes] === backslash) escapes++;
    if (escapes % 2 === 0) return at + 1;
  }
  return undefined;
}

/** @returns the offset after a value */
function endOfValue(line: Buffer, from: number): number | undefined {
  const first = line[from];
  if (first === quote) return endOfString(line, from);
  if (first !== brace && first !== bracket) return endOfWord(line, from);
  let depth = 0;
  for (let at = from; at < line.length; at++) {
    const byte = line[at];
    if (byte === quote) {
      const end = endOfString(line, at);
      if (end === undefined) return undefined;
      at = end - 1;
    } else if (byte === brace || byte === bracket) depth++;
    else if (byte === braceEnd || byte === bracketEnd) {
      depth--;
      if (depth === 0) return at + 1;
    }
  }
  return undefined;
}

/** A number, `true`, `false` or `null`. */
function endOfWord(line: Buffer, from: number): number | undefined {
  let at = from;
  for (; at < line.length; at++) {
    const byte = line[at] ?? 0;
    if (byte === comma || byte === braceEnd) break;
    const isPart = (byte >= 0x30 && byte <= 0x39) || (byte >= 0x61 && byte <= 0x7a);
    if (!isPart && byte !== 0x2d && byte !== 0x2b && byte !== 0x2e && byte !== 0x45) return undefined;
  }
  return at > from ? at : undefined;
}
