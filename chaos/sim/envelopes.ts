/**
 * Envelopes of the simulation: values instead of bytes, with a sender and a seal that only the holder of the sender's
 * key can make.
 *
 * - An envelope counts as sealed if `Seals` knows it.
 * - A process that has an envelope may repeat it. Any process may make one with any content, but it is authentic only
 *   if its sender sealed it.
 * - The product's own functions decide which authentic content to accept.
 */

import type { OpenedNodeMessage } from "../../src/broker/core/messages.ts";
import { acceptRenew, type ProvenReplacements } from "../../src/broker/leader/lease-messages.ts";
import type { Link } from "../../src/events/index.ts";
import { believeBatch, type OpenedBatch } from "../../src/replication/fanout/index.ts";
import {
  type Batch,
  believeGrant,
  believeGrantByAge,
  type Certificate,
  type Confirm,
  type Goodbye,
  type Grant,
  mayUseBoot,
  type RefusedEnvelope,
  type Renew,
} from "../../src/replication/wire/index.ts";

export type SimPayload =
  | Readonly<{ kind: "batch"; batch: Batch }>
  | Readonly<{ kind: "grant"; grant: Grant }>
  | Readonly<{ kind: "grant-by-age"; grant: Grant }>
  | Readonly<{ kind: "renew"; renew: Renew }>
  | Readonly<{ kind: "confirm"; confirm: Confirm }>
  | Readonly<{ kind: "goodbye"; goodbye: Goodbye }>;

export type SimEnvelope = Readonly<{ from: Certificate; payload: SimPayload }>;

/** The sender's certificate. The key is optional, because it does not matter where the boot id commits to no key. */
export type SimSender = Omit<Certificate, "publicKey"> & Partial<Pick<Certificate, "publicKey">>;

const noKey = new Uint8Array(32);

export class Seals {
  readonly #sealed = new WeakSet<SimEnvelope>();

  /** Seals as the holder of the sender's key, which is enrolled under the role's root. */
  seal(from: SimSender, payload: SimPayload): SimEnvelope {
    const envelope: SimEnvelope = { from: { publicKey: noKey, ...from }, payload };
    this.#sealed.add(envelope);
    return envelope;
  }

  isAuthentic(envelope: SimEnvelope, cluster: string): boolean {
    return this.#sealed.has(envelope) && envelope.from.cluster === cluster && mayUseBoot(envelope.from);
  }

  openBatch(envelope: SimEnvelope, cluster: string, has: (last: Link) => boolean): OpenedBatch | RefusedEnvelope {
    const { from, payload } = envelope;
    if (!this.isAuthentic(envelope, cluster)) return { refused: "not-authentic", detail: "bad signature" };
    if (payload.kind !== "batch") return { refused: "wrong-kind", detail: `a ${payload.kind} is not a batch` };
    return believeBatch(from, payload.batch, has);
  }

  openGrant(envelope: SimEnvelope, cluster: string): Grant | RefusedEnvelope {
    const { from, payload } = envelope;
    if (!this.isAuthentic(envelope, cluster)) return { refused: "not-authentic", detail: "bad signature" };
    if (payload.kind === "grant-by-age") return believeGrantByAge(from, payload.grant);
    if (payload.kind !== "grant") return { refused: "wrong-kind", detail: `a ${payload.kind} is not a grant` };
    return believeGrant(from, payload.grant);
  }
}

/** Opens a node's message as a broker does. */
export function openNodeMessage(
  envelope: SimEnvelope,
  { seals, cluster, proven }: Readonly<{ seals: Seals; cluster: string; proven: ProvenReplacements }>,
): OpenedNodeMessage {
  const { from, payload } = envelope;
  if (!seals.isAuthentic(envelope, cluster)) return { type: "refused", from, reason: "bad signature" };
  switch (payload.kind) {
    case "renew":
      return acceptRenew(from, payload.renew, proven);
    case "confirm":
      return { type: "confirm", from, confirm: payload.confirm };
    case "goodbye":
      return { type: "goodbye", from, goodbye: payload.goodbye };
    default:
      return { type: "refused", from, reason: `a ${payload.kind} is not for a broker to take` };
  }
}
