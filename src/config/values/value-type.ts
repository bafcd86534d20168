/**
 * Value types: what a configuration key may hold, as zod schemas.
 *
 * - Pure. Each accepts what YAML, JSON or an environment variable can hold: a list may be text with commas, a boolean
 *   the word "true".
 * - Each has a label for the documentation and a JSON Schema fragment for editors.
 * - A refusal states what is wrong and what would be right. It never repeats a secret.
 */
import * as z from "zod";
import type { Path } from "../source/source-locations.ts";

declare const refusedBrand: unique symbol;
export type RefusedValue = { readonly [refusedBrand]: true };
const REFUSED = Object.freeze({}) as RefusedValue;
export type Refuse = (problem: string, remedy: string, path?: Path) => RefusedValue;

/** Keys and their value types. */
export type Shape = Readonly<Record<string, z.ZodType>>;

/** The keys of a section; undefined when the schema is that of a value. */
export function sectionShape(schema: z.ZodType): Shape | undefined {
  return schema instanceof z.ZodObject ? schema.shape : undefined;
}

export type ValueTypeSpec = Readonly<{ label: string; json: Readonly<Record<string, unknown>> }>;
export type ValueType<T> = z.ZodPipe<z.ZodUnknown, z.ZodTransform<T, unknown>>;

/** Makes a value type from a parser. The parser refuses a value through its second argument. */
export function valueType<T>(
  spec: ValueTypeSpec,
  parse: (value: unknown, refuse: Refuse) => T | RefusedValue,
): ValueType<T> {
  const schema = z.unknown().transform((value, context): T => {
    const refuse: Refuse = (message, remedy, path = []) => {
      context.addIssue({ code: "custom", message, params: { remedy }, path: [...path] });
      return REFUSED;
    };
    const parsed = parse(value, refuse);
    return parsed === REFUSED ? z.NEVER : (parsed as T);
  });
  return schema.meta({ ...spec.json, label: spec.label }) as ValueType<T>;
}

export function isRefused(value: unknown): value is RefusedValue {
  return value === REFUSED;
}

/** A value in the form in which a message may show it: short, and without passwords in URLs. */
export function formatValue(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return "a mapping";
  if (value === null || value === undefined) return "nothing";
  const text = typeof value === "string" ? JSON.stringify(withoutUserinfo(value)) : String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** Hides user names and passwords in URLs. */
function withoutUserinfo(text: string): string {
  return text.replace(/\/\/[^/@\s]*@/g, "//***@");
}

/** Text of a scalar; numbers and truths count as their text, as in Pomerium. */
export function scalarText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return typeof value === "number" || typeof value === "boolean" ? String(value) : undefined;
}

export const isPlainObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
const controlCharacters = /[\u0000-\u001f\u007f]/;

export const stringValue = (): ValueType<string> =>
  valueType({ label: "text", json: { type: ["string", "number", "boolean"] } }, (value, refuse) => {
    const found = scalarText(value);
    if (found === undefined) return refuse(`${formatValue(value)} is not text`, "write one word or quoted text");
    return found;
  });

/** Text on one line that is never shown in a message. */
export const secretString = (): ValueType<string> =>
  valueType({ label: "secret text", json: { type: ["string", "number"] } }, (value, refuse) => {
    const found = scalarText(value);
    if (found === undefined || found.trim() === "") return refuse("is not text", "write the secret as quoted text");
    return found;
  });

export const filePath = (): ValueType<string> =>
  valueType({ label: "file", json: { type: "string" } }, (value, refuse) => {
    if (typeof value !== "string" || value === "" || controlCharacters.test(value)) {
      return refuse(`${formatValue(value)} is not a file name`, "write the path of a file");
    }
    return value;
  });

export const stringMatching = (
  spec: ValueTypeSpec & Readonly<{ pattern: RegExp; what: string; example: string }>,
): ValueType<string> =>
  valueType(spec, (value, refuse) => {
    const found = scalarText(value);
    if (found === undefined || !spec.pattern.test(found)) {
      return refuse(`${formatValue(value)} is not ${spec.what}`, `write one such as ${spec.example}`);
    }
    return found;
  });

export const booleanValue = (): ValueType<boolean> =>
  valueType({ label: "true or false", json: { type: ["boolean", "string"] } }, (value, refuse) => {
    if (typeof value === "boolean") return value;
    const word = scalarText(value)?.toLowerCase();
    if (word === "true" || word === "1" || word === "t") return true;
    if (word === "false" || word === "0" || word === "f") return false;
    return refuse(`${formatValue(value)} is neither true nor false`, "write true or false");
  });

export const integer = (range: Readonly<{ min: number; max: number }>): ValueType<number> =>
  valueType(
    { label: "whole number", json: { type: ["integer", "string"], minimum: range.min, maximum: range.max } },
    (value, refuse) => {
      const word = scalarText(value);
      const number = word !== undefined && /^[+-]?\d{1,15}$/.test(word) ? Number(word) : Number.NaN;
      if (!Number.isSafeInteger(number) || number < range.min || number > range.max) {
        return refuse(
          `${formatValue(value)} is not a whole number from ${range.min} to ${range.max}`,
          "correct the number",
        );
      }
      return number;
    },
  );

