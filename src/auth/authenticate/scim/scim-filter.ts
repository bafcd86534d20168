/**
 * SCIM filter: parses and evaluates the filters of RFC 7644 §3.4.2.2. Pure.
 *
 * Text is compared without regard to case, except `id`, `externalId` and what is inside `meta` (RFC 7643 §3.1, §8.7). A
 * filter has at most 2,000 characters, 64 comparisons and 16 levels.
 */
import { isDeepStrictEqual } from "node:util";
import type { ScimResource } from "../../../events/index.ts";
import { type AttributePath, isObject, parseAttribute, valuesAt } from "./scim-attributes.ts";
import { ScimError } from "./scim-error.ts";

const operators = ["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"] as const;
type ComparisonOperator = (typeof operators)[number];
export type Filter =
  | Readonly<{ type: "and" | "or"; left: Filter; right: Filter }>
  | Readonly<{ type: "not"; of: Filter }>
  | Readonly<{ type: "present"; path: AttributePath }>
  | Readonly<{ type: "compare"; path: AttributePath; op: ComparisonOperator; value: string | number | boolean | null }>
  /** One element of a list meets all of `of`. */
  | Readonly<{ type: "element"; path: AttributePath; of: Filter }>;

const filterCharsMax = 2_000;
const comparisonsMax = 64;
const levelsMax = 16;

/** @throws ScimError `invalidFilter` */
export function parseFilter(text: string): Filter {
  const { filter, end } = filterAt(text, 0);
  if (end !== text.length) throw new ScimError(400, "the filter has text after its end", "invalidFilter");
  return filter;
}

/** Parses from an index to the end of the text or a closing bracket. @throws ScimError `invalidFilter` */
export function filterAt(text: string, from: number): Readonly<{ filter: Filter; end: number }> {
  if (text.length > filterCharsMax) throw new ScimError(400, "the filter is too long", "invalidFilter");
  const parser = new FilterParser(text, from);
  const filter = parser.or(0);
  return { filter, end: parser.end() };
}

class FilterParser {
  readonly #text: string;
  #at: number;
  #comparisons = 0;

  constructor(text: string, at: number) {
    this.#text = text;
    this.#at = at;
  }

  end(): number {
    this.#skipSpace();
    return this.#at;
  }

