/**
 * YAML document: text into plain values, with the place of each.
 *
 * The yaml library parses; this file turns its nodes into values because the places must be kept, duplicate keys must be
 * errors, and aliases must not be able to grow without bound ("YAML bombs"). JSON is YAML. Anchors, aliases and merge
 * keys (`<<`) work as in YAML 1.1: a mapping's own keys win over merged ones, earlier merged ones over later.
 *
 * Refuses: several documents, custom tags, keys that are not scalars, the key `__proto__`, nesting deeper than 64, more
 * than 200,000 values after aliases are expanded, more than 4 MiB of text.
 * Always: never throws; what it answers holds only null, booleans, numbers, strings, arrays and plain objects.
 */
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, type YAMLMap } from "yaml";
import type { Place, Places, Problem } from "../config.ts";

const textLengthMax = 4 * 1024 * 1024;
const depthMax = 64;
const valuesMax = 200_000;
const syntaxProblemsMax = 20;

/** `readable: false`: the text is no document at all and `value` says nothing. */
export type YamlDocument = Readonly<{
  readable: boolean;
  value: unknown;
  places: Places;
  problems: readonly Problem[];
}>;

export function readYaml(text: string, file: string): YamlDocument {
  const problems: Problem[] = [];
  const start: Place = { file, line: 1, column: 1 };
  const refuse = (place: Place, problem: string, remedy: string): void => {
    problems.push({ ...place, key: "(document)", problem, remedy, severity: "error" });
  };
  const unreadable = (): YamlDocument => ({
    readable: false,
    value: undefined,
    places: { value: start, key: null, inner: new Map() },
    problems,
  });
  if (text.length > textLengthMax) {
    refuse(
      start,
      `longer than ${textLengthMax / 1024 / 1024} MiB`,
      "a configuration is smaller: is this the right file?",
    );
    return unreadable();
  }
  const lines = new LineCounter();
  const at = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(1, line), column: Math.max(1, col) };
  };
  try {
    const document = parseDocument(text.replace(/^\uFEFF/, ""), {
      lineCounter: lines,
      merge: true,
      uniqueKeys: false, // compared below, in linear time
      prettyErrors: false,
      logLevel: "error", // "silent" would read the first of several documents without a word
    });
    for (const error of document.errors.slice(0, syntaxProblemsMax)) {
      const several = error.code === "MULTIPLE_DOCS";
      refuse(
        at(error.pos[0]),
        several ? "holds several documents" : `is not YAML: ${firstLine(error.message)}`,
        several ? "keep one, without ---" : "correct it; text with special characters goes in quotes",
      );
    }
    for (const warning of document.warnings.slice(0, syntaxProblemsMax)) {
      refuse(at(warning.pos[0]), firstLine(warning.message), "write the plain value, without a tag");
    }
    if (document.errors.length > 0) return unreadable();
    const walk = new Walk({ at, refuse, resolve: (alias) => (isAlias(alias) ? alias.resolve(document) : alias) });
    const read = walk.read(document.contents, 0);
    return {
      readable: !walk.gaveUp,
      value: read.value,
      places: { value: read.place ?? start, key: null, inner: read.inner },
      problems,
    };
  } catch (error) {
    refuse(start, `cannot be read: ${error instanceof Error ? firstLine(error.message) : "unknown"}`, "simplify it");
    return unreadable();
  }
}

type Read = { value: unknown; place: Place | null; inner: Map<string | number, Places> };
type World = Readonly<{
  at: (offset: number) => Place;
  refuse: (place: Place, problem: string, remedy: string) => void;
  resolve: (node: Node) => Node | undefined;
}>;

/** One pass over the nodes, with the bounds. */
class Walk {
  gaveUp = false;
  #values = 0;
  readonly #world: World;
  constructor(world: World) {
    this.#world = world;
  }

