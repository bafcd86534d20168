/** Verify records: checks the audit files of all processes against the seals in the log, as the product does. */
import { basename } from "node:path";
import {
  auditFiles,
  createFileSource,
  openEvidence,
  RecordCheck,
  type RecordFinding,
  SealIndex,
} from "../../src/audit/index.ts";
import type { Link } from "../../src/events/index.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import type { VerifiedRecords } from "../judge/history.ts";

/** An event of the log that seals records. */
export type SealEntry = Readonly<{ previous: Link; bytes: Uint8Array }>;

export async function verifyRecords(
  processes: readonly Pick<ClusterProcess, "auditFile">[],
  entries: readonly SealEntry[],
): Promise<VerifiedRecords> {
  const index = new SealIndex();
  const problems: string[] = [];
  for (const entry of entries) {
    const opened = openEvidence({ ...entry, receipt: null });
    if (typeof opened === "string") problems.push(`a seal of the log is refused: ${opened}`);
    else index.add(opened);
  }
  const check = new RecordCheck(index, { partial: false });
  for (const { auditFile } of processes) {
    const source = createFileSource(basename(auditFile), auditFiles(auditFile, 0));
    for await (const line of source.lines({})) check.take(line);
    await source.close();
  }
  const { findings, verified, boots } = check.finish();
  const unhashed = boots.reduce((sum, boot) => sum + boot.unhashed, 0);
  return { seals: index.count, verified, unhashed, problems: [...problems, ...findings.map(textOf)] };
}

function textOf({ kind, node, boot, first, last, detail }: RecordFinding): string {
  return `${kind}: ${node} ${boot.slice(-6)} records ${first} to ${last}: ${detail}`;
}
