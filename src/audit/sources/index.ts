/** Entry point of the sources: where audit records are read from, and how they are found. */
export { emptyCounts, type FindCounts, type FoundRecord, findRecords } from "./find-records.ts";
export { createPostgresSource } from "./postgres-source.ts";
export { auditFiles, createFileSource, erasingSuffix } from "./record-file.ts";
export { matchesQuery, type StoredRecordQuery } from "./record-query.ts";
export type { ReadingProgress, RecordSource } from "./record-source.ts";
export { createSpoolSource, nodeOfSpoolFolder, spoolFolders } from "./record-spool.ts";
export { createS3Source } from "./s3-source.ts";
export { SeenNumbers } from "./seen-numbers.ts";
