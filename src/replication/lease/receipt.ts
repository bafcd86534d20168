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
import { type CommandId, type Epoch, type Link, type UnixMs, unreachable } from "../../events/index.ts";
import type { Receipt, ReceiptNode, ReceiptRegion, ReceiptWait } from "../databroker.ts";
import { isLostHistory } from "../log/continuity.ts";
import type { Moment } from "./drift-watch.ts";
import type { LesseeStatus } from "./lessee-record.ts";

export type ReceiptQuery = Readonly<{
  /** Null: the requested change is not in the log. */
  link: Link | null;
  commandId: CommandId | null;
  wait: ReceiptWait;
  /** The region that `wait: "region"` waits for; null: all regions. */
  region: string | null;
}>;

/** What the leader knows of a region besides its lessees. */
export type RegionHeard = Pick<ReceiptRegion, "region" | "absent" | "cutOff" | "heardAt">;

export type ReceiptState = Readonly<{
  epoch: Epoch;
  lessees: readonly LesseeStatus[];
  regions: readonly RegionHeard[];
  at: Moment;
}>;

/** @param state the current state; the answer lists the nodes in its order */
export function receiptFor(question: ReceiptQuery, state: ReceiptState): Receipt {
  const { link, commandId, wait } = question;
  const region = wait === "region" ? question.region : null;
  const base = { wait, region, link, commandId, epoch: state.epoch, at: null, signed: null };
  if (link === null) return { ...base, status: "lost", complete: false, nodes: [], completeInMs: 0 };
  const nodes = state.lessees.map((lessee) => nodeIn(lessee, link, { awaitedRegion: region, at: state.at }));
  const awaited = nodes.filter((node) => isAwaited(node, question));
  const open = awaited.filter((node) => node.status === "unconfirmed");
  const complete = open.length === 0;
  return {
    ...base,
    status: complete ? "complete" : "incomplete",
    complete,
    nodes,
    regions: regionsIn(nodes, state),
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

/** Sorted by name. */
function regionsIn(nodes: readonly ReceiptNode[], { regions, lessees }: ReceiptState): readonly ReceiptRegion[] {
  const heard = new Map(regions.map((each) => [each.region, each]));
  const names = new Set([
    ...heard.keys(),
    ...lessees.filter((each) => !isLostHistory(each)).map((each) => each.region),
  ]);
  return [...names].sort().map((region) => {
    const own = nodes.filter((node) => node.region === region && !isLostHistory(node));
    const count = (status: ReceiptNode["status"]) => own.filter((node) => node.status === status).length;
    const { absent, cutOff, heardAt } = heard.get(region) ?? { absent: 0, cutOff: false, heardAt: null };
    const counts = { applied: count("applied"), fenced: count("fenced"), unconfirmed: count("unconfirmed") };
    return { region, ...counts, absent, cutOff, heardAt };
  });
}

/** @param of.awaitedRegion null: all. A lessee of a lost history may be in any region. */
function nodeIn(
  lessee: LesseeStatus,
  link: Link,
  { awaitedRegion, at }: Readonly<{ awaitedRegion: string | null; at: Moment }>,
): ReceiptNode {
  const { node, boot } = lessee;
  const region = isLostHistory(lessee) ? (awaitedRegion ?? lessee.region) : lessee.region;
  // The receipt does not cover open streams of a proxy that only requests decisions; the role name says so.
  const role = lessee.role === "authorize" ? "decision-only" : lessee.role;
  const base = { node, boot, region, role, enforced: lessee.enforced };
  if (lessee.enforced !== null && lessee.enforced.position >= link.position) {
    return { ...base, status: "applied", fencedInMs: null, reason: "", confirmedAt: confirmedAt(lessee, link, at) };
  }
  const fencedInMs = Math.ceil(lessee.fencedInMs);
  if (fencedInMs <= 0) return { ...base, status: "fenced", fencedInMs: 0, reason: "its lease has expired" };
  return { ...base, status: "unconfirmed", fencedInMs, reason: whyUnconfirmed(lessee, link) };
}

function confirmedAt({ confirmations }: LesseeStatus, link: Link, { monotonic, wall }: Moment): UnixMs | null {
  const first = confirmations.find(({ position }) => position >= link.position);
  return first === undefined ? null : (Math.round(wall - (monotonic - first.at)) as UnixMs);
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
