/**
 * Continuity: whether a store may lack beats that an earlier leader had committed, and with them rows of lessees (ADR
 * 0035).
 *
 * - Pure. Each store gathers the evidence inside the transaction that opens an epoch, and this decides what it proves.
 * - Absence of evidence is a reason: only what is named here as proof counts as one.
 * - What is held for the lost history is a row of the lessee table. The next epoch, and an older build, treat it like
 *   any other.
 */
import type { Epoch, Incarnation } from "../../events/index.ts";
import type { Lessee, OpenEpochRequest } from "./log.ts";

/** One uninterrupted run of one store: while it lasts, nothing that was flushed there can disappear. */
export type StoreRun = Readonly<{
  /** Postgres: the system identifier and the oid of the database; "": they cannot be read. */
  server: string;
  timeline: string;
  /** Differs after each start of the server. */
  start: string;
}>;

/** What a store recorded with its newest epoch. */
export type EpochRecord = Readonly<{
  incarnation: Incarnation;
  /** Null: an older build opened the epoch, a restore filled it in, or its commits did not wait for the disk. */
  run: StoreRun | null;
  /** The row was written by the transaction that it names: it was not copied here from another database. */
  written: "here" | "elsewhere";
}>;

export type StoreEvidence = Readonly<{
  run: StoreRun;
  /** Null: there is no record of the epoch in the head row. */
  previous: EpochRecord | null;
  /** The epoch in a mark that outlives a clean shutdown, and no crash and no copy of a running server. */
  mark: Incarnation | null;
}>;

type Opening = Pick<OpenEpochRequest, "expected" | "atLeast" | "led">;

/** @returns why beats of an earlier epoch may be missing; null: it is proven that none is */
export function whyBeatsMayBeLost(request: Opening, evidence: StoreEvidence): string | null {
  const unheld = whyEpochsMayBeLost(request);
  if (unheld !== null || request.expected === 0) return unheld;
  const { run, previous, mark } = evidence;
  if (previous === null || previous.run === null) return "the store does not record where the epoch before was opened";
  if (previous.run.server !== run.server) return "another Postgres server or database holds the log";
  if (previous.run.timeline !== run.timeline)
    return `Postgres is on timeline ${run.timeline}, and the epoch before was opened on ${previous.run.timeline}`;
  if (previous.written === "elsewhere") return "the log was copied into this database";
  if (previous.run.start === run.start) return null;
  if (mark !== previous.incarnation) return "Postgres did not shut down cleanly, or its files are a copy";
  return request.led === previous.incarnation
    ? null
    : "Postgres was restarted, and this broker did not lead the epoch before";
}

/** @returns a reason when an authenticated message named an epoch that the store does not have */
export function whyEpochsMayBeLost({ expected, atLeast }: Pick<Opening, "expected" | "atLeast">): string | null {
  const heard = atLeast - 1;
  return heard > expected ? `epoch ${heard} was heard of, and the store ends with epoch ${expected}` : null;
}

/**
 * The longest window that any build ever granted: the maximum of `broker.max_window`, and the limit of the builds
 * before that key.
 */
export const windowMsMax = 16 * 60_000;

export type WindowEvidence = Readonly<{
  /** The limit of the broker that opens the epoch, ms; 0: no other process can reach it. */
  requestedMs: number;
  /** The highest limit that any epoch recorded, ms; 0: none did, or no other process could reach those brokers. */
  recordedMs: number;
  /**
   * The epoch before was opened by an older build or filled in by a restore: what its broker granted is not recorded.
   */
  previous: "recorded" | "unrecorded";
  /** The rows that survive. */
  lessees: readonly Pick<Lessee, "windowMs">[];
}>;

/**
 * @returns the longest window, ms, that a lease of the lost history may have; 0: no process outside the broker's had
 * one
 */
export function lostWindowMs({ requestedMs, recordedMs, previous, lessees }: WindowEvidence): number {
  const limitMs = Math.max(requestedMs, recordedMs);
  if (limitMs === 0) return 0;
  if (previous === "unrecorded") return Math.max(limitMs, windowMsMax);
  return lessees.reduce((longestMs, { windowMs }) => Math.max(longestMs, windowMs), limitMs);
}

/** Older builds can parse it. No boot id of a node begins like this: the granter refuses such a node. */
const lostBoot = "@lost-history.";
/** For display; the boot tells what the row is. */
const unknownNodes = "@unknown-nodes" as Lessee["node"];

/** Stands for every node that may have been granted a lease on a history that is lost before this epoch. */
export function lostHistory(epoch: Epoch, windowMs: number): Lessee {
  const boot = `${lostBoot}${epoch}` as Lessee["boot"];
  return { node: unknownNodes, boot, region: "*", role: "proxy", windowMs };
}

export function isLostHistory({ boot }: Readonly<{ boot: string }>): boolean {
  return boot.startsWith(lostBoot);
}
