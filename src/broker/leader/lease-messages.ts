/**
 * Lease messages: opens the envelopes of nodes for the lease request handler. Pure.
 *
 * The envelope opener has checked that the sender's key may speak for its boot. Here a renew that names a replaced boot
 * loses that name unless that boot's own signature proves it. The handler checks the rest.
 */
import {
  commitsToKey,
  MalformedMessageError,
  type Opened,
  parseConfirm,
  parseGoodbye,
  parseRenew,
  provesReplacement,
  type RefusedMessage,
  type Renew,
} from "../../replication/wire/index.ts";
import type { NodeSender, OpenedNodeMessage } from "../core/messages.ts";

const noSender: NodeSender = {
  cluster: "",
  role: "proxy",
  name: "",
  boot: "" as NodeSender["boot"],
  publicKey: new Uint8Array(),
};

/**
 * Replacements whose proof was verified: a node repeats the same one with every renew. The oldest are forgotten first.
 */
export class ProvenReplacements {
  readonly #proven = new Set<string>();

  /** True when the replaced boot's key signed this replacement, or its id commits to no key. */
  has(cluster: string, { node, boot: replacedBy, replaces: replaced, replacementProof: proof }: Renew): boolean {
    if (replaced === null || !commitsToKey(replaced)) return true;
    const replacement = JSON.stringify([cluster, node, replaced, replacedBy]);
    if (this.#proven.has(replacement)) return true;
    if (proof === undefined || !provesReplacement(proof, { cluster, node, replaced, by: replacedBy })) return false;
    this.#proven.add(replacement);
    if (this.#proven.size > provenMax) this.#proven.delete(this.#proven.values().next().value ?? "");
    return true;
  }
}

const provenMax = 20_000;

export function leaseMessageIn(
  opened: Opened | RefusedMessage,
  proven: ProvenReplacements = new ProvenReplacements(),
): OpenedNodeMessage {
  if ("refused" in opened) return { type: "refused", from: noSender, reason: opened.refused };
  const { from, kind, payload } = opened;
  try {
    switch (kind) {
      case "renew":
        return acceptRenew(from, parseRenew(payload), proven);
      case "confirm":
        return { type: "confirm", from, confirm: parseConfirm(payload) };
      case "goodbye":
        return { type: "goodbye", from, goodbye: parseGoodbye(payload) };
      default:
        return { type: "refused", from, reason: `a broker does not accept a ${kind}` };
    }
  } catch (error) {
    if (!(error instanceof MalformedMessageError)) throw error;
    return { type: "refused", from, reason: "malformed" };
  }
}

/** The part of an authentic renew that is accepted. */
export function acceptRenew(from: NodeSender, renew: Renew, proven: ProvenReplacements): OpenedNodeMessage {
  if (renew.replaces === null || proven.has(from.cluster, renew)) return { type: "renew", from, renew };
  return { type: "renew", from, renew: { ...renew, replaces: null }, unproven: renew.replaces };
}
