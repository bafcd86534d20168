/** Fact lines: a short text for each fact, for the trace that people read. Pure. */
import type { Command, Link } from "../../src/events/index.ts";
import type { SimFact } from "./facts.ts";

/** @returns undefined for frequent facts, and for facts that the models log themselves */
export function lineOf(fact: SimFact): string | undefined {
  switch (fact.type) {
    case "leading":
      return fact.leading ? `leads epoch ${fact.epoch}` : `leads epoch ${fact.epoch} no more`;
    case "committed-cleanly":
      return `commits cleanly up to ${formatLink(fact.head)} (transaction ${fact.txn})`;
    case "log-answered":
      return fact.op === "read" || fact.op === "observe" || fact.outcome === "beaten"
        ? undefined
        : `answers ${fact.to}: ${fact.op} ${fact.outcome}`;
    case "published":
      return `publishes ${formatLink(fact.previous)} … ${formatLink(fact.last)} (${fact.how})`;
    case "applied":
      return `applies up to ${formatLink(fact.to)}`;
    case "enforced":
      return `has enforced ${formatLink(fact.link)}`;
    case "rebuilding":
      return `builds anew: ${formatLink(fact.lost)} is not in the log`;
    case "rebuilt":
      return `is built anew at ${formatLink(fact.to)}, from ${formatLink(fact.base)}`;
    case "snapshot-loaded":
      return `loads a snapshot at ${formatLink(fact.link)} from ${fact.from}`;
    case "snapshot-built":
      return `saves a snapshot at ${formatLink(fact.link)}`;
    case "snapshot-begun":
      return `begins a snapshot at ${formatLink(fact.link)}`;
    case "snapshot-given-up":
      return `takes no snapshot: ${fact.reason}`;
    case "retain-asked":
      return `lets go of what stands before ${fact.first}`;
    case "duty-submitted":
      return `asks for ${short(fact.commandId)} as its duty (${fact.duty}, epoch ${fact.epoch})`;
    case "token-sent":
      return `sends ${fact.token} to the provider (epoch ${fact.epoch}, intent ${fact.intent === null ? "none" : short(fact.intent)})`;
    case "session-dismissed":
      return `ends ${fact.sessionId} for its refresh: ${fact.because}`;
    case "duty-answered":
      return `answers its duty (${fact.duty}): ${short(fact.commandId)} ${fact.outcome}`;
    case "finalizing":
      return `finalizes level ${fact.level}`;
    case "append-sent":
      return `asks for an append behind ${formatLink(fact.previous)}`;
    case "made-ahead":
      return fact.became === "sent"
        ? "sends a batch that was carried out while the one before was in flight"
        : "throws away a batch that was carried out behind one that was not written";
    case "grant-sent":
      return `grants ${fact.node} ${fact.nonce} at ${formatLink(fact.head)}`;
    case "grant-received":
      return fact.taken ? undefined : `is handed a grant of nonce ${fact.nonce} and does not take it`;
    case "grant-refused":
      return `refuses ${fact.node} a lease: ${fact.reason}`;
    case "goodbye-sent":
      return "says goodbye";
    case "boot-left":
      return `lets ${fact.node} go (${fact.how})`;
    case "reasserted":
      return `${fact.outcome}: the lost ${formatLink(fact.lost)} on ${fact.stream}`;
    case "command-invoked":
      return `asks ${fact.to} to ${wordsOf(fact.command)} (${short(fact.commandId)}, attempt ${fact.attempt})`;
    case "command-answered":
      return `hears of ${short(fact.commandId)}: ${fact.result.type}${fact.result.type === "done" ? ` at ${formatLink(fact.result.link)}` : ` (${fact.result.type === "refused" ? fact.result.code : fact.result.message})`}`;
    case "receipt-asked":
      return `asks ${fact.to} for receipt ${fact.receipt} (${fact.wait}, ${fact.timeoutMs} ms)`;
    case "receipt-answered":
      return `answers receipt ${fact.receipt}: ${fact.answer.status}${fact.answer.link === null ? "" : ` up to ${formatLink(fact.answer.link)}`} (${fact.answer.nodes.map(({ node, status }) => `${node} ${status}`).join(", ")})`;
    case "receipt-signed":
      return `signs receipt ${fact.receipt}: ${fact.durability ?? "no durability"}`;
    case "receipt-failed":
      return `has no receipt ${fact.receipt}: ${fact.reason}`;
    case "decided":
      return `${fact.verdict}s request ${fact.request} (${fact.reason}) of ${fact.session} on ${fact.route} at ${formatLink(fact.link)}, lease ${fact.overdueMs <= 0 ? "fresh" : `over for ${fact.overdueMs.toFixed(0)} ms`}`;
    case "exchange-ended":
      return fact.how === "cut" ? `cuts request ${fact.request}: ${fact.reason}` : undefined;
    case "nats-happened":
      return `${fact.what}: ${fact.about}`;
    case "forged":
      return `puts a ${fact.how} ${fact.kind} on the way to ${fact.to}`;
    case "message-refused":
      return `refuses a ${fact.kind}: ${fact.reason}`;
    case "faults-over":
      return "every fault is over and mended";
    default:
      return undefined;
  }
}

function formatLink({ epoch, position, hash }: Link): string {
  return `${epoch}/${position}:${hash.slice(0, 6)}`;
}

function wordsOf(command: Command): string {
  switch (command.type) {
    case "createSession":
      return `create ${command.sessionId} of ${command.userId}`;
    case "refreshSession":
    case "startRefresh":
    case "keepTokens":
    case "revokeSession":
      return `${command.type} ${command.sessionId}`;
    case "revokeSessions":
      return `revoke ${command.sessionIds.join(", ")}`;
    case "changeGroupMembers":
      return `change ${command.groupId}: ${[...command.added.map((id) => `+${id}`), ...command.removed.map((id) => `-${id}`)].join(" ")} (${command.source})`;
    default:
      return `${command.type}${"userId" in command ? ` ${command.userId}` : ""}`;
  }
}

function short(id: string): string {
  return id.slice(0, 8);
}