  read(given: unknown, depth: number): Read {
    const nothing: Read = { value: null, place: null, inner: new Map() };
    if (this.gaveUp || given === null || given === undefined) return nothing;
    const written = given as Node;
    const place = this.#world.at(written.range?.[0] ?? 0);
    this.#values++;
    if (depth > depthMax || this.#values > valuesMax) {
      this.gaveUp = true;
      const what = depth > depthMax ? `nests deeper than ${depthMax}` : `holds more than ${valuesMax} values`;
      this.#world.refuse(place, what, "write it flatter, with fewer aliases");
      return nothing;
    }
    const node = this.#world.resolve(written);
    if (node === undefined) {
      this.#world.refuse(place, "an alias to an anchor that is not defined above", "define the anchor with & first");
      return nothing;
    }
    if (isScalar(node)) return { value: scalarValue(node.value), place, inner: new Map() };
    if (isSeq(node)) {
      const value: unknown[] = [];
      const inner = new Map<string | number, Places>();
      for (const item of node.items) {
        const read = this.read(item, depth + 1);
        inner.set(value.length, { value: read.place ?? place, key: null, inner: read.inner });
        value.push(read.value);
      }
      return { value, place, inner };
    }
    if (isMap(node)) return { ...this.#readMap(node, depth, place), place };
    return nothing;
  }

  #readMap(node: YAMLMap, depth: number, place: Place): Omit<Read, "place"> {
    const value: Record<string, unknown> = {};
    const inner = new Map<string | number, Places>();
    const merged: Read[] = [];
    for (const { key: keyNode, value: valueNode } of node.items) {
      const scalar = isScalar(keyNode) ? keyNode : undefined;
      const keyPlace = this.#world.at((keyNode as Node | null)?.range?.[0] ?? 0);
      if (typeof scalar?.value === "symbol") {
        merged.push(...this.#readMerge(valueNode, { depth, keyPlace }));
        continue;
      }
      const key = scalar === undefined ? undefined : String(scalarValue(scalar.value));
      if (key === undefined || key === "__proto__") {
        this.#world.refuse(keyPlace, "a key must be one word", "write key: value");
        continue;
      }
      if (Object.hasOwn(value, key)) {
        const first = inner.get(key)?.key?.line;
        this.#world.refuse(keyPlace, `${key} is written twice (first on line ${first ?? "?"})`, "keep one of them");
        continue;
      }
      const read = this.read(valueNode, depth + 1);
      value[key] = read.value;
      inner.set(key, { value: read.place ?? keyPlace, key: keyPlace, inner: read.inner });
    }
    for (const source of merged) {
      for (const [key, inside] of Object.entries(source.value as Record<string, unknown>)) {
        if (Object.hasOwn(value, key)) continue;
        value[key] = inside;
        inner.set(key, source.inner.get(key) ?? { value: place, key: place, inner: new Map() });
      }
    }
    return { value, inner };
  }

  #readMerge(node: unknown, from: Readonly<{ depth: number; keyPlace: Place }>): Read[] {
    const read = this.read(node, from.depth + 1);
    const list = Array.isArray(read.value)
      ? read.value.map((value, i): Read => ({ value, place: null, inner: new Map(read.inner.get(i)?.inner) }))
      : [read];
    return list.filter((source) => {
      const usable = typeof source.value === "object" && source.value !== null && !Array.isArray(source.value);
      if (!usable && !this.gaveUp) {
        this.#world.refuse(from.keyPlace, "<< merges something that is no mapping", "merge an alias to a mapping");
      }
      return usable;
    });
  }
}

/** Scalars that JSON has; dates, binary and big numbers are their text. */
function scalarValue(value: unknown): null | boolean | number | string {
  if (value === null || value === undefined) return null;
  if (typeof value === "boolean" || typeof value === "string" || typeof value === "number") return value;
  if (typeof value === "symbol") return "<<";
  if (value instanceof Date) return value.toISOString();
  return typeof value === "bigint" ? value.toString() : String(value);
}

function firstLine(text: string): string {
  return (text.split("\n")[0] ?? "").slice(0, 200);
}
