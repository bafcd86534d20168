/** Preview schemas: what `POST /preview` takes and answers. Pure. */
import * as z from "zod";
import { filterSchema, membersSchema, sessionsAtOnceMax, suspendSchema } from "../operator-schemas.ts";
import { operatorRoles } from "../roles/operator-roles.ts";

const user = z.string().min(1).max(1_000).meta({ description: "A user id, subject or e-mail." });
const group = z.string().min(1).max(1_000).meta({ description: "A group id." });
const { add, remove, until, forMs, reason } = membersSchema.shape;
const command = z.discriminatedUnion("type", [
  z
    .strictObject({
      type: z.literal("revokeSessions"),
      sessionIds: z.array(z.string().max(200)).min(1).max(sessionsAtOnceMax).optional(),
      filter: filterSchema.optional(),
    })
    .meta({ description: "Either `sessionIds` or `filter`." }),
  z.strictObject({ type: z.literal("revokeUserSessions"), user }),
  z.strictObject({ type: z.literal("suspendUser"), user, until, forMs, reason: suspendSchema.shape.reason }),
  z.strictObject({ type: z.literal("restoreUser"), user }),
  z.strictObject({ type: z.literal("eraseUser"), user }),
  z.strictObject({ type: z.literal("changeGroupMembers"), group, add, remove, until, forMs, reason }),
  z.strictObject({ type: z.literal("removeGroup"), group }),
]);
export const previewSchema = z.strictObject({ command });
export type PreviewCommand = z.infer<typeof command>;

const counts = z.object({
  routes: z.array(z.object({ route: z.string(), people: z.number(), conditional: z.number() })).meta({
    description: "The route of most people first; conditional: people who have it then in some requests.",
  }),
  moreRoutes: z.number(),
  people: z.array(z.object({ userId: z.string(), email: z.string(), routes: z.array(z.string()), more: z.number() })),
  morePeople: z.number(),
  unchecked: z.number().meta({ description: "People that were not evaluated, because it took too long." }),
});

export const previewAnswer = z.object({
  people: z.number().meta({ description: "How many people the change concerns." }),
  named: z
    .array(z.object({ userId: z.string(), email: z.string(), name: z.string() }))
    .meta({ description: "The first hundred of them." }),
  sessions: z.number().meta({ description: "How many live sessions it ends." }),
  liveSessions: z.number().meta({ description: "How many live sessions these people have." }),
  more: z.boolean().meta({ description: "True: the filter matches more sessions than one command takes." }),
  routes: z
    .object({
      lost: counts,
      gained: counts,
      cut: counts.meta({ description: "Routes that end until the people sign in again." }),
    })
    .meta({ description: "Routes of this server's configuration, as their policies say." }),
  self: z
    .enum(["none", "session", "access"])
    .meta({ description: "`session`: it signs the caller out. `access`: it also takes the caller's own role." }),
  final: z.boolean().meta({ description: "True: nothing undoes it." }),
  refusal: z.string().nullable().meta({ description: "Why it would be refused now; null: it would not." }),
  changes: z.boolean().meta({ description: "False: the log has it already." }),
  held: z.boolean().meta({ description: "True: it concerns so many people that it would be held." }),
  role: z.enum(operatorRoles).meta({ description: "The role that the change needs." }),
  may: z.boolean().meta({ description: "Whether the caller has that role." }),
  confirm: z.object({ level: z.union([z.literal(1), z.literal(2), z.literal(3)]), typed: z.string().nullable() }).meta({
    description: "How the console asks: 1 a button, 2 a dialog with this preview, 3 also a text to be typed.",
  }),
  cli: z.string().meta({ description: "The same change on the command line." }),
  basis: z
    .object({ epoch: z.number(), position: z.number(), hash: z.string() })
    .meta({ description: "The link that this server had read." }),
});
export type Preview = z.infer<typeof previewAnswer>;

export const previewOperations = {
  "POST /preview": {
    role: "viewer",
    summary: "The people, sessions and routes that a change would concern, without making it",
    body: previewSchema,
    status: 200,
    answer: previewAnswer,
    errors: [400, 404, 409],
  },
} as const;
