/**
 * YAML document: parses text into plain values, with the source location of each.
 *
 * - It never throws. The value holds only null, booleans, numbers, strings, arrays and plain objects.
 * - JSON is YAML.
 * - Anchors, aliases and merge keys (`<<`) work as in YAML 1.1: a mapping's own keys win over merged keys, and earlier
 *   merged keys over later ones.
 * - It refuses several documents, custom tags, keys that are not scalars, and the key `__proto__`.
 * - It refuses nesting deeper than 64, more than 200,000 values after aliases are expanded, and more than 4 MiB of
 *   text.
 *
 * The yaml library parses the text. This file turns the library's nodes into values itself, for three reasons:
 * locations must be kept, duplicate keys must be errors, and aliases must not grow without bound ("YAML bombs").
 */
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, type YAMLMap } from "yaml";
import type { Problem, SourceLocation, SourceLocationTree } from "./source-locations.ts";

const textLengthMax = 4 * 1024 * 1024;
const depthMax = 64;
const valuesMax = 200_000;
const syntaxProblemsMax = 20;

/** `readable: false`: the text could not be read as a document, and `value` is meaningless. */
export type YamlDocument = Readonly<{
  readable: boolean;
  value: unknown;
  locations: SourceLocationTree;
  problems: readonly Problem[];
}>;

export function readYaml(text: string, file: string): YamlDocument {
  const problems: Problem[] = [];
  const start: SourceLocation = { file, line: 1, column: 1 };
  const refuse = (location: SourceLocation, problem: string, remedy: string): void => {
    problems.push({ ...location, key: "(document)", problem, remedy, severity: "error" });
  };
  const unreadable = (): YamlDocument => ({
    readable: false,
    value: undefined,
    locations: { value: start, key: null, inner: new Map() },
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
  const at = (offset: number): SourceLocation => {
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
        several ? "contains several documents" : `is not YAML: ${firstLine(error.message)}`,
        several ? "keep one, without ---" : "correct it; quote text that has special characters",
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
      locations: { value: read.location ?? start, key: null, inner: read.inner },
      problems,
    };
  } catch (error) {
    refuse(start, `cannot be read: ${error instanceof Error ? firstLine(error.message) : "unknown"}`, "simplify it");
    return unreadable();
  }
}

type Read = { value: unknown; location: SourceLocation | null; inner: Map<string | number, SourceLocationTree> };
type WalkContext = Readonly<{
  at: (offset: number) => SourceLocation;
  refuse: (location: SourceLocation, problem: string, remedy: string) => void;
  resolve: (node: Node) => Node | undefined;
}>;

/** One pass over the nodes that enforces the bounds on depth and number of values. */
class Walk {
  gaveUp = false;
  #values = 0;
  readonly #context: WalkContext;
  constructor(context: WalkContext) {
    this.#context = context;
  }

  read(given: unknown, depth: number): Read {
    const nothing: Read = { value: null, location: null, inner: new Map() };
    if (this.gaveUp || given === null || given === undefined) return nothing;
    const written = given as Node;
    const location = this.#context.at(written.range?.[0] ?? 0);
    this.#values++;
    if (depth > depthMax || this.#values > valuesMax) {
      this.gaveUp = true;
      const what = depth > depthMax ? `nests deeper than ${depthMax}` : `contains more than ${valuesMax} values`;
      this.#context.refuse(location, what, "nest it less, and use fewer aliases");
      return nothing;
    }
    const node = this.#context.resolve(written);
    if (node === undefined) {
      this.#context.refuse(
        location,
        "an alias to an anchor that is not defined above",
        "define the anchor with & first",
      );
      return nothing;
    }
    if (isScalar(node)) return { value: scalarValue(node.value), location, inner: new Map() };
    if (isSeq(node)) {
      const value: unknown[] = [];
      const inner = new Map<string | number, SourceLocationTree>();
      for (const item of node.items) {
        const read = this.read(item, depth + 1);
        inner.set(value.length, { value: read.location ?? location, key: null, inner: read.inner });
        value.push(read.value);
      }
      return { value, location, inner };
    }
    if (isMap(node)) return { ...this.#readMap(node, depth, location), location };
    return nothing;
  }

  #readMap(node: YAMLMap, depth: number, location: SourceLocation): Omit<Read, "location"> {
    const value: Record<string, unknown> = {};
    const inner = new Map<string | number, SourceLocationTree>();
    const merged: Read[] = [];
    for (const { key: keyNode, value: valueNode } of node.items) {
      const scalar = isScalar(keyNode) ? keyNode : undefined;
      const keyLocation = this.#context.at((keyNode as Node | null)?.range?.[0] ?? 0);
      if (typeof scalar?.value === "symbol") {
        merged.push(...this.#readMerge(valueNode, { depth, keyLocation }));
        continue;
      }
      const key = scalar === undefined ? undefined : String(scalarValue(scalar.value));
      if (key === undefined || key === "__proto__") {
        this.#context.refuse(keyLocation, "a key must be one word", "write key: value");
        continue;
      }
      if (Object.hasOwn(value, key)) {
        const first = inner.get(key)?.key?.line;
        this.#context.refuse(
          keyLocation,
          `${key} is written twice (first on line ${first ?? "?"})`,
          "keep one of them",
        );
        continue;
      }
      const read = this.read(valueNode, depth + 1);
      value[key] = read.value;
      inner.set(key, { value: read.location ?? keyLocation, key: keyLocation, inner: read.inner });
    }
    for (const source of merged) {
      for (const [key, inside] of Object.entries(source.value as Record<string, unknown>)) {
        if (Object.hasOwn(value, key)) continue;
        value[key] = inside;
        inner.set(key, source.inner.get(key) ?? { value: location, key: location, inner: new Map() });
      }
    }
    return { value, inner };
  }

  #readMerge(node: unknown, from: Readonly<{ depth: number; keyLocation: SourceLocation }>): Read[] {
    const read = this.read(node, from.depth + 1);
    const list = Array.isArray(read.value)
      ? read.value.map((value, i): Read => ({ value, location: null, inner: new Map(read.inner.get(i)?.inner) }))
      : [read];
    return list.filter((source) => {
      const usable = typeof source.value === "object" && source.value !== null && !Array.isArray(source.value);
      if (!usable && !this.gaveUp) {
        this.#context.refuse(
          from.keyLocation,
          "<< merges something that is not a mapping",
          "merge an alias to a mapping",
        );
      }
      return usable;
    });
  }
}

/** Converts a scalar to a JSON type. Dates, binary data and big integers become text. */
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
