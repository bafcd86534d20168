/** List schemas: what the lists of sessions, people and groups take and answer. Pure. */
import * as z from "zod";
import { nextSchema, pageFields, totalSchema } from "./list-page.ts";

// --- requests

const limit = z.coerce
  .number()
  .int()
  .min(1)
  .max(10_000)
  .default(1_000)
  .meta({ description: "The maximum number of entries in the response." });
/** In a query: the form of the answer. */
export const format = z.enum(["json", "csv"]).default("json").meta({
  description: "`csv`: from `after` on the whole list as a file, whatever the `limit`; at most 100,000 rows.",
});
export const listSchema = z.object({ limit, format });
const time = z.iso.datetime({ offset: true }).optional();
export const sessionsSchema = listSchema.extend({
  ...pageFields,
  user: z.string().max(1_000).optional().meta({ description: "A user id, subject or e-mail." }),
  group: z.string().max(1_000).optional().meta({ description: "Sessions of members of this group." }),
  idpId: z.string().max(1_000).optional().meta({ description: "Sessions of this identity provider." }),
  kind: z.enum(["sign-in", "token"]).optional().meta({ description: "`token`: derived from a bearer token." }),
  issuedBefore: time.meta({ description: "Signed in before this time." }),
  endsBefore: time.meta({ description: "Ends before this time at the latest." }),
  status: z.enum(["active", "revoked", "expired", "all"]).default("active"),
  sort: z
    .enum(["issued", "-issued", "expires", "-expires", "person", "-person"])
    .default("issued")
    .meta({ description: "`-`: descending. By `person`, sessions of which the log names no person are left out." }),
});
export const usersSchema = listSchema.extend({
  ...pageFields,
  status: z.enum(["active", "suspended", "erased", "all"]).default("all"),
  sort: z.enum(["name", "-name", "email", "-email"]).default("name"),
});
const members = z
  .enum(["all", "count"])
  .default("all")
  .meta({ description: "`count`: without the members themselves." });
export const groupSchema = z.object({ members });
export const groupsSchema = listSchema.extend({
  ...pageFields,
  members,
  sort: z.enum(["name", "-name"]).default("name"),
});
export const groupMembersSchema = listSchema.extend({
  ...pageFields,
  status: z.enum(["member", "excluded", "all"]).default("all"),
  sort: z.enum(["name", "-name"]).default("name"),
});

// --- answers

export const link = z.object({ epoch: z.number(), position: z.number(), hash: z.string() });
export const more = z.boolean().meta({ description: "True if the limit left others out." });
export const at = z.string().nullable().meta({ description: "ISO 8601." });

const session = z.object({
  id: z.string(),
  status: z.enum(["active", "revoked", "expired"]),
  reason: z.string().nullable(),
  kind: z.enum(["sign-in", "token"]),
  userId: z.string().nullable(),
  email: z.string(),
  name: z.string(),
  idpId: z.string().nullable(),
  provider: z
    .string()
    .nullable()
    .meta({ description: "The name of the identity provider; null: not configured here." }),
  issuedAt: at,
  refreshedAt: at,
  expiresAt: at,
  lastSeenAt: at.meta({ description: "ISO 8601. The last known use, and who knows it; null: it is not tracked." }),
  lastSeenBy: z.enum(["sign-in", "log", "this-node"]).nullable(),
  idleAt: at.meta({ description: "ISO 8601. When the session ends because it is not used; null: no idle lifetime." }),
});
const timeBox = z.object({ until: z.string(), reason: z.string() });
export const user = z.object({
  id: z.string(),
  status: z.string(),
  subject: z.string(),
  email: z.string(),
  emailVerified: z.boolean(),
  name: z.string(),
  groups: z.array(z.string()),
  sessions: z.number(),
  lastSession: session.pick({ id: true, lastSeenAt: true, lastSeenBy: true, idleAt: true, expiresAt: true }).nullable(),
  suspension: timeBox.nullable().meta({ description: "The end of a suspension that ends by itself." }),
  grants: z
    .array(timeBox.extend({ group: z.string() }))
    .meta({ description: "Additions to groups by an operator that end by themselves." }),
  providers: z
    .array(
      z.object({
        idpId: z.string(),
        name: z.string().nullable().meta({ description: "The name in the configuration; null: not configured here." }),
        sessions: z.number(),
        confirmedAt: z.string().meta({ description: "When the identity provider last confirmed a session." }),
        dueBy: at.meta({ description: "The latest time of the next refresh, if the session has a refresh token." }),
        groups: z.array(z.string()).meta({ description: "The groups that the provider claims." }),
      }),
    )
    .meta({ description: "What the identity provider last said, for each client with a live session." }),
});
const member = z.object({
  userId: z.string(),
  email: z.string(),
  name: z.string(),
  member: z.boolean(),
  sources: z.array(z.string()),
  excluded: z.boolean(),
  grant: timeBox.nullable().meta({ description: "The end of an operator's addition that ends by itself." }),
});
const group = z.object({
  id: z.string(),
  name: z.string(),
  members: z.array(member),
  memberCount: z.number().meta({ description: "People who are members now." }),
  excludedCount: z.number().meta({ description: "People that an operator has excluded." }),
});
const memberWithOrigin = member.extend({
  since: at.meta({
    description: "ISO 8601. When the log last changed the membership; null: this server does not know.",
  }),
  by: z.string().nullable().meta({ description: "The actor of that change; null as for `since`." }),
  byName: z.string().nullable().meta({ description: "The name of the actor, for people to read." }),
});
const page = { more, next: nextSchema, total: totalSchema, applied: link };
export const listAnswers = {
  sessions: z.object({ sessions: z.array(session), ...page }),
  session: z.object({ session, applied: link }),
  users: z.object({ users: z.array(user), ...page }),
  groups: z.object({ groups: z.array(group), ...page }),
  group: z.object({
    group: group.extend({ routes: z.array(z.string()).meta({ description: "Routes whose policies name the group." }) }),
    applied: link,
  }),
  groupMembers: z.object({ members: z.array(memberWithOrigin), ...page }),
} as const;

/** Operations that the lists add to those of the operator API. */
export const listOperations = {
  "GET /sessions/:id": {
    role: "viewer",
    summary: "One session",
    status: 200,
    answer: listAnswers.session,
    errors: [404],
  },
  "GET /groups/:group/members": {
    scoped: true,
    role: "viewer",
    summary: "The members of a group, by name, with the time and the actor of the last change",
    query: groupMembersSchema,
    status: 200,
    answer: listAnswers.groupMembers,
    errors: [400, 404],
  },
} as const;
