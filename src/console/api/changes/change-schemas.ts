/** Operations of the operator API that read what has changed and what happens, and their schemas. Pure. */
import * as z from "zod";
import { format } from "../lists/list-schemas.ts";
import { changeAreas, foldedKinds } from "./describe-change.ts";

const position = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const time = z.iso.datetime({ offset: true }).optional();
const flag = z.enum(["true", "false"]).transform((text) => text === "true");

export const changesSchema = z.strictObject({
  before: position.optional().meta({ description: "Only changes below this position: `next` of the page before." }),
  after: position.optional().meta({ description: "Only changes above this position." }),
  type: z
    .string()
    .max(1_000)
    .optional()
    .meta({ description: `Event types or areas (${changeAreas.join(", ")}), separated by commas.` }),
  actor: z
    .string()
    .min(1)
    .max(500)
    .optional()
    .meta({ description: "Who did it: an actor as the log names it, or a person by user id, subject or e-mail." }),
  subject: z.string().min(1).max(500).optional().meta({
    description: "What it is about: `user:`, `group:` or `session:` and an id, or a person by id, subject or e-mail.",
  }),
  from: time.meta({ description: "Only changes from this time on." }),
  to: time.meta({ description: "Only changes up to this time." }),
  format,
  fold: flag.optional().meta({
    description:
      "Whether sign-ins and other frequent events are counted. Default: unless `type` or `subject` is given.",
  }),
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
});
export type ChangesQuery = z.output<typeof changesSchema>;

const party = z.object({
  kind: z.enum(["person", "token", "service", "system"]),
  id: z.string(),
  name: z.string().meta({ description: "For people to read; an erased person has none of their own." }),
});
const undo = z.object({
  operation: z.string().meta({ description: "Of this API, with its path." }),
  body: z.record(z.string(), z.unknown()),
  command: z.string().meta({ description: "The same on the command line." }),
  does: z.string().meta({ description: "What it does." }),
});
const change = z.object({
  position: z.number(),
  first: z.number().meta({ description: "The position of its first event." }),
  epoch: z.number(),
  hash: z.string(),
  at: z.string(),
  type: z.string(),
  effect: z.enum(["tightens", "neutral", "either"]),
  actor: party,
  subjects: z.array(z.object({ kind: z.string(), id: z.string(), name: z.string() })).meta({
    description: "The first people, groups or sessions that it is about.",
  }),
  subjectCount: z.number(),
  cause: z.string().nullable().meta({ description: "The command that caused it." }),
  sentence: z.object({ key: z.string(), values: z.record(z.string(), z.union([z.string(), z.number()])) }),
  text: z.string().meta({ description: "The sentence in English." }),
  count: z.number().meta({ description: "Events of this kind in it." }),
  undo: undo.nullable(),
  final: z.string().nullable().meta({ description: "Why it has no undo; null: it has one, or is no one's act." }),
  receipt: z.enum(["complete", "incomplete"]).nullable().meta({
    description: "Whether every node enforces it or is fenced; null: unknown, or it is the act of no command.",
  }),
});
const folded = z.object({
  folded: z.partialRecord(z.enum(foldedKinds), z.number()),
  position: z.number().meta({ description: "Of the newest." }),
  first: z.number(),
  at: z.string(),
});
export const changesAnswer = z.object({
  changes: z.array(z.union([change, folded])).meta({ description: "Newest first." }),
  next: z.number().nullable().meta({ description: "`before` of the next page; null: there is nothing older." }),
  searchedTo: z.number().meta({ description: "Everything above this position was read." }),
  head: z.number(),
  base: z.number().meta({ description: "The log begins after this position; older changes come from the archive." }),
  missing: z
    .string()
    .nullable()
    .meta({ description: "Why older changes cannot be read; null: they can, or none are." }),
  applied: z.object({ epoch: z.number(), position: z.number(), hash: z.string() }),
});
export type ChangeView = z.output<typeof change>;
export type FoldedView = z.output<typeof folded>;
export type ChangesPage = z.output<typeof changesAnswer>;

export const activitySchema = z.strictObject({
  minutes: z.coerce.number().int().min(1).max(1_440).default(60),
});
const counts = z.array(z.number());
export const activityAnswer = z.object({
  from: z.string().meta({ description: "The beginning of the first minute." }),
  bucketS: z.literal(60),
  permit: counts,
  deny: counts,
  signIn: counts.meta({ description: "Requests that were sent to sign in." }),
  unavailable: counts,
  complete: z.boolean().meta({ description: "Whether every minute was counted whole, from all nodes." }),
  unknown: z.array(z.string()).meta({ description: "Why it is not complete." }),
});
export type ActivityAnswer = z.output<typeof activityAnswer>;

export const changeOperations = {
  "GET /changes": {
    role: "viewer",
    summary: "What changed, newest first: the events of the log as sentences",
    query: changesSchema,
    status: 200,
    answer: changesAnswer,
    errors: [400, 404],
  },
  "GET /activity": {
    role: "viewer",
    summary: "Decisions per minute, as this server saw them",
    query: activitySchema,
    status: 200,
    answer: activityAnswer,
    errors: [400],
  },
} as const;
