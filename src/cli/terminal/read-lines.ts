/** JSON values from a file or standard input: JSON lines, one JSON document over several lines, or a list. */
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { UsageError } from "./command.ts";

/** A value, or why there is none. `at` is its location. */
export type ReadValue = Readonly<{ at: string; value: unknown } | { at: string; problem: string }>;

/** The longest document of several lines. */
const wholeCharsMax = 16 * 1024 * 1024;

/** One value a line. @throws UsageError when it cannot be read */
export async function* readLines(input: Readable, name: string): AsyncGenerator<ReadValue> {
  let line = 0;
  try {
    for await (const text of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      line += 1;
      if (text.trim() === "") continue;
      const value = parse(text);
      yield value === undefined ? { at: `${name}:${line}`, problem: "is not JSON" } : { at: `${name}:${line}`, value };
    }
  } catch (cause) {
    throw new UsageError(`${name} cannot be read`, { cause });
  }
}

/** @throws UsageError when the file cannot be read */
export async function* readValues(path: string): AsyncGenerator<ReadValue> {
  const name = path === "-" ? "standard input" : path;
  let whole = "";
  let line = 0;
  try {
    const input = path === "-" ? process.stdin : createReadStream(path, "utf8");
    for await (const written of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      line += 1;
      // Some Windows programs write a byte order mark, which parsers may ignore (RFC 8259 §8.1).
      const text = line === 1 ? written.replace(/^\ufeff/, "") : written;
      if (whole === "" && text.trim() === "") continue;
      const value = whole === "" ? parse(text) : undefined;
      if (value !== undefined) yield* each(value, `${name}:${line}`);
      else if (whole === "" && line > 1) yield { at: `${name}:${line}`, problem: "is not JSON" };
      else if (whole.length > wholeCharsMax)
        throw new UsageError(`${name} is not JSON lines, and too long to be one JSON document`);
      else whole += `${text}\n`;
    }
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    throw new UsageError(`${name} cannot be read`, { cause });
  }
  if (whole === "") return;
  const value = parse(whole);
  if (value !== undefined) yield* each(value, name);
  else yield* linesOf(whole, name);
}

function* each(value: unknown, at: string): Generator<ReadValue> {
  if (!Array.isArray(value)) yield { at, value };
  else
    for (const [index, item] of (value as readonly unknown[]).entries()) yield { at: `${at}[${index}]`, value: item };
}

/** Neither the first line nor the whole text is JSON: parses each line by itself. */
function* linesOf(whole: string, name: string): Generator<ReadValue> {
  for (const [index, text] of whole.split("\n").entries()) {
    if (text.trim() === "") continue;
    const value = parse(text);
    if (value === undefined) yield { at: `${name}:${index + 1}`, problem: "is not JSON" };
    else yield* each(value, `${name}:${index + 1}`);
  }
}

/** Iterates level by level: recursion would overflow on the very values that this refuses. */
export function isDeeperThan(value: unknown, depth: number): boolean {
  let level: readonly object[] = [value].filter(isTree);
  for (let at = 0; at < depth; at++) {
    if (level.length === 0) return false;
    level = level.flatMap((tree) => Object.values(tree).filter(isTree));
  }
  return level.length > 0;
}

const isTree = (value: unknown): value is object => typeof value === "object" && value !== null;

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
