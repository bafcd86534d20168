/** Operations of the operator API at the transmitters of signals, and the shapes of their bodies and answers. Pure. */
import * as z from "zod";
import { signalNames, streamStatuses } from "../../../auth/index.ts";

const time = z.string().nullable().meta({ description: "ISO 8601." });

export const signalStreamSchema = z.strictObject({
  events: z
    .array(z.enum(signalNames))
    .min(1)
    .max(signalNames.length)
    .optional()
    .meta({ description: "Absent: the events on which this cluster acts." }),
});
export const streamStatusSchema = z.strictObject({
  status: z.enum(streamStatuses),
  reason: z.string().min(1).max(500).optional(),
});
export const signalVerifySchema = z.strictObject({
  timeoutMs: z.number().int().min(1_000).max(60_000).optional().meta({ description: "Default: 10,000." }),
});
export const signalSubjectSchema = z.strictObject({
  change: z.enum(["add", "remove"]),
  subject: z.record(z.string().max(100), z.unknown()).meta({ description: "A subject identifier (RFC 9493)." }),
});
export const nothingSchema = z.strictObject({});

const transmitter = z.object({
  name: z.string(),
  issuer: z.string(),
  audiences: z.array(z.string()),
  delivery: z.enum(["push", "poll"]),
  pushUrl: z.string().nullable(),
  match: z.array(z.string()),
  actions: z.record(z.string(), z.string()),
  reported: z
    .object({ streamId: z.string(), status: z.string().nullable(), statusAt: time, verifiedAt: time })
    .nullable()
    .meta({ description: "What the transmitter last said of its stream by an event." }),
  notEnded: z.number().meta({
    description: "People whose sessions a signal denies, and that this process could not end yet. It keeps trying.",
  }),
});
const stream = z.object({ stream: z.looseObject({ stream_id: z.string() }) });
const streamId = z.object({ streamId: z.string() });
const status = z.object({
  status: z.object({ stream_id: z.string(), status: z.string(), reason: z.string().nullable() }),
});

/** A request to a transmitter of signals. */
const atTransmitter = { role: "administrator", status: 200, errors: [400, 404, 502] } as const;

export const transmitterOperations = {
  "GET /signals/transmitters": {
    role: "viewer",
    summary: "The transmitters of signals, and what they last said of their streams",
    status: 200,
    answer: z.object({ transmitters: z.array(transmitter) }),
    errors: [],
  },
  "GET /signals/transmitters/:transmitter": {
    role: "viewer",
    summary: "Our streams at a transmitter of signals, as it describes them now",
    status: 200,
    answer: z.object({ transmitter, metadata: z.looseObject({}), streams: z.array(z.looseObject({})) }),
    errors: [404, 502],
  },
  "POST /signals/transmitters/:transmitter/stream": {
    summary: "Create our stream at a transmitter of signals",
    body: signalStreamSchema,
    answer: stream,
    ...atTransmitter,
  },
  "POST /signals/transmitters/:transmitter/stream/update": {
    summary: "Change the events and the address of our stream at a transmitter of signals",
    body: signalStreamSchema,
    answer: stream,
    ...atTransmitter,
  },
  "POST /signals/transmitters/:transmitter/stream/delete": {
    summary: "Delete our stream at a transmitter of signals",
    body: nothingSchema,
    answer: streamId,
    ...atTransmitter,
  },
  "POST /signals/transmitters/:transmitter/stream/status": {
    summary: "Ask a transmitter of signals to enable, pause or disable our stream",
    body: streamStatusSchema,
    answer: status,
    ...atTransmitter,
  },
  "POST /signals/transmitters/:transmitter/stream/verify": {
    summary: "Ask a transmitter of signals for a verification event, and wait for it",
    body: signalVerifySchema,
    answer: z.object({ streamId: z.string(), verified: z.boolean() }),
    ...atTransmitter,
  },
  "POST /signals/transmitters/:transmitter/subjects": {
    summary: "Add a subject to our stream at a transmitter of signals, or remove it",
    body: signalSubjectSchema,
    answer: streamId,
    ...atTransmitter,
  },
} as const;
