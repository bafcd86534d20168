/** Broker answers: the conversion of a broker's answers to a node into inputs of the node core. Pure. */
import { type CommandResult, decodeEvents, type Link, linkOf, sameLink } from "../../events/index.ts";
import type { DenialsOutcome, PageOutcome } from "../databroker.ts";
import { type LeaseRefusal, LeaseRefusedError } from "../lease/lease-refusal.ts";
import { type EnvelopeOpener, openGrant } from "../wire/broker-opener.ts";
import { parseLeaseRefusal } from "../wire/lease-refusal-body.ts";
import { openRevocation, type SealedRevocation } from "../wire/local-revocation.ts";
import type { encodeMessage } from "../wire/messages.ts";
import type { DenialsAnswer, LeaseMessage, MergeAnswer, NodeLeaseAnswer, ReadAnswer } from "./messages.ts";

/** @throws MalformedEventError when a page does not chain from its first link to its last */
export function readAnswer(outcome: PageOutcome): ReadAnswer {
  if (outcome.type !== "page") return outcome;
  const { previous, entries, last, head, keys } = outcome.page;
  const events = decodeEvents(entries, previous);
  const end = events.at(-1);
  if (!sameLink(end === undefined ? previous : linkOf(end), last))
    throw new Error("a page does not chain to its last link");
  return { type: "page", page: { previous, events, last }, head, keys };
}

export function messageBodyOf(spoken: LeaseMessage): Parameters<typeof encodeMessage>[0] {
  switch (spoken.type) {
    case "renew":
      return spoken.renew;
    case "confirm":
      return spoken.confirm;
    case "goodbye":
      return spoken.goodbye;
  }
}

/** @param envelope null: the broker accepted a confirmation or a goodbye */
export function leaseAnswer(envelope: Uint8Array | null, open: EnvelopeOpener): NodeLeaseAnswer {
  return envelope === null ? { type: "taken" } : { type: "grant", grant: openGrant(envelope, open) };
}

export function leaseFailure(error: unknown): NodeLeaseAnswer {
  const refusal = refusalIn(error);
  return refusal === undefined ? { type: "failed", error } : { type: "refused", refusal };
}

/** A broker's refusal, whether the broker is in this process or answered over HTTP. */
function refusalIn(error: unknown): LeaseRefusal | undefined {
  if (error instanceof LeaseRefusedError) return error.refusal;
  const isRejected = error instanceof Error && "code" in error && error.code === "ERR_BROKER_LEASE_REFUSED";
  if (!isRejected || !("refusal" in error) || !isObject(error.refusal)) return undefined;
  return parseLeaseRefusal({ reason: error.refusal.message, code: error.refusal.code });
}

function isObject(value: unknown): value is Readonly<{ code?: unknown; message?: unknown }> {
  return typeof value === "object" && value !== null;
}

/** Opens each revocation of a page; one that is not authentic refuses the page. */
export function denialsAnswer(outcome: DenialsOutcome, open: EnvelopeOpener): DenialsAnswer {
  if (outcome.type === "none") return outcome;
  const { store, upTo, envelopes, more } = outcome;
  const sealed: SealedRevocation[] = [];
  for (const envelope of envelopes) {
    const opened = openRevocation(envelope, open);
    if (typeof opened === "string") return { type: "refused", reason: opened };
    sealed.push(opened);
  }
  return { type: "page", store, upTo, sealed, more };
}

/** What the leader's answer says about a revocation that was submitted to it. */
export function mergeAnswer(result: CommandResult): MergeAnswer {
  if (result.type === "done") return { type: "merged", link: result.link };
  if (result.type !== "refused") return { type: "failed" };
  return result.code === "conflict" ? { type: "other-change" } : { type: "refused", reason: result.message };
}

/**
 * The link from which the log settles a lost denial that was handed back alone. A conflict means that the log has since
 * decided otherwise, at or below the head of the next grant. Any other refusal settles nothing.
 */
export function settledBy(result: CommandResult): Link | "later" | undefined {
  if (result.type === "done") return result.link;
  return result.type === "refused" && result.code === "conflict" ? "later" : undefined;
}
