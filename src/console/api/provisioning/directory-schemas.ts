/** Schemas of what the operator API says about directories, and about the sources of memberships. Pure. */
import * as z from "zod";
import { directoryModes, directoryPersonResults, directoryResults } from "../../../events/index.ts";

export const memberships = z
  .array(
    z.object({
      group: z.string(),
      excluded: z.boolean(),
      sources: z.array(z.object({ source: z.string(), name: z.string().nullable(), asOf: z.string().nullable() })),
    }),
  )
  .meta({ description: "The sources of each membership, and when each last stated everything." });
export const directory = z.object({
  name: z.string(),
  provider: z.string(),
  intervalS: z.number(),
  asked: z.boolean(),
  runningSince: z.string().nullable(),
  last: z
    .object({
      mode: z.enum(directoryModes),
      result: z.enum(directoryResults),
      startedAt: z.string(),
      endedAt: z.string(),
      problem: z.string().nullable(),
      added: z.number(),
      removed: z.number(),
      ended: z.number().meta({ description: "People who lost access." }),
    })
    .nullable(),
  complete: z
    .object({ at: z.string(), people: z.number(), groups: z.number(), memberships: z.number() })
    .nullable()
    .meta({ description: "The last complete run, and what the directory had then." }),
});
/** The body of a request about one person to every directory. */
export const askSchema = z.strictObject({
  timeoutMs: z
    .number()
    .int()
    .min(0)
    .max(30_000)
    .optional()
    .meta({ description: "How long to wait for the directories; 10000 by default." }),
});
export const askAnswer = z.object({
  userId: z.string(),
  directories: z.array(
    z.object({
      directory: z.string(),
      result: z.enum([...directoryPersonResults, "waiting", "refused"]),
      said: z.string(),
      changed: z.boolean(),
      position: z.number().nullable().meta({ description: "Of the newest change, or of the log; null: no answer." }),
    }),
  ),
  applied: z.looseObject({}),
});
