/**
 * Generate the JSON Schema of audit records: `docs/audit-record.schema.json`.
 *
 *   npm run docs:audit-record
 *
 * The schema below is checked against the types of src/audit by the compiler. The published schema permits fields that
 * it does not name, because a version may gain fields.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { AuditRecord } from "../src/audit/index.ts";
import { foldShortLists } from "./generate-config-docs.ts";

export const auditSchemaFile = "docs/audit-record.schema.json";
/** As in the CloudEvents attribute `dataschema`. A field that is removed or gets another meaning is a new version. */
const schemaId = "urn:cardea:schema:audit-record:1";

const text = z.string();
const count = z.int().min(0);
const ms = z.number();
const link = z.strictObject({ epoch: count, position: count, hash: text.length(64) });
const side = z.strictObject({ met: z.boolean(), reasons: z.array(text) });

const common = {
  seq: z.int().min(1).meta({ description: "Dense per node and boot; `<boot>:<seq>` is the id of the record." }),
  node: text,
  boot: text,
  at: z.number().meta({ description: "Milliseconds since 1970, by the clock of the node." }),
};

const fact = z.strictObject({
  fact: text,
  criteria: z.array(text),
  member: z.boolean().optional(),
  until: z.number().optional(),
  reason: text.optional(),
  position: count.nullable(),
  exact: z.boolean(),
});

const trace = z.strictObject({
  rule: text.nullable(),
  rules: z.array(
    z.strictObject({
      rule: text,
      met: z.boolean(),
      criteriaMet: z.array(text),
      criteriaUnmet: z.array(text),
      criteriaMore: count,
    }),
  ),
  more: count,
  facts: z.array(fact),
  factsMore: count,
});

const decision = z.strictObject({
  kind: z.literal("decision"),
  ...common,
  region: text,
  occasion: z.enum(["request", "redecision", "closed"]),
  requestId: text,
  traceId: z.optional(text.regex(/^[0-9a-f]{32}$/)),
  routeId: text.nullable(),
  routeName: text.optional(),
  method: text,
  host: text,
  path: text.meta({ description: "Without the query. Segments that the route redacts are `[redacted]`." }),
  query: text.optional(),
  headers: z.record(text, text).optional(),
  userAgent: text.optional(),
  ip: text,
  sessionId: text.nullable(),
  userId: text.nullable(),
  result: z.enum(["permit", "deny", "signin", "unavailable", "not_found", "bad_request"]),
  status: z.int().min(100).max(599),
  reasons: z.array(text),
  allow: side.optional(),
  deny: side.optional(),
  rule: text.optional(),
  trace: trace.optional(),
  shadow: z
    .strictObject({ result: z.enum(["permit", "deny", "signin", "error"]), status: z.int(), reasons: z.array(text) })
    .optional(),
  applied: link,
  configHash: text,
  overdueMs: ms.nullable().meta({ description: "Age of the lease beyond its length; negative: it was fresh." }),
  latencyMs: ms.optional(),
  cutMs: ms.optional(),
  closed: z
    .strictObject({
      cause: text,
      link: link.optional(),
      cutMs: ms.optional(),
      durationMs: ms,
      bytes: count,
      bytesReceived: count,
    })
    .optional(),
});

const command = z.strictObject({
  kind: z.enum(["operator", "authentication"]),
  ...common,
  region: text,
  commandId: text,
  actor: text.meta({ description: "`user:ID`, `token:ID` or `service:NAME`." }),
  command: text,
  targets: z.array(text.regex(/^[a-z-]+:/)).max(20),
  targetsMore: count,
  reason: text.nullable(),
  outcome: z.enum(["done", "unchanged", "refused", "unavailable", "region"]),
  code: text.nullable(),
  link: link.nullable(),
  latencyMs: ms,
  ip: text.optional().meta({ description: "Where the request came from." }),
  count: count.optional().meta({ description: "How many equal requests the record stands for; absent: one." }),
});

const gap = z.strictObject({
  kind: z.literal("gap"),
  ...common,
  first: z.int().min(1),
  last: z.int().min(1),
  reason: z.enum(["ring_full", "spool_full", "killed", "damaged", "dropped"]).optional(),
  atLeast: count.optional(),
  earlier: z
    .strictObject({ boots: count, atLeast: count })
    .optional()
    .meta({ description: "Gaps of so many earlier boots of the node that are no longer known each." }),
  fromMs: ms.optional(),
  toMs: ms.optional(),
  why: text,
  ended: z.strictObject({ boot: text, written: count, used: count, reserved: count }).optional(),
});

export const auditRecordSchema = z.union([decision, command, gap]);

/** A field of a record that the schema lacks, or that has another type there, stops the build here. */
type Described<Kind extends AuditRecord["kind"]> = Extract<z.infer<typeof auditRecordSchema>, { kind: Kind }>;
type Written<Kind extends AuditRecord["kind"]> = Extract<AuditRecord, { kind: Kind }>;
type Missing<Kind extends AuditRecord["kind"]> =
  | Exclude<keyof Written<Kind>, keyof Described<Kind>>
  | Exclude<keyof Described<Kind>, keyof Written<Kind>>;
true satisfies [Missing<"decision"> | Missing<"operator"> | Missing<"gap">] extends [never] ? true : never;
true satisfies AuditRecord extends Loose<z.infer<typeof auditRecordSchema>> ? true : never;
type Loose<T> = T extends readonly (infer Item)[]
  ? readonly Loose<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: Loose<T[Key]> | (undefined extends T[Key] ? undefined : never) }
    : T;

/** @param options.open permits fields that the schema does not name */
export function auditSchemaOf({ open }: Readonly<{ open: boolean }>): object {
  const schema = z.toJSONSchema(auditRecordSchema, { target: "draft-2020-12" });
  const made = {
    $id: schemaId,
    title: "Audit record of Cardea, version 1",
    description: "One line of an audit file, or the `data` of a cloud event. See docs/audit-records.md.",
    ...schema,
  };
  if (!open) return made;
  return JSON.parse(
    JSON.stringify(made, (key, value) => (key === "additionalProperties" && value === false ? undefined : value)),
  );
}

export function auditSchemaText(): string {
  return `${foldShortLists(JSON.stringify(auditSchemaOf({ open: true }), null, 2))}\n`;
}

if (import.meta.main) {
  writeFileSync(join(import.meta.dirname, "..", auditSchemaFile), auditSchemaText());
  console.log(`wrote ${auditSchemaFile}`);
}
