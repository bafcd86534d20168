/**
 * Growing memory: finds every Map, Set, cache and list of `src/` that outlives the function that made it and that code
 * adds to later.
 *
 * - The sources are formatted by one tool, so the indentation of a line is its nesting.
 * - A field of a class counts if a method adds to it.
 * - A variable counts if a nested function adds to it, unless that function is the callback of an array method.
 */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

const creation = String.raw`(?:new (?:Map|Set|LRUCache|GenerationalCache)\b|createGrowingCache\b|\[\](?=[;,\s)]|$))`;
const field = new RegExp(String.raw`^  (?:static |readonly )*(#?\w+)(?:\??: [^=]+)? = (?:.*\W)?${creation}`);
const fieldInConstructor = new RegExp(String.raw`^\s+this\.(#?\w+) = ${creation}`);
const variable = new RegExp(String.raw`^(\s*)(?:export )?(?:const|let) (\w+)(?:: [^=]+)? =\s*${creation}`);
/** A property of an object that a function creates. */
const property =
  /^\s+(\w+): (?:(?:new LRUCache|new GenerationalCache|createGrowingCache)\b|new (?:Map|Set)(?:<.*>)?\(\))|\{ (\w+): new LRUCache\b/;
const arrayCallback = /\.(?:map|filter|forEach|flatMap|some|every|find|reduce|toSorted|sort)\(|Array\.from\(/;
const opensFunction =
  /\bfunction\*? ?\w*[(<]|=>|^\s*(?:async |get |set |static |\*)*#?\w+(?:<[^>]*>)?\(.*\)(?:: .*)? \{$|^\s*\)(?:: .*)? (?:=> )?\{$/;
const opensBlock = /^\s*(?:\} )?(?:if|for|while|switch|catch|else)\b/;

const addsTo = (owner: string, name: string): RegExp =>
  new RegExp(
    String.raw`(?<![\w.#])${owner}${name}(?:\.(?:set|add|push|unshift|splice)\(|\s*(?:\?\?)?=[^=>]|\[[^\]]+\]\s*=[^=])`,
  );

/** @returns `src/file.ts name` for each collection, sorted */
export function findGrowingMemory(root: string): readonly string[] {
  const found = globSync("src/**/*.ts", { cwd: root }).flatMap((file) => {
    const lines = readFileSync(join(root, file), "utf8").split("\n");
    return namesIn(lines).map((name) => `${file.replaceAll("\\", "/")} ${name}`);
  });
  return [...new Set(found)].sort();
}

function namesIn(lines: readonly string[]): readonly string[] {
  return lines.flatMap((line, at) => {
    if (/^\s*(?:\*|\/\/)/.test(line)) return [];
    const whole = /=$/.test(line) ? `${line} ${(lines[at + 1] ?? "").trim()}` : line;
    const ofClass = /^ {2}(?:const|let|return)\b/.test(whole) ? undefined : field.exec(whole)?.[1];
    const name = ofClass ?? fieldInConstructor.exec(whole)?.[1];
    if (name !== undefined) return isAddedTo(name, lines, at) ? [name] : [];
    const ofObject = property.exec(whole);
    if (ofObject !== null) return [ofObject[1] ?? ofObject[2] ?? ""];
    const [, indent = "", local] = variable.exec(whole) ?? [];
    return local !== undefined && isAddedToLater(local, lines, { at, indent: indent.length }) ? [local] : [];
  });
}

function isAddedTo(name: string, lines: readonly string[], at: number): boolean {
  const adds = addsTo(String.raw`(?:this|\w+)\.`, name);
  return lines.some((line, i) => i !== at && adds.test(line) && !/^\s*\*/.test(line));
}

function isAddedToLater(
  name: string,
  lines: readonly string[],
  creation: Readonly<{ at: number; indent: number }>,
): boolean {
  const adds = addsTo("", name);
  for (let i = creation.at + 1; i < lines.length; i++) {
    const line = lines[i] ?? "";
    if (creation.indent > 0 && line.trim() !== "" && indentOf(line) < creation.indent) return false;
    if (adds.test(line) && isInNestedFunction(lines, i, creation)) return true;
  }
  return false;
}

/** Walks outward from a line to the declaration of the variable. */
function isInNestedFunction(
  lines: readonly string[],
  at: number,
  creation: Readonly<{ at: number; indent: number }>,
): boolean {
  let level = Number.POSITIVE_INFINITY;
  for (let i = at; i > creation.at && level > creation.indent; i--) {
    const line = lines[i] ?? "";
    if (line.trim() === "" || indentOf(line) >= level) continue;
    level = indentOf(line);
    if (opensFunction.test(line) && !opensBlock.test(line) && !arrayCallback.test(line)) return true;
  }
  return false;
}

function indentOf(line: string): number {
  return line.length - line.trimStart().length;
}