  or(level: number): Filter {
    let left = this.#and(level);
    while (this.#word("or")) left = { type: "or", left, right: this.#and(level) };
    return left;
  }

  #and(level: number): Filter {
    let left = this.#term(level);
    while (this.#word("and")) left = { type: "and", left, right: this.#term(level) };
    return left;
  }

  #term(level: number): Filter {
    if (level >= levelsMax) return this.#fail("has too many levels");
    if (this.#word("not")) {
      if (!this.#char("(")) return this.#fail("needs a parenthesis after not");
      return { type: "not", of: this.#closed(level, ")") };
    }
    if (this.#char("(")) return this.#closed(level, ")");
    return this.#comparison(level);
  }

  #closed(level: number, close: string): Filter {
    const inner = this.or(level + 1);
    return this.#char(close) ? inner : this.#fail(`has no ${close}`);
  }

  #comparison(level: number): Filter {
    this.#comparisons += 1;
    if (this.#comparisons > comparisonsMax) return this.#fail("has too many comparisons");
    const path = this.#path();
    if (this.#char("[")) {
      const of = this.#closed(level, "]");
      const sub = this.#match(/\.([A-Za-z$][\w$-]*)/y);
      return sub === undefined
        ? { type: "element", path, of }
        : { type: "element", path, of: { type: "and", left: of, right: this.#operator(parseAttribute(sub.slice(1))) } };
    }
    return this.#operator(path);
  }

  #operator(path: AttributePath): Filter {
    if (this.#word("pr")) return { type: "present", path };
    const op = operators.find((each) => this.#word(each));
    if (op === undefined) return this.#fail("has an unknown operator");
    const value = this.#value();
    if (typeof value === "boolean" && op !== "eq" && op !== "ne")
      return this.#fail("compares a boolean with an operator other than eq and ne");
    return { type: "compare", path, op, value };
  }

  #path(): AttributePath {
    this.#skipSpace();
    const text = this.#match(/[A-Za-z$][\w$.:-]*/y);
    if (text === undefined) return this.#fail("has no attribute where one is needed");
    try {
      return parseAttribute(text);
    } catch {
      return this.#fail("names an attribute that is not one");
    }
  }

  #value(): string | number | boolean | null {
    this.#skipSpace();
    const text = this.#match(/"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/iy);
    if (text === undefined) return this.#fail("has no value where one is needed");
    try {
      return JSON.parse(text.startsWith('"') ? text : text.toLowerCase()) as string | number | boolean | null;
    } catch {
      return this.#fail("has a value that is not JSON");
    }
  }

  /** A word that is not the start of a longer one. */
  #word(word: string): boolean {
    this.#skipSpace();
    const next = this.#text.slice(this.#at, this.#at + word.length);
    if (next.toLowerCase() !== word || /[\w$.:-]/.test(this.#text[this.#at + word.length] ?? "")) return false;
    this.#at += word.length;
    return true;
  }

  #char(char: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#at] !== char) return false;
    this.#at += 1;
    return true;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #skipSpace(): void {
    while (this.#text[this.#at] === " ") this.#at += 1;
  }

  #fail(problem: string): never {
    throw new ScimError(400, `the filter ${problem}`, "invalidFilter");
  }
}

export function comparisonsIn(filter: Filter): number {
  switch (filter.type) {
    case "and":
    case "or":
      return comparisonsIn(filter.left) + comparisonsIn(filter.right);
    case "not":
    case "element":
      return comparisonsIn(filter.of);
    default:
      return 1;
  }
}

export function meetsFilter(resource: ScimResource, filter: Filter): boolean {
  switch (filter.type) {
    case "and":
      return meetsFilter(resource, filter.left) && meetsFilter(resource, filter.right);
    case "or":
      return meetsFilter(resource, filter.left) || meetsFilter(resource, filter.right);
    case "not":
      return !meetsFilter(resource, filter.of);
    case "present":
      return valuesAt(resource, filter.path).some(isPresent);
    case "element":
      return valuesAt(resource, filter.path).some((each) => meetsFilter(asElement(each), filter.of));
    case "compare":
      return compares(resource, filter);
  }
}

/** An element of a list of texts counts as `{value}`. */
export const asElement = (each: unknown): ScimResource => (isObject(each) ? each : { value: each });

function isPresent(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return value !== null && value !== undefined && value !== "" && !isDeepStrictEqual(value, {});
}

function compares(
  resource: ScimResource,
  { path, op, value }: Extract<Filter, Readonly<{ type: "compare" }>>,
): boolean {
  const found = valuesAt(resource, path).map((each) => (isObject(each) ? (each["value"] ?? each) : each));
  if (op === "ne") return !compares(resource, { type: "compare", path, op: "eq", value });
  if (value === null) return op === "eq" && !found.some(isPresent);
  return found.some((each) => isMatch(each, { op, value, exact: isCaseExact(path) }));
}

function isCaseExact({ name, schema }: AttributePath): boolean {
  return schema === null && /^(?:id|externalid|meta)$/i.test(name ?? "");
}

function isMatch(
  each: unknown,
  { op, value, exact }: Readonly<{ op: ComparisonOperator; value: string | number | boolean; exact: boolean }>,
): boolean {
  // Entra writes booleans as text.
  if (typeof each === "boolean") return op === "eq" && String(each) === String(value).toLowerCase();
  if (typeof each === "number" && typeof value === "number") return isOrdered(each, op, value);
  if (typeof each !== "string" || typeof value !== "string") return false;
  const [a, b] = exact ? [each, value] : [each.toLowerCase(), value.toLowerCase()];
  if (op === "co") return a.includes(b);
  if (op === "sw") return a.startsWith(b);
  if (op === "ew") return a.endsWith(b);
  return isOrdered(a, op, b);
}

function isOrdered<T extends string | number>(a: T, op: ComparisonOperator, b: T): boolean {
  switch (op) {
    case "eq":
      return a === b;
    case "gt":
      return a > b;
    case "ge":
      return a >= b;
    case "lt":
      return a < b;
    case "le":
      return a <= b;
    default:
      return false;
  }
}

/**
 * The text that an attribute must equal for the filter to be met, as far as the filter says so: it allows an index.
 * @param name in lower case, such as `username`, or `emails.value`
 */
export function requiredText(filter: Filter, name: string): string | undefined {
  if (filter.type === "and") return requiredText(filter.left, name) ?? requiredText(filter.right, name);
  if (filter.type === "element") return elementText(filter, name);
  if (filter.type !== "compare" || filter.op !== "eq" || typeof filter.value !== "string") return undefined;
  const { schema, name: attribute, sub } = filter.path;
  const written = `${attribute}${sub === null ? "" : `.${sub}`}`.toLowerCase();
  return schema === null && (written === name || `${written}.value` === name) ? filter.value : undefined;
}

function elementText({ path, of }: Extract<Filter, Readonly<{ type: "element" }>>, name: string): string | undefined {
  const [list, sub] = name.split(".");
  return path.schema === null && path.name?.toLowerCase() === list && sub !== undefined
    ? requiredText(of, sub)
    : undefined;
}
