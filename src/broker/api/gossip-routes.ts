/** Gossip bodies: what brokers exchange over HTTP once a second, beside their presence. Pure. */
import * as z from "zod";
import { decode, parseEpoch } from "../../events/index.ts";
import type { GossipMessage } from "../core/messages.ts";

const gossipSchema = z.object({
  epoch: z.number().int().nonnegative().transform(parseEpoch).default(parseEpoch(0)),
  urls: z.array(z.url().max(1_000)).max(100).default([]),
});

/** A broker of an older version sends neither field. @throws z.ZodError if the body is malformed */
export function gossipOf(body: unknown): GossipMessage {
  return gossipSchema.parse(body);
}

export function parseGossip(body: Uint8Array): GossipMessage {
  return gossipOf(decode(body));
}
