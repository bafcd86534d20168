/** Find records: the records of a source that a query asks for, each once, and what is missing among them. Pure. */
import { type AuditRecord, parseLine, withoutEnvelope } from "../audit-record.ts";
import { gapSizes } from "../spool/index.ts";
import { matchesQuery, type StoredRecordQuery } from "./record-query.ts";
import type { RecordSource } from "./record-source.ts";
import { SeenNumbers } from "./seen-numbers.ts";

/** Longest name of a boot, UTF-16 units. */
const nameCharsMax = 200;

/** @param line the record as one line of JSON, without an envelope */
export type FoundRecord = Readonly<{ record: AuditRecord; line: string }>;

export type FindCounts = {
  /** Lines read, and those of them that no version can read or that are of another format. */
  read: number;
  unreadable: number;
  repeated: number;
  /** Gaps in the time of the query, and how many records they say are missing, at least and at most. */
  gaps: number;
  missingLeast: number;
  missingMost: number;
};

export function emptyCounts(): FindCounts {
  return { read: 0, unreadable: 0, repeated: 0, gaps: 0, missingLeast: 0, missingMost: 0 };
}

/** @param counts changed while records are found @param seen shared by sources of which a record may be in several */
export async function* findRecords(
  source: RecordSource,
  query: StoredRecordQuery,
  {
    counts,
    signal,
    seen = new SeenNumbers(),
  }: Readonly<{ counts: FindCounts; signal?: AbortSignal; seen?: SeenNumbers }>,
): AsyncGenerator<FoundRecord> {
  const { sinceMs, untilMs } = query;
  const of = {
    ...(sinceMs === undefined ? {} : { fromMs: sinceMs }),
    ...(untilMs === undefined ? {} : { toMs: untilMs }),
    ...(signal === undefined ? {} : { signal }),
  };
  for await (const line of source.lines(of)) {
    counts.read++;
    const found = recordIn(line);
    if (found === undefined) {
      counts.unreadable++;
      continue;
    }
    const { record } = found;
    // A gap has the number of its last record, which may have been stored after all.
    const series = `${record.kind === "gap" ? "gap" : "record"} ${record.boot}`;
    if (!seen.add(series, record.seq)) {
      counts.repeated++;
      continue;
    }
    if (!matchesQuery(record, query)) continue;
    if (record.kind === "gap") {
      counts.gaps++;
      const { least, most } = gapSizes(record);
      counts.missingLeast += least;
      counts.missingMost += most;
    }
    yield found;
  }
}

function recordIn(line: string): FoundRecord | undefined {
  const record = parseLine(line);
  if (record !== undefined) return isWhole(record) ? { record, line } : undefined;
  const inner = JSON.stringify(withoutEnvelope(parseJson(line)));
  const enclosed = inner === undefined ? undefined : parseLine(inner);
  return enclosed !== undefined && isWhole(enclosed) ? { record: enclosed, line: inner } : undefined;
}

/** Whether the parts that a query compares are there. */
function isWhole(record: AuditRecord): boolean {
  if (typeof record.boot !== "string" || record.boot.length > nameCharsMax) return false;
  if (typeof record.node !== "string" || !Number.isFinite(record.at)) return false;
  if (record.kind === "decision") return Array.isArray(record.reasons);
  if (record.kind === "gap") return Number.isSafeInteger(record.first) && Number.isSafeInteger(record.last);
  return Array.isArray(record.targets);
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
