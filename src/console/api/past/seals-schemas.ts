/** Schemas of the operation that lists seals of audit records. Pure. */
import * as z from "zod";

export const sealsSchema = z.strictObject({
  upTo: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional().meta({
    description: "The position of the log to search back from; absent: the newest one.",
  }),
});

export const sealsAnswer = z.object({
  seals: z.array(
    z.looseObject({ node: z.string(), boot: z.string(), size: z.number(), link: z.string(), event: z.string() }),
  ),
  next: z.number().nullable().meta({ description: "`upTo` of the next page; null: there is none." }),
});
