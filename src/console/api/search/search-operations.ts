/** Operations of the search, with their schemas. Pure. */
import * as z from "zod";

export const hitsMax = 20;
export const hitKinds = [
  "person",
  "group",
  "route",
  "session",
  "request",
  "command",
  "configuration",
  "change",
] as const;

export const searchSchema = z.strictObject({
  q: z.string().trim().max(200).default("").meta({
    description:
      "A part of a name, e-mail, group or route, or a whole id: of a person, session, request or command, a link, the position of a change, or the hash of a configuration.",
  }),
});
const hit = z.object({
  kind: z.enum(hitKinds),
  id: z.string(),
  name: z.string(),
  detail: z.string(),
  href: z.string().meta({ description: "The page of the console, as a path of this host." }),
});
export type SearchHit = z.infer<typeof hit>;

export const searchOperations = {
  "GET /search": {
    summary: "Find people, groups, routes, and whatever an id names",
    role: "viewer",
    scoped: true,
    query: searchSchema,
    status: 200,
    answer: z.object({
      hits: z.array(hit).meta({ description: `At most ${hitsMax}, of what the caller may see; exact ids first.` }),
      applied: z.object({ epoch: z.number(), position: z.number(), hash: z.string() }),
    }),
    errors: [400],
  },
} as const;