/** A fraction such as `0.01` or `1%`. */
export const fraction = ({ min = 0, max }: Readonly<{ min?: number; max: number }>): ValueType<number> =>
  valueType({ label: "share", json: { type: ["number", "string"] } }, (value, refuse) => {
    const word = scalarText(value) ?? "";
    const percent = /^(\d{1,3}(?:\.\d{1,9})?)\s*%$/.exec(word)?.[1];
    const number = percent !== undefined ? Number(percent) / 100 : /^\d*\.?\d+$/.test(word) ? Number(word) : Number.NaN;
    if (!(number >= min && number <= max)) {
      return refuse(`${formatValue(value)} is not a share from ${min} to ${max}`, "write one such as 0.01 or 1%");
    }
    return number;
  });

/** One of some words, whatever their case. `others` are further spellings. */
export const enumValue = <const Word extends string>(
  words: readonly Word[],
  others: Readonly<Record<string, Word>> = {},
): ValueType<Word> =>
  valueType({ label: words.join(", "), json: { enum: [...words] } }, (value, refuse) => {
    const typed = scalarText(value)?.toLowerCase();
    const found =
      words.find((word) => word.toLowerCase() === typed) ??
      (typed !== undefined && Object.hasOwn(others, typed) ? others[typed] : undefined);
    return found ?? refuse(`${formatValue(value)} is not known here`, `write one of ${words.join(", ")}`);
  });

/** How decision records are kept: off the request path, or on disk before a permit is used. */
export const auditMode = (): ValueType<"best_effort" | "strict"> =>
  valueType({ label: "best_effort or strict", json: { enum: ["best_effort", "strict"] } }, (value, refuse) => {
    const typed = scalarText(value)?.toLowerCase();
    if (typed === "best_effort" || typed === "best-effort") return "best_effort";
    if (typed === "strict") return "strict";
    return refuse(`${formatValue(value)} is not known here`, "write best_effort or strict");
  });

/** A list, or a text with commas; each part must be text on one line. */
export const stringList = (what = "text"): ValueType<readonly string[]> =>
  valueType(
    { label: `list of ${what}`, json: { type: ["array", "string"], items: { type: ["string", "number", "boolean"] } } },
    (value, refuse) => parseStringList(value, refuse),
  );

export function parseStringList(value: unknown, refuse: Refuse): readonly string[] | RefusedValue {
  if (!Array.isArray(value)) {
    const whole = scalarText(value);
    if (whole === undefined)
      return refuse(`${formatValue(value)} is not a list`, "write one item per line, each after a dash");
    if (whole.trim().startsWith("[")) {
      const parsed = parseJson(whole);
      if (Array.isArray(parsed)) return parseStringList(parsed, refuse);
    }
    return whole
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== "");
  }
  const list: string[] = [];
  let refused: RefusedValue | undefined;
  value.forEach((item, i) => {
    const part = scalarText(item);
    if (part === undefined || part.trim() === "" || controlCharacters.test(part)) {
      refused = refuse(`${formatValue(item)} is not text`, "write one word or quoted text", [i]);
    } else list.push(part);
  });
  return refused ?? list;
}

/** A mapping of texts, as YAML, as JSON text, or as `key=value,key=value`. */
export const stringMap = (what = "text to text"): ValueType<Readonly<Record<string, string>>> =>
  valueType({ label: `mapping of ${what}`, json: { type: ["object", "string"] } }, (value, refuse) =>
    parseStringMap(value, { separator: /=/, refuse }),
  );

export function parseStringMap(
  value: unknown,
  how: Readonly<{ separator: RegExp; refuse: Refuse }>,
): Readonly<Record<string, string>> | RefusedValue {
  const { refuse } = how;
  const source = typeof value === "string" ? parseInlineMap(value, how.separator) : value;
  if (!isPlainObject(source)) {
    return refuse(
      "is not a mapping",
      "write key: value, one per line (in the environment JSON, or key=value with commas)",
    );
  }
  const map: Record<string, string> = {};
  let refused: RefusedValue | undefined;
  for (const [key, inner] of Object.entries(source)) {
    const found = scalarText(inner);
    if (found === undefined) refused = refuse(`the value of ${key} is not text`, "write quoted text", [key]);
    else map[key] = found;
  }
  return refused ?? map;
}

function parseInlineMap(whole: string, separator: RegExp): unknown {
  if (whole.trim() === "") return {};
  if (whole.trim().startsWith("{")) return parseJson(whole);
  const map: Record<string, string> = {};
  for (const part of whole.split(",")) {
    const cut = part.search(separator);
    const key = part.slice(0, Math.max(0, cut)).trim();
    if (cut <= 0 || key === "__proto__") return undefined;
    map[key] = part.slice(cut + 1).trim();
  }
  return map;
}

/** Undefined when it is not JSON. */
export function parseJson(whole: string): unknown {
  try {
    return JSON.parse(whole, (key, value: unknown) => (key === "__proto__" ? undefined : value));
  } catch {
    return undefined;
  }
}
