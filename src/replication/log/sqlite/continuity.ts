/**
 * SQLite continuity: the records that a file log keeps beside its lessees, and the check whether some may be missing
 * (continuity.ts). Also the rows of admitted nodes, from which no lease follows.
 *
 * The mark changes with each epoch and each lessee written, so an older copy of either file names another mark. The
 * mark is written before the transaction commits. A crash between the two makes them differ, which only delays
 * receipts.
 */
import type { SQLInputValue } from "node:sqlite";
import type { Epoch } from "../../../events/index.ts";
import { lostHistory, lostWindowMs, whyEpochsMayBeLost } from "../continuity.ts";
import type { AdmittedNode, Lessee, NodeName, OpenEpochRequest } from "../log.ts";
import { insert } from "./inserts.ts";
import { readMark, writeMark } from "./mark-file.ts";
import type { SqliteRow } from "./rows.ts";

export type LeaseTables = Readonly<{
  path: string;
  run: (sql: string, values: readonly SQLInputValue[]) => unknown;
  get: (sql: string, values: readonly SQLInputValue[]) => SqliteRow | undefined;
}>;

type Writer = Pick<OpenEpochRequest, "incarnation"> & Readonly<{ epoch: Epoch; beat: number }>;

/**
 * Runs within the transaction that opens an epoch. @returns why beats of an earlier epoch may be missing; null: none is
 */
export function openLeases(
  tables: LeaseTables,
  request: Pick<OpenEpochRequest, "incarnation" | "expected" | "atLeast" | "windowMaxMs">,
  opened: Readonly<{ epoch: Epoch; beat: number }>,
): string | null {
  const kept = tables.get("select epoch, mark, window_max_ms from lease_mark", []);
  const beatsLost = whyLost(tables.path, request, kept);
  const windowMs = lostWindowMs({
    requestedMs: request.windowMaxMs,
    recordedMs: Number(kept?.["window_max_ms"] ?? 0),
    previous: kept?.["epoch"] === request.expected ? "recorded" : "unrecorded",
    lessees: [{ windowMs: Number(tables.get("select max(window_ms) as longest from lessee", [])?.["longest"] ?? 0) }],
  });
  if (beatsLost !== null && windowMs > 0) putLessee(tables, lostHistory(opened.epoch, windowMs));
  putMark(tables, { ...opened, incarnation: request.incarnation, windowMaxMs: request.windowMaxMs });
  return beatsLost;
}

/** Runs within the transaction of a beat. */
export function writeLessees(tables: LeaseTables, lessees: readonly Lessee[], writer: Writer): void {
  if (lessees.length === 0) return;
  for (const lessee of lessees) putLessee(tables, lessee);
  putMark(tables, { ...writer, windowMaxMs: 0 });
}

export function readLessees(rows: readonly SqliteRow[]): readonly Lessee[] {
  return rows.map((row) => ({
    node: row["node"] as Lessee["node"],
    boot: row["boot"] as Lessee["boot"],
    region: row["region"] as string,
    role: row["role"] as Lessee["role"],
    windowMs: row["window_ms"] as number,
  }));
}

/** Runs within the transaction of a beat or an append. */
export function writeNodes(
  run: LeaseTables["run"],
  { departed, admitted }: Readonly<{ departed: readonly NodeName[]; admitted: readonly AdmittedNode[] }>,
): void {
  for (const { node, role } of departed) run("delete from admitted_node where node = ? and role = ?", [node, role]);
  for (const { node, role, region, boot, heardAt, applied } of admitted)
    run(insert.admittedNode, [node, role, region, boot, heardAt, applied]);
}

function whyLost(
  path: string,
  request: Pick<OpenEpochRequest, "expected" | "atLeast">,
  kept: SqliteRow | undefined,
): string | null {
  const unheld = whyEpochsMayBeLost(request);
  if (unheld !== null || request.expected === 0) return unheld;
  if (kept?.["epoch"] !== request.expected)
    return "an older version opened the previous epoch, or the log was restored";
  const mark = kept["mark"];
  if (mark === null) return "this system cannot distinguish a file from its copy";
  return readMark(markPath(path)) === mark ? null : "the log is a copy, or the machine was restarted";
}

function putLessee({ run }: LeaseTables, { node, boot, region, role, windowMs }: Lessee): void {
  run(insert.lessee, [node, boot, region, role, windowMs]);
}

function putMark({ run, path }: LeaseTables, writer: Writer & Readonly<{ windowMaxMs: number }>): void {
  const { epoch, incarnation, beat, windowMaxMs } = writer;
  run(insert.leaseMark, [epoch, writeMark(markPath(path), `${incarnation}.${beat}`), windowMaxMs]);
}

function markPath(path: string): string {
  return `${path}-mark`;
}
