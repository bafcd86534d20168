/** What a node says in an envelope, opened for the lease desk. Pure; whether the node may say it is the desk's question. */
import {
  MalformedMessageError,
  type Opened,
  parseConfirm,
  parseGoodbye,
  parseRenew,
  type RefusedMessage,
} from "../../replication/index.ts";
import type { OpenedNodeMessage } from "../broker-messages.ts";

const nobody = { role: "proxy", name: "", boot: "" as Opened["from"]["boot"] } as const;

export function leaseMessageIn(opened: Opened | RefusedMessage): OpenedNodeMessage {
  if ("refused" in opened) return { type: "refused", from: nobody, reason: opened.refused };
  const { from, kind, payload } = opened;
  try {
    switch (kind) {
      case "renew":
        return { type: "renew", from, renew: parseRenew(payload) };
      case "confirm":
        return { type: "confirm", from, confirm: parseConfirm(payload) };
      case "goodbye":
        return { type: "goodbye", from, goodbye: parseGoodbye(payload) };
      default:
        return { type: "refused", from, reason: `a ${kind} is not for a broker to take` };
    }
  } catch (error) {
    if (!(error instanceof MalformedMessageError)) throw error;
    return { type: "refused", from, reason: "malformed" };
  }
}
