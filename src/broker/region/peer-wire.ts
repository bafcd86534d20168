/**
 * Peer wire: what brokers of one region exchange about local revocations, as MessagePack. Pure.
 *
 * Every field is checked before it is used. An envelope that no broker of the cluster has signed refuses the message.
 */
import * as z from "zod";
import type { Link } from "../../events/index.ts";
import {
  addressCharsMax,
  addressesMax,
  type EnvelopeOpener,
  MalformedMessageError,
  openRevocation,
  parseLinkMap,
  type SealedRevocation,
} from "../../replication/wire/index.ts";
import type { PeerAnswer, PeerQuestion } from "./local-messages.ts";
import { revocationsMax } from "./revocation-store.ts";

const nodesMax = 20_000;
const text = z.string().max(1_000);
const key = text;
const count = z.number().int().nonnegative();
const ms = z.number().nonnegative();
const addresses = z.array(z.string().max(addressCharsMax)).max(addressesMax + 1);
const envelopes = z.array(z.instanceof(Uint8Array)).max(revocationsMax);
const link = z.unknown().transform((value, context): Link => {
  try {
    return parseLinkMap(value);
  } catch {
    context.addIssue({ code: "custom", message: "not a link" });
    return z.NEVER;
  }
});

const question = z.object({
  broker: text,
  boot: text,
  addresses,
  sealed: envelopes,
  held: z.array(key).max(2 * revocationsMax),
});

const answer = z.object({
  broker: text,
  boot: text,
  addresses,
  stored: z.array(z.object({ key, seq: count })).max(2 * revocationsMax),
  merged: z.array(z.object({ key, link })).max(4 * revocationsMax),
  lacking: envelopes,
  nodes: z
    .array(
      z.object({
        node: text,
        boot: text,
        role: text,
        brokers: addresses.nullable(),
        confirmed: count,
        passed: z.array(z.object({ seq: count, forMs: ms })).max(2 * revocationsMax),
      }),
    )
    .max(nodesMax),
  unknownForMs: ms,
});

export function formatQuestion({ sealed, ...rest }: PeerQuestion): object {
  return { ...rest, sealed: sealed.map(({ envelope }) => envelope) };
}

/** @throws MalformedMessageError */
export function parseQuestion(value: unknown, open: EnvelopeOpener): PeerQuestion {
  const parsed = question.safeParse(value);
  if (!parsed.success) throw new MalformedMessageError("not a question of a regional broker", { cause: parsed.error });
  return { ...parsed.data, sealed: openAll(parsed.data.sealed, open) };
}

/** @throws MalformedMessageError */
export function parseAnswer(value: unknown): PeerAnswer {
  const parsed = answer.safeParse(value);
  if (!parsed.success) throw new MalformedMessageError("not an answer of a regional broker", { cause: parsed.error });
  return parsed.data;
}

/** @throws MalformedMessageError when one of them is not authentic */
export function openAll(sealed: readonly Uint8Array[], open: EnvelopeOpener): readonly SealedRevocation[] {
  return sealed.map((envelope) => {
    const opened = openRevocation(envelope, open);
    if (typeof opened === "string") throw new MalformedMessageError(`a revocation is refused: ${opened}`);
    return opened;
  });
}
