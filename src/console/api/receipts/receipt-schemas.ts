/** Receipt schemas: what the list of receipts takes and answers. Pure. */
import * as z from "zod";

export const receiptsSchema = z.strictObject({
  since: z.iso
    .datetime({ offset: true })
    .optional()
    .meta({ description: "Only changes from this time on. Default: the last 24 hours." }),
  before: z.coerce
    .number()
    .int()
    .min(0)
    .max(Number.MAX_SAFE_INTEGER)
    .optional()
    .meta({ description: "Only changes below this position: `next` of the page before." }),
  limit: z.coerce.number().int().min(1).max(100).default(25),
});

const count = z.number().nullable();
const receipt = z.object({
  commandId: z.string(),
  link: z.string().meta({ description: "epoch.position.hash, for `GET /receipts/link:…`." }),
  position: z.number(),
  at: z.string().meta({ description: "When the leader recorded it." }),
  actor: z.object({ kind: z.string(), id: z.string(), name: z.string() }),
  text: z.string().meta({ description: "What changed, in English." }),
  type: z.string(),
  status: z
    .enum(["complete", "incomplete", "lost", "unknown"])
    .meta({ description: "`unknown`: no broker answers now." }),
  applied: count,
  fenced: count,
  unconfirmed: count,
  enforcedMs: count.meta({
    description:
      "From the record to the last confirmation, by the leader's clock; null: incomplete, or the leader no longer knows. Of an old change the true time is shorter.",
  }),
  completeInMs: count.meta({ description: "When every silent node will be fenced, at the latest." }),
});
export type ListedReceipt = z.output<typeof receipt>;

export const receiptOperations = {
  "GET /receipts": {
    role: "viewer",
    summary: "Changes of people that took access away, newest first, with what their receipts say now",
    query: receiptsSchema,
    status: 200,
    answer: z.object({
      receipts: z.array(receipt),
      next: z
        .number()
        .nullable()
        .meta({ description: "`before` of the next page; null: nothing older since `since`." }),
      since: z.string(),
      applied: z.object({ epoch: z.number(), position: z.number(), hash: z.string() }),
    }),
    errors: [400],
  },
} as const;
