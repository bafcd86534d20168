/** Schema of the answer about decisions that were decided again. Pure. */
import * as z from "zod";

const describe = (description: string) => ({ description });
const difference = z.object({
  field: z.string().meta(describe("`caller`, `route`, `result`, `reasons`, `allow`, `deny` or `rule`.")),
  recorded: z.string(),
  derived: z.string(),
});

export const rechecksAnswer = z.object({
  checking: z.boolean().meta(describe("False: this server checks nothing, because there is no NATS or it is off.")),
  same: z.number().meta(describe("Decisions of other nodes with the same answer, since this server started.")),
  different: z.number(),
  waiting: z.number().meta(describe("Chosen, and not checked yet.")),
  skipped: z
    .record(z.string(), z.number())
    .meta(describe("Chosen decisions that could not be decided again for certain, by reason.")),
  newest: z
    .array(
      z.object({
        id: z.string().meta(describe("The id of the record.")),
        node: z.string(),
        at: z.number().meta(describe("Milliseconds since 1970, by the clock of the node.")),
        routeId: z.string().nullable(),
        link: z.string(),
        differences: z.array(difference),
      }),
    )
    .meta(describe("The newest 20 differences, newest first.")),
});
