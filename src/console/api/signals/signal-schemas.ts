/** Schemas of the operations on the streams of our signals, for the operator API and its description. */
import * as z from "zod";

export const signalStatusSchema = z.strictObject({
  status: z.enum(["enabled", "paused", "disabled"]),
  reason: z.string().max(500).optional().meta({ description: "Sent to the receiver." }),
});

const signalStream = z.object({
  receiver: z.string(),
  audience: z.string(),
  status: z.enum(["enabled", "paused", "disabled", "none"]),
  statusBy: z.enum(["receiver", "transmitter", "operator"]).nullable(),
  reason: z.string().nullable(),
  streamId: z.string().nullable(),
  method: z.enum(["push", "poll"]).nullable(),
  endpoint: z.string().nullable(),
  events: z.array(z.string()),
  pending: z.number().meta({ description: "Tokens that wait; with `more`, at least so many." }),
  more: z.boolean(),
  oldestAt: z.string().nullable(),
  lagSeconds: z.number().nullable(),
  behind: z.number().meta({ description: "Positions of the log after the last one that is delivered." }),
  delivered: z.number(),
  refused: z.number(),
  gaps: z.number(),
  deliveredAt: z.string().nullable(),
  activeAt: z.string().nullable(),
  failure: z.object({ at: z.string(), reason: z.string() }).nullable(),
  deadLetters: z.array(
    z.object({
      jti: z.string(),
      position: z.number(),
      at: z.string(),
      err: z.string(),
      description: z.string(),
    }),
  ),
});

export const signalStreamsAnswer = z.object({ streams: z.array(signalStream) });
export const signalStreamAnswer = z.object({ stream: signalStream });
