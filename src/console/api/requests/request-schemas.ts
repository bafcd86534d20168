/** Operations of the operator API about access requests, and their schemas. Pure. */
import * as z from "zod";
import { requestWordsMax } from "../../../events/index.ts";
import { answerSchemas, waitSchema } from "../operator-schemas.ts";

const statuses = [
  "pending",
  "approved",
  "denied",
  "withdrawn",
  "lapsed",
  "expired",
  "ended",
  "replaced",
  "removed",
] as const;

export const requestsSchema = z.strictObject({
  status: z
    .enum([...statuses, "open", "over", "all"])
    .default("open")
    .meta({ description: "`open`: what waits or is in force. `over`: what was denied or has ended." }),
  q: z
    .string()
    .max(200)
    .optional()
    .meta({ description: "Words in the person's name or e-mail, the route or the group." }),
  after: z.string().max(100).optional().meta({ description: "The `next` of the page before." }),
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
});
export type RequestsQuery = z.output<typeof requestsSchema>;

const note = z.string().max(requestWordsMax).default("").meta({
  description: "For the person who asked. Sealed under the person's key, so an erasure destroys it.",
});
export const approveSchema = waitSchema.extend({
  until: z.iso.datetime({ offset: true }).optional().meta({ description: "The end, with a time zone." }),
  durationMs: z.number().int().min(60_000).optional().meta({
    description: "The end, counted from now by this server's clock, in place of `until`. Default: what was asked for.",
  }),
  note,
});
export const denySchema = waitSchema.extend({ note });

const named = z.object({ id: z.string(), name: z.string() });
const routeName = named.extend({ from: z.string() });
const nullable = z.string().nullable();
const view = z.object({
  id: z.string(),
  status: z.enum(statuses),
  person: named.extend({ email: z.string() }),
  route: routeName.meta({ description: '`name` and `from` are "" if this server has no such route any more.' }),
  group: z.string().meta({ description: "The group that an approval adds the person to." }),
  durationMs: z.number(),
  reason: nullable.meta({ description: "Null: none was given, or the person was erased." }),
  refusal: nullable.meta({
    description: "The request ID of the refusal that the person met; null: asked from the portal.",
  }),
  requestedAt: z.string(),
  expiresAt: z.string().meta({ description: "When it ends without a decision." }),
  decidedBy: named.nullable(),
  decidedAt: nullable,
  note: nullable,
  until: nullable.meta({ description: "The end of the access; null: it was not approved." }),
  endedBy: named.nullable().meta({ description: "Null: it has not ended, or by itself." }),
  endedAt: nullable,
  may: z
    .object({ decide: z.boolean(), end: z.boolean() })
    .meta({ description: "What the caller may do about it now. No one decides about their own request." }),
  durations: z
    .array(z.number())
    .meta({ description: "What the route lets people choose from, in ms; the last is the longest." }),
});
const detail = view.extend({
  opens: z.array(routeName).meta({ description: "Routes whose policies name the group: what an approval may open." }),
  openCount: z.number(),
  applied: z.object({ epoch: z.number(), position: z.number(), hash: z.string() }),
});
const list = z.object({
  requests: z.array(view).meta({ description: "The newest first." }),
  next: z.string().nullable().meta({ description: "`after` of the next page; null: there is none." }),
  pending: z.number().meta({ description: "How many of those that the caller may see wait for a decision." }),
  applied: z.object({ epoch: z.number(), position: z.number(), hash: z.string() }),
});
export type RequestView = z.infer<typeof view>;
export type RequestDetail = z.infer<typeof detail>;
export type RequestList = z.infer<typeof list>;

const read = { role: "viewer", scoped: true, approver: true, status: 200 } as const;
const act = {
  role: "operator",
  scoped: true,
  approver: true,
  status: 200,
  answer: answerSchemas.change,
  errors: [400, 404, 409],
} as const;

export const requestOperations = {
  "GET /access-requests": {
    ...read,
    summary: "Access requests: who asks for what, and what became of it",
    query: requestsSchema,
    answer: list,
    errors: [400],
  },
  "GET /access-requests/:request": {
    ...read,
    summary: "One access request, with what the group opens",
    answer: detail,
    errors: [404],
  },
  "POST /access-requests/:request/approve": {
    ...act,
    summary: "Approve an access request: gives the membership until an end, in the same change",
    body: approveSchema,
  },
  "POST /access-requests/:request/deny": { ...act, summary: "Deny an access request", body: denySchema },
  "POST /access-requests/:request/end": {
    ...act,
    summary: "End access that an approval gave, before its time",
    body: waitSchema,
  },
} as const;
