/**
 * Continuity check: decides whether a store may lack beats that an earlier leader committed, and with them rows of
 * lessees (ADR 0035).
 *
 * - Pure. Each store gathers the evidence inside the transaction that opens an epoch; this module evaluates it.
 * - Missing evidence counts as a reason. Only what this module names counts as proof.
 * - A row of the lessee table represents the lost history. The next epoch and older builds treat it like any other row.
 */
import type { Epoch, Incarnation } from "../../events/index.ts";
import type { Lessee, OpenEpochRequest } from "./log.ts";

/** One uninterrupted run of one store: while it lasts, nothing that was flushed there can disappear. */
export type StoreRun = Readonly<{
  /** Postgres: the system identifier and the database oid. "": they cannot be read. */
  server: string;
  timeline: string;
  /** Changes at each start of the server. */
  start: string;
}>;

/** What a store recorded with its newest epoch. */
export type EpochRecord = Readonly<{
  incarnation: Incarnation;
  /** Null: an older build opened the epoch, a restore filled it in, or its commits did not wait for the disk. */
  run: StoreRun | null;
  /** `here`: the transaction that the row names wrote it. `elsewhere`: the row was copied from another database. */
  written: "here" | "elsewhere";
}>;

export type StoreEvidence = Readonly<{
  run: StoreRun;
  /** Null: the head row holds no record of the epoch. */
  previous: EpochRecord | null;
  /** The epoch named by a mark that survives a clean shutdown, but neither a crash nor a copy of a running server. */
  mark: Incarnation | null;
}>;

type Opening = Pick<OpenEpochRequest, "expected" | "atLeast" | "led">;

/** @returns why beats of an earlier epoch may be missing; null: none is missing, and the evidence proves it */
export function whyBeatsMayBeLost(request: Opening, evidence: StoreEvidence): string | null {
  const unheld = whyEpochsMayBeLost(request);
  if (unheld !== null || request.expected === 0) return unheld;
  const { run, previous, mark } = evidence;
  if (previous === null || previous.run === null)
    return "the store does not record where the previous epoch was opened";
  if (previous.run.server !== run.server) return "another Postgres server or database holds the log";
  if (previous.run.timeline !== run.timeline)
    return `Postgres is on timeline ${run.timeline}, and the previous epoch was opened on ${previous.run.timeline}`;
  if (previous.written === "elsewhere") return "the log was copied into this database";
  if (previous.run.start === run.start) return null;
  if (mark !== previous.incarnation) return "Postgres did not shut down cleanly, or its files are a copy";
  return request.led === previous.incarnation
    ? null
    : "Postgres was restarted, and this broker did not lead the previous epoch";
}

/** @returns a reason when an authenticated message named an epoch that the store does not have */
export function whyEpochsMayBeLost({ expected, atLeast }: Pick<Opening, "expected" | "atLeast">): string | null {
  const named = atLeast - 1;
  return named > expected ? `a message named epoch ${named}, and the store ends with epoch ${expected}` : null;
}

/**
 * The longest window that any build ever granted, in ms: the maximum of `broker.max_window`, and the limit of builds
 * that predate that key.
 */
export const windowMsMax = 16 * 60_000;

export type WindowEvidence = Readonly<{
  /** The limit of the broker that opens the epoch, ms. 0: no other process can reach that broker. */
  requestedMs: number;
  /**
   * The highest limit that any epoch recorded, ms. 0: no epoch recorded one, or no other process could reach those
   * brokers.
   */
  recordedMs: number;
  /**
   * `unrecorded`: an older build opened the previous epoch or a restore filled it in, so the windows that its broker
   * granted are unknown.
   */
  previous: "recorded" | "unrecorded";
  /** The lessee rows that survive. */
  lessees: readonly Pick<Lessee, "windowMs">[];
}>;

/**
 * @returns the longest window, ms, that a lease of the lost history may have; 0: no process other than the broker held
 * a lease
 */
export function lostWindowMs({ requestedMs, recordedMs, previous, lessees }: WindowEvidence): number {
  const limitMs = Math.max(requestedMs, recordedMs);
  if (limitMs === 0) return 0;
  if (previous === "unrecorded") return Math.max(limitMs, windowMsMax);
  return lessees.reduce((longestMs, { windowMs }) => Math.max(longestMs, windowMs), limitMs);
}

/**
 * Prefix of the boot id of a lost-history row. Older builds can parse it. The granter refuses a node whose boot id
 * begins with it.
 */
const lostBoot = "@lost-history.";
/** For display. The boot id identifies the row. */
const unknownNodes = "@unknown-nodes" as Lessee["node"];

/** Represents every node that may hold a lease granted on a history that was lost before this epoch. */
export function lostHistory(epoch: Epoch, windowMs: number): Lessee {
  const boot = `${lostBoot}${epoch}` as Lessee["boot"];
  return { node: unknownNodes, boot, region: "*", role: "proxy", windowMs };
}

export function isLostHistory({ boot }: Readonly<{ boot: string }>): boolean {
  return boot.startsWith(lostBoot);
}
