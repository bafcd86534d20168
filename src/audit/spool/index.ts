/** Entry point of the spool: records on disk between the decision and its sinks. */
export { type GapReason, type GapRecord, gapRecordOf, gapSizes, sizeOfGap } from "./gap-record.ts";
export { type Line, RecordRing, runsPerLine } from "./record-ring.ts";
export { backlogOf, type Segment, type SpoolPosition, spoolStart, tailOf } from "./segment.ts";
export type { Damage } from "./segment-scan.ts";
export { type AuditBatch, type BatchEnd, type CursorBatch, type ReadOrder, SpoolCursor } from "./spool-cursor.ts";
export type { SpoolDisk, SpoolFile } from "./spool-disk.ts";
export { openSpoolFolder, SpoolUnusableError } from "./spool-folder.ts";
export { SpoolStore } from "./spool-store.ts";
export { AuditNotDurableError, type NotDurableReason, type Sleep, SpoolWriter } from "./spool-writer.ts";
