/**
 * Receipt: which nodes have applied a change, which are fenced off, and which are unconfirmed.
 *
 * - A lessee is `applied` only by its own confirmation of `enforced` on our chain.
 * - It is `fenced` only when no grant to it can still count. Otherwise it is `unconfirmed`.
 * - Doubt never counts in favour of `complete`.
 * - The caller has checked that the target is on the chain of the answering epoch, at or below its head.
 *
 * Pure.
 */
import { type CommandId, type Epoch, type Link, unreachable } from "../../events/index.ts";
import type { Receipt, ReceiptNode, ReceiptWait } from "../databroker.ts";
import { isLostHistory } from "../log/continuity.ts";
import type { LesseeStatus } from "./lessee-record.ts";

export type ReceiptQuery = Readonly<{
  /** Null: the requested change is not in the log. */
  link: Link | null;
  commandId: CommandId | null;
  wait: ReceiptWait;
  /** The region that `wait: "region"` waits for; null: all regions. */
  region: string | null;
}>;

export type ReceiptState = Readonly<{ epoch: Epoch; lessees: readonly LesseeStatus[] }>;

/** @param state the current state; the answer lists the nodes in its order */
export function receiptFor(question: ReceiptQuery, state: ReceiptState): Receipt {
  const { link, commandId, wait } = question;
  const region = wait === "region" ? question.region : null;
  const base = { wait, region, link, commandId, epoch: state.epoch, at: null, signed: null };
  if (link === null) return { ...base, status: "lost", complete: false, nodes: [], completeInMs: 0 };
  const nodes = state.lessees.map((lessee) => nodeIn(lessee, link, region));
  const awaited = nodes.filter((node) => isAwaited(node, question));
  const open = awaited.filter((node) => node.status === "unconfirmed");
  const complete = open.length === 0;
  return {
    ...base,
    status: complete ? "complete" : "incomplete",
    complete,
    nodes,
    completeInMs: open.reduce((longest, node) => Math.max(longest, node.fencedInMs ?? 0), 0),
  };
}

function isAwaited(node: ReceiptNode, { wait, region }: ReceiptQuery): boolean {
  switch (wait) {
    case "all":
    case "none": // no caller waits, but `complete` means the same as for `all`
      return true;
    case "region":
      return region === null || node.region === region;
    default:
      return unreachable(wait);
  }
}

/** @param awaitedRegion null: all. A lessee of a lost history may be in any region. */
function nodeIn(lessee: LesseeStatus, link: Link, awaitedRegion: string | null): ReceiptNode {
  const { node, boot } = lessee;
  const region = isLostHistory(lessee) ? (awaitedRegion ?? lessee.region) : lessee.region;
  // The receipt does not cover open streams of a proxy that only requests decisions; the role name says so.
  const role = lessee.role === "authorize" ? "decision-only" : lessee.role;
  const base = { node, boot, region, role, enforced: lessee.enforced };
  if (lessee.enforced !== null && lessee.enforced.position >= link.position) {
    return { ...base, status: "applied", fencedInMs: null, reason: "" };
  }
  const fencedInMs = Math.ceil(lessee.fencedInMs);
  if (fencedInMs <= 0) return { ...base, status: "fenced", fencedInMs: 0, reason: "its lease has expired" };
  return { ...base, status: "unconfirmed", fencedInMs, reason: whyUnconfirmed(lessee, link) };
}

function whyUnconfirmed(lessee: LesseeStatus, link: Link): string {
  const { enforced, lastGrantAgoMs, refusal, onLostHistory } = lessee;
  if (isLostHistory(lessee)) return "may have a lease of a history that the log has lost";
  if (onLostHistory && enforced === null)
    return "may have a longer lease of a history that the log has lost, and has not been heard from since";
  if (refusal !== null) return `no longer gets a lease: ${refusal}`;
  if (lastGrantAgoMs === null) {
    return enforced === null
      ? "had a lease in an earlier epoch and has not been heard from since"
      : `enforces position ${enforced.position}, not yet ${link.position}; had its lease in an earlier epoch`;
  }
  return enforced === null
    ? "has confirmed nothing on this chain yet"
    : `enforces position ${enforced.position}, not yet ${link.position}`;
}
