/** Tidings on the wire: what brokers tell each other over HTTP once a second, beside that they are there. Pure. */
import { z } from "zod";
import { decode, parseEpoch } from "../../events/index.ts";
import type { Tidings } from "../leader/broker-presence.ts";

const tidings = z.object({
  epoch: z.number().int().nonnegative().transform(parseEpoch).default(parseEpoch(0)),
  urls: z.array(z.url().max(1_000)).max(100).default([]),
});

/** A broker of an older version says nothing of either. @throws z.ZodError when it is something else */
export function tidingsIn(body: unknown): Tidings {
  return tidings.parse(body);
}

export function parseTidings(body: Uint8Array): Tidings {
  return tidingsIn(decode(body));
}
