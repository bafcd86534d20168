/** Operations of the live stream and of the counts, with their schemas. Pure. */
import * as z from "zod";
import { standingAnswer } from "./standing.ts";

/** The topics of `GET /live`. An area adds its own here, and its source in live-topics.ts. */
export const liveTopics = ["status", "counts"] as const;
export type LiveTopicName = (typeof liveTopics)[number];

const namesMax = 20;
export const liveSchema = z.object({
  topics: z
    .string()
    .max(200)
    .default("")
    .transform((text) => text.split(",").filter((name) => name !== ""))
    .pipe(z.array(z.enum(liveTopics)).max(namesMax))
    .meta({
      description: `Topics, with commas between them: ${liveTopics.join(", ")}. Each stream also has \`alive\`.`,
    }),
});

export const countsAnswer = z.object({
  sessions: z.number().nullable().meta({ description: "Active sessions; null: not counted yet." }),
  people: z.number().nullable().meta({ description: "People with an active session; null: not counted yet." }),
  groups: z.number(),
  held: z.number().meta({ description: "Mass changes that wait for an operator." }),
  standing: standingAnswer,
  applied: z.object({ epoch: z.int().min(0), position: z.int().min(0), hash: z.string().max(4_096) }),
});
export type Counts = Omit<z.infer<typeof countsAnswer>, "applied" | "standing">;

export const liveOperations = {
  "GET /live": {
    summary: "What changes, as it changes: the state of the cluster and the counts",
    role: "viewer",
    scoped: true,
    query: liveSchema,
    status: 200,
    stream:
      "`alive` every five seconds and when the standing of this node changes, with the time, the link that this node has applied, and `standing`: `current`, `behind` (`events`, `seenAt`) or `unconfirmed`. `status`: the leader, each node, and the health by rule, at most once a second. `counts`: as `GET /counts`.",
    errors: [400],
  },
  "GET /counts": {
    summary: "How many sessions, people and groups there are, and how many changes wait",
    role: "viewer",
    status: 200,
    answer: countsAnswer,
    errors: [],
  },
} as const;
