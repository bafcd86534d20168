/** Operations about the caller itself, and the shapes of their answers. Pure. */
import * as z from "zod";
import { operatorRoles } from "./operator-roles.ts";

const groups = z
  .array(z.string())
  .nullable()
  .meta({ description: "The groups of routes to which the role is limited; null: all routes." });

export const meAnswer = z.object({
  role: z.enum(operatorRoles).meta({ description: "The highest role, whatever its limit." }),
  routeGroups: groups,
  grants: z.array(z.object({ role: z.enum(operatorRoles), routeGroups: groups })).meta({
    description: "What each entry of the configuration gives. They add up.",
  }),
  userId: z.string().nullable().meta({ description: "Null: a token." }),
  subject: z.string(),
  name: z.string().meta({ description: "The name of the person or of the token." }),
  email: z.string(),
  viaToken: z.boolean(),
  until: z
    .string()
    .meta({ description: "ISO 8601: when the session, the token or a membership behind the role ends." }),
  freshUntil: z.string().nullable().meta({
    description: "Until when the most dangerous acts need no new sign-in; null: they need one now, or never.",
  }),
  signInUrl: z.string().nullable().meta({ description: "Where a person signs in again; null: a token." }),
  cluster: z.string(),
  version: z.string(),
  capabilities: z
    .array(z.string())
    .meta({ description: "What this installation has: the areas that a console shows." }),
  applied: z.object({ epoch: z.number(), position: z.number(), hash: z.string() }),
});
export type Me = z.infer<typeof meAnswer>;

export const meOperations = {
  "GET /me": {
    summary: "Who calls, with which role, and what this installation has",
    role: "viewer",
    scoped: true,
    status: 200,
    answer: meAnswer,
    errors: [],
  },
} as const;
