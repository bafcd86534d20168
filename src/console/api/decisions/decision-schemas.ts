/** Decision schemas: what a read of decisions takes and answers. Pure. */
import * as z from "zod";

const manyOf = (what: string) =>
  z
    .string()
    .max(4_000)
    .optional()
    .meta({ description: `Only records of ${what}; several are separated by commas.` });

const timeOf = (description: string) =>
  z
    .string()
    .max(40)
    .optional()
    .transform((text, context) => {
      const at =
        text === undefined || text === "" ? undefined : /^\d{1,15}$/.test(text) ? Number(text) : Date.parse(text);
      if (at === undefined || Number.isFinite(at)) return at;
      context.addIssue({
        code: "custom",
        message: "is no time; write 2026-01-31T10:00:00Z or milliseconds since 1970",
      });
      return z.NEVER;
    })
    .meta({ description });

export const decisionsSchema = z.object({
  after: z
    .string()
    .max(1_000)
    .optional()
    .meta({ description: "The cursor after which to resume, as in `Last-Event-ID`." }),
  since: timeOf(
    "Only records from this time on, as RFC 3339 or milliseconds since 1970. Without `after` it is the start.",
  ),
  until: timeOf("Only records up to this time, written as for `since`. As JSON, the search ends there."),
  last: z.coerce
    .number()
    .int()
    .min(0)
    .max(1_000)
    .default(0)
    .meta({ description: "Without `after` and `since`: start with this many of the newest records in memory." }),
  user: manyOf("these people, by user id, subject or e-mail"),
  route: manyOf("these routes, by id or name"),
  result: manyOf("these results"),
  region: manyOf("these regions"),
  node: manyOf("these nodes"),
  occasion: manyOf("these occasions"),
  kind: manyOf("these kinds"),
  reason: manyOf("these reasons, or causes of the end of a stream"),
  session: manyOf("these sessions"),
  names: z
    .enum(["true", "false"])
    .default("false")
    .transform((text) => text === "true")
    .meta({ description: "`true`: also the names of the people in the records, by user id." }),
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(1_000)
    .default(200)
    .meta({ description: "As JSON: the maximum number of records; an answer has at most about 4 MiB of them." }),
  wait: z.coerce
    .number()
    .min(0)
    .max(60)
    .default(0)
    .meta({ description: "As JSON: how many seconds to wait for a record if there is none yet." }),
});

export const missedSchema = z.object({
  reason: z.enum(["removed", "cursor_unknown", "not_stored"]),
  count: z.number().nullable().meta({ description: "How many messages or records at least; null: unknown." }),
});

export const decisionsAnswer = z.object({
  decisions: z.array(z.object({ cursor: z.string(), record: z.looseObject({}) })).meta({
    description: "Oldest first. A record is as in docs/audit-record.schema.json.",
  }),
  next: z.string().meta({ description: "The cursor for `after` of the next call, also if no record matched." }),
  more: z.boolean().meta({ description: "Whether the next call may return more at once." }),
  missed: missedSchema.nullable().meta({ description: "What is gone before the first record; null: nothing." }),
  names: z.record(z.string(), z.string()).optional().meta({ description: "With `names=true`." }),
});

const count = z.number();
export const auditStatusAnswer = z.object({
  blind: count.meta({ description: "Records that sinks do not have, over all nodes and sinks that are known." }),
  nodes: z.array(
    z.object({
      node: z.string(),
      boot: z.string(),
      region: z.string(),
      atMs: count.meta({ description: "When it reported, by its own clock." }),
      heardAgoMs: count.meta({ description: "0: the process that answers." }),
      silent: z.boolean().meta({ description: "It has not reported for 45 seconds, so its numbers are old." }),
      spoolBytes: count,
      spoolBytesMax: count,
      refusal: z.string().nullable().meta({ description: "Why strict routes answer 503; null: they do not." }),
      sinks: z.array(
        z.object({
          name: z.string(),
          blind: count.meta({ description: "`waiting`, `lost` and `deadLetters` together." }),
          waiting: count.meta({ description: "In memory or in the spool." }),
          lost: count.meta({ description: "Declared lost since the start." }),
          deadLetters: count.meta({ description: "Rejected by the sink since the start." }),
          lagMs: count.meta({ description: "The age of the oldest that waits." }),
          failing: z.boolean(),
          written: count.optional().meta({ description: "Records that it took since the start." }),
          writtenAtMs: count.nullable().optional().meta({
            description: "When it last took records, by the clock of the node; null: not since the start.",
          }),
        }),
      ),
    }),
  ),
  unheard: z.array(z.string()).nullable().meta({
    description:
      "Nodes that hold a lease and have not reported; null: this process hears none, or no leader says which there are.",
  }),
  missing: count
    .nullable()
    .meta({ description: "Numbers neither in the audit stream nor declared lost; null: none is followed." }),
  refused: count.nullable().meta({ description: "Messages of the stream that were refused; null: as for `missing`." }),
});
