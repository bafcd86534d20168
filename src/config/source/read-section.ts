/**
 * Section reader: checks raw values against the shape of known keys, and reports every problem.
 *
 * - Pure.
 * - A wrong key is reported and then counts as absent (its default, or undefined), so the rules between keys are still
 *   checked. `failed` names such keys.
 * - An empty value (`key:`) counts as absent. So does empty text (`key: ""`) if the key does not accept it: Pomerium
 *   reads both as unset.
 */
import type { z } from "zod";
import { keyMeta } from "../schema/keys.ts";
import { unknownKeyRemedy } from "../values/suggest.ts";
import { formatValue, isPlainObject, type Shape, scalarText, sectionShape } from "../values/value-type.ts";
import type { ProblemReporter } from "./source-locations.ts";

/** `present` and `failed` hold dotted names (`broker.listen`) of the keys that are set, and of those that are wrong. */
export type Section = Readonly<{
  values: Readonly<Record<string, unknown>>;
  present: ReadonlySet<string>;
  failed: ReadonlySet<string>;
}>;
/** The remedy for a key that belongs to another part of the document; undefined: no part has such a key. */
export type MisplacedKeyHint = (key: string) => string | undefined;

export function readSection(
  shape: Shape,
  raw: unknown,
  into: Readonly<{ report: ProblemReporter; misplacedKeyHint: MisplacedKeyHint }>,
): Section {
  const { report } = into;
  const values: Record<string, unknown> = {};
  const present = new Set<string>();
  const failed = new Set<string>();
  const written = isPlainObject(raw) ? raw : {};
  if (raw !== undefined && raw !== null && !isPlainObject(raw))
    report.error([], `${formatValue(raw)} is not a mapping`, "write key: value, one per line");

  for (const [key, value] of Object.entries(written)) {
    if (!Object.hasOwn(shape, key)) reportUnknown(key, { shape, written, ...into });
    else if (value !== null && value !== undefined) present.add(key);
  }
  for (const [key, schema] of Object.entries(shape)) {
    const value = present.has(key) ? written[key] : undefined;
    const inner = sectionShape(schema);
    if (inner !== undefined) {
      const section = readSection(inner, value === "" ? undefined : value, {
        report: report.under(key),
        misplacedKeyHint: into.misplacedKeyHint,
      });
      values[key] = section.values;
      for (const name of section.present) present.add(`${key}.${name}`);
      for (const name of section.failed) failed.add(`${key}.${name}`);
      if (value === "") present.delete(key);
      else if (value !== undefined && !isPlainObject(value)) failed.add(key);
      continue;
    }
    if (keyMeta(schema).status !== "supported") {
      if (present.has(key)) reportUnused(key, { value, schema, report });
      continue;
    }
    const asWritten = schema.safeParse(value);
    const isUnset = value === "" && !asWritten.success;
    if (isUnset) present.delete(key);
    const parsed = isUnset ? schema.safeParse(undefined) : asWritten;
    if (parsed.success) {
      values[key] = parsed.data;
      continue;
    }
    failed.add(key);
    values[key] = schema.safeParse(undefined).data;
    for (const issue of parsed.error.issues) {
      const path = issue.path.filter((step): step is string | number => typeof step !== "symbol");
      const remedy = "params" in issue ? (issue.params?.["remedy"] as unknown) : "";
      report.error([key, ...path], issue.message, typeof remedy === "string" ? remedy : "");
    }
  }
  return { values, present, failed };
}

function reportUnknown(
  key: string,
  from: Readonly<{
    shape: Shape;
    written: Readonly<Record<string, unknown>>;
    report: ProblemReporter;
    misplacedKeyHint: MisplacedKeyHint;
  }>,
): void {
  const { shape, written } = from;
  const otherwise = "remove it, or see docs/configuration.md";
  const remedy = from.misplacedKeyHint(key) ?? unknownKeyRemedy(key, { known: Object.keys(shape), written, otherwise });
  from.report.error([key], "is not a known key", remedy, "key");
}

function reportUnused(
  key: string,
  found: Readonly<{ value: unknown; schema: z.ZodType; report: ProblemReporter }>,
): void {
  const meta = keyMeta(found.schema);
  const written =
    scalarText(found.value) ?? (Array.isArray(found.value) && found.value.length === 0 ? "[]" : undefined);
  if (written !== undefined && meta.harmless.includes(written.toLowerCase())) return;
  if (meta.status === "ignored" || (written !== undefined && meta.tolerated.includes(written.toLowerCase()))) {
    const why = meta.description.startsWith("has no effect") ? meta.description : `has no effect: ${meta.description}`;
    found.report.warn([key], why, meta.remedy === "" ? "remove it" : meta.remedy, "key");
  } else {
    found.report.error([key], meta.description, meta.remedy, "key");
  }
}
