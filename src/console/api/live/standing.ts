/** Standing: whether what this node shows is current, behind the log, or cannot be confirmed at all. Pure. */
import * as z from "zod";
import type { Fact, UnixMs } from "../../../events/index.ts";
import type { Replica } from "../../../replication/index.ts";

/** A shorter delay is that of any event on its way. */
export const behindMsMax = 2_000;

export const standingAnswer = z
  .discriminatedUnion("type", [
    z.object({ type: z.literal("current") }),
    z.object({
      type: z.literal("behind"),
      events: z.int().min(1),
      seenAt: z.string().meta({ description: "ISO 8601: when what this node has applied was all that it knew of." }),
    }),
    z.object({ type: z.literal("unconfirmed") }),
  ])
  .meta({
    description: `\`behind\`: for more than ${behindMsMax / 1_000} s this node has known of events that it has not applied. \`unconfirmed\`: its lease is not fresh.`,
  });

export type Standing =
  | Fact<"current", unknown>
  | Fact<"behind", { events: number; seenAt: string }>
  | Fact<"unconfirmed", unknown>;

export function standingOf({
  replica,
  fresh,
  now,
}: Readonly<{ replica: Pick<Replica, "behind">; fresh: () => boolean; now: () => UnixMs }>): Standing {
  if (!fresh()) return { type: "unconfirmed" };
  const behind = replica.behind();
  if (behind === null || behind.ms <= behindMsMax) return { type: "current" };
  return { type: "behind", events: behind.events, seenAt: new Date(now() - behind.ms).toISOString() };
}
