/** Fact lines: a short text for each fact, for the trace that people read. Pure. */
import type { Command, Link } from "../../src/events/index.ts";
import type { SimFact } from "./facts.ts";

/** @returns undefined for frequent facts, and for facts that the models log themselves */
export function lineOf(fact: SimFact): string | undefined {
  switch (fact.type) {
    case "leading":
      return fact.leading ? `leads epoch ${fact.epoch}` : `no longer leads epoch ${fact.epoch}`;
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
      return `rebuilds: ${formatLink(fact.lost)} is not in the log`;
    case "rebuilt":
      return `is rebuilt at ${formatLink(fact.to)}, from ${formatLink(fact.base)}`;
    case "snapshot-loaded":
      return `loads a snapshot at ${formatLink(fact.link)} from ${fact.from}`;
    case "snapshot-built":
      return `saves a snapshot at ${formatLink(fact.link)}`;
    case "snapshot-begun":
      return `begins a snapshot at ${formatLink(fact.link)}`;
    case "snapshot-given-up":
      return `takes no snapshot: ${fact.reason}`;
    case "retain-asked":
      return `drops the events before ${fact.first}`;
    case "duty-submitted":
      return `submits ${shortId(fact.commandId)} as its duty (${fact.duty}, epoch ${fact.epoch})`;
    case "token-sent":
      return `sends ${fact.token} to the provider (epoch ${fact.epoch}, intent ${fact.intent === null ? "none" : shortId(fact.intent)})`;
    case "session-dismissed":
      return `ends ${fact.sessionId} for its refresh: ${fact.because}`;
    case "duty-answered":
      return `answers its duty (${fact.duty}): ${shortId(fact.commandId)} ${fact.outcome}`;
    case "finalizing":
      return `finalizes level ${fact.level}`;
    case "append-sent":
      return `sends an append after ${formatLink(fact.previous)}`;
    case "made-ahead":
      return fact.became === "sent"
        ? "sends a batch that was made while the previous one was in flight"
        : "discards a batch that was made behind one that was not written";
    case "grant-sent":
      return `grants ${fact.node} ${fact.nonce} at ${formatLink(fact.head)}`;
    case "grant-received":
      return fact.taken ? undefined : `ignores a grant with nonce ${fact.nonce}`;
    case "grant-refused":
      return `refuses ${fact.node} a lease: ${fact.reason}`;
    case "goodbye-sent":
      return "sends a goodbye";
    case "boot-left":
      return `removes a boot of ${fact.node} (${fact.how})`;
    case "reasserted":
      return `${fact.outcome}: the lost ${formatLink(fact.lost)} on ${fact.stream}`;
    case "command-invoked":
      return `sends ${fact.to}: ${formatCommand(fact.command)} (${shortId(fact.commandId)}, attempt ${fact.attempt})`;
    case "command-answered":
      return `gets the answer to ${shortId(fact.commandId)}: ${fact.result.type}${fact.result.type === "done" ? ` at ${formatLink(fact.result.link)}` : ` (${fact.result.type === "refused" ? fact.result.code : fact.result.message})`}`;
    case "receipt-asked":
      return `requests from ${fact.to} receipt ${fact.receipt} (${fact.wait}, ${fact.timeoutMs} ms)`;
    case "receipt-answered":
      return `answers receipt ${fact.receipt}: ${fact.answer.status}${fact.answer.link === null ? "" : ` up to ${formatLink(fact.answer.link)}`} (${fact.answer.nodes.map(({ node, status }) => `${node} ${status}`).join(", ")})`;
    case "receipt-signed":
      return `signs receipt ${fact.receipt}: ${fact.durability ?? "no durability"}`;
    case "receipt-failed":
      return `has no receipt ${fact.receipt}: ${fact.reason}`;
    case "local-answered":
      return `answers ${shortId(fact.commandId)}: ${fact.answer === "local" ? `local (${fact.revocation.key})` : fact.code}`;
    case "revocation-stored":
      return `stores the local revocation ${fact.revocation.key}`;
    case "revocation-enforced":
      return `has enforced the local revocation ${fact.key}`;
    case "revocation-dropped":
      return `drops the local revocation ${fact.key}`;
    case "disk-replaced":
      return "starts with another disk";
    case "local-receipt-answered":
      return `answers the local receipt ${fact.key}: ${fact.complete ? "complete" : "incomplete"} (${fact.nodes.map(({ node, status }) => `${node} ${status}`).join(", ")})`;
    case "decided":
      return `${fact.verdict}s request ${fact.request} (${fact.reason}) of ${fact.session} on ${fact.route} at ${formatLink(fact.link)}, lease ${fact.overdueMs <= 0 ? "fresh" : `expired for ${fact.overdueMs.toFixed(0)} ms`}`;
    case "exchange-ended":
      return fact.how === "cut" ? `cuts request ${fact.request}: ${fact.reason}` : undefined;
    case "nats-happened":
      return `${fact.what}: ${fact.about}`;
    case "forged":
      return `sends a ${fact.how} ${fact.kind} to ${fact.to}`;
    case "message-refused":
      return `refuses a ${fact.kind}: ${fact.reason}`;
    case "faults-over":
      return "every fault has ended and is repaired";
    default:
      return undefined;
  }
}

function formatLink({ epoch, position, hash }: Link): string {
  return `${epoch}/${position}:${hash.slice(0, 6)}`;
}

function formatCommand(command: Command): string {
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
      return `change ${command.groupId}: ${[...command.added.map((id) => `+${id}`), ...command.removed.map((id) => `-${id}`)].join(" ")} (${command.source})${endText(command.until)}`;
    default:
      return `${command.type}${"userId" in command ? ` ${command.userId}` : ""}${"until" in command ? endText(command.until) : ""}`;
  }
}

function endText(until: number | null | undefined): string {
  return until === undefined || until === null ? "" : ` until ${until}`;
}

function shortId(id: string): string {
  return id.slice(0, 8);
}
