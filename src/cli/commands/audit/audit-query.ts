/** `cardea audit query`: searches stored audit records, and exports them. */
import {
  AuditDatabaseError,
  emptyCounts,
  type FindCounts,
  type FoundRecord,
  findRecords,
  SeenNumbers,
} from "../../../audit/index.ts";
import { formatAuditLine, maskUnsafe } from "../../operator/audit-line.ts";
import { operatorOptions, type Parsed, parse } from "../../terminal/arguments.ts";
import { CannotError, type CliCommand, type ExitCode, type Terminal } from "../../terminal/command.ts";
import { fileOutput, type TextOutput, terminalOutput } from "../../terminal/text-output.ts";
import { escapeControls } from "../audit.ts";
import { createNames, type PersonNames } from "./person-names.ts";
import { formatOf, limitOf, type QueryFormat, queryOf, queryOptions, sourcesOf } from "./query-options.ts";
import { createProgress, type Progress } from "./query-progress.ts";
import { csvHead, formatCsvRow } from "./record-csv.ts";

export const auditQuery: CliCommand = {
  name: "audit query",
  usage:
    "[-c cardea.yaml [--kept postgres|files|spool|s3] | --input PATH | --address-file FILE] [--user ID] [--route ROUTE] [--result RESULT] [--region REGION] [--node NODE] [--reason REASON] [--request ID] [--id ID] [--since TIME] [--until TIME] [--limit N] [--format table|csv|ndjson] [--output FILE]",
  summary: "search stored audit records, and export them",
  help: `Reads the records where the configuration stores them: in Postgres, else in its files with their rotated files; --kept chooses. --input names a
file, or the spool folder of a node, also of a running one. --address-file names a file with the address of an audit database, --schema its schema.
A filter may be repeated, or have several values with commas: --result deny,unavailable. Others: --kind, --occasion, --session. --user takes an id, or
an e-mail that the server of -c or --url knows; --names shows e-mails, too. TIME is an age (2h, 7d), a day, or a time with its zone.
Gaps in the time are shown, and counted at the end: records that are missing may have matched. CSV and NDJSON have ids; --output writes a file as a whole or not at all.
Exit 0: complete; 1: records are missing, could not be read, or you interrupted it; 2: usage error; 3: the store did not answer.`,
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, ...queryOptions }, { min: 0, max: 0 });
    const format = formatOf(parsed);
    const limit = limitOf(parsed);
    const asked = queryOf(parsed, Date.now());
    const stop = new AbortController();
    const interrupt = (): void => stop.abort();
    process.on("SIGINT", interrupt);
    process.on("SIGTERM", interrupt);
    const progress = createProgress(terminal);
    const names = createNames(parsed, terminal);
    const path = parsed.text("output");
    try {
      const query = { ...asked, ...(asked.users === undefined ? {} : { users: await names.idsOf(asked.users) }) };
      const sources = await sourcesOf(parsed, { terminal, query, onProgress: progress.update });
      const output =
        path === undefined ? terminalOutput(terminal, () => stop.abort(outputClosed)) : await fileOutput(path);
      const search: Search = { parsed, terminal, format, limit, names, progress, output, signal: stop.signal };
      try {
        const done = await printRecords(search, (counts) => foundIn(sources, query, counts, stop.signal));
        return report(done, search);
      } finally {
        await output.abandon();
        for (const source of sources) await source.close();
      }
    } finally {
      progress.clear();
      process.removeListener("SIGINT", interrupt);
      process.removeListener("SIGTERM", interrupt);
      await names.close();
    }
  },
};

type Search = Readonly<{
  parsed: Parsed;
  terminal: Terminal;
  format: QueryFormat;
  limit: number;
  names: PersonNames;
  progress: Progress;
  output: TextOutput;
  signal: AbortSignal;
}>;
type Done = Readonly<{ found: number; counts: FindCounts; end: "complete" | "limit" | "closed" | "interrupted" }>;
/** Nothing reads the output any more, such as `head`. */
const outputClosed = Symbol("output closed");

async function* foundIn(
  sources: readonly Parameters<typeof findRecords>[0][],
  query: Parameters<typeof findRecords>[1],
  counts: FindCounts,
  signal: AbortSignal,
): AsyncGenerator<FoundRecord> {
  const seen = new SeenNumbers();
  for (const source of sources) yield* findRecords(source, query, { counts, signal, seen });
}

async function printRecords(search: Search, find: (counts: FindCounts) => AsyncGenerator<FoundRecord>): Promise<Done> {
  const { output, format, limit, signal, progress } = search;
  const counts = emptyCounts();
  let found = 0;
  let end: Done["end"] = "complete";
  if (format === "csv") await output.write(csvHead);
  try {
    for await (const one of find(counts)) {
      if (found === limit && one.record.kind !== "gap") {
        end = "limit";
        break;
      }
      if (one.record.kind !== "gap") found++;
      const text = await textOf(one, search);
      progress.clear();
      await output.write(text);
      signal.throwIfAborted();
    }
  } catch (error) {
    if (!signal.aborted) throw problemOf(error);
    end = signal.reason === outputClosed ? "closed" : "interrupted";
  }
  // What was asked for is not in the file, so there is none.
  if (end !== "interrupted" || search.parsed.text("output") === undefined) await output.finish();
  return { found, counts, end };
}

function problemOf(error: unknown): unknown {
  if (error instanceof AuditDatabaseError) return new CannotError(maskUnsafe(error.message), { cause: error });
  if (error instanceof Error && "code" in error && !(error instanceof CannotError))
    return new CannotError(`the records cannot be read: ${maskUnsafe(error.message)}`, { cause: error });
  return error;
}

async function textOf({ record, line }: FoundRecord, search: Search): Promise<string> {
  const { format, names, terminal, parsed } = search;
  const isFile = parsed.text("output") !== undefined;
  if (format === "ndjson") return `${isFile || terminal.columns === undefined ? line : escapeControls(line)}\n`;
  const known = await names.of(record);
  if (format === "csv") return formatCsvRow(record, known);
  const columns = isFile ? null : (terminal.columns?.() ?? null);
  const hasColours = (terminal.env["NO_COLOR"] ?? "") === "" && terminal.env["TERM"] !== "dumb";
  return `${formatAuditLine(record, { names: known, columns, hasColours })}\n`;
}

function report({ found, counts, end }: Done, { terminal, progress, parsed, limit, signal }: Search): ExitCode {
  progress.clear();
  if (end === "closed") return 0;
  const { read, unreadable, gaps, missingLeast, missingMost } = counts;
  const path = parsed.text("output");
  const notes = [`${found} ${found === 1 ? "record" : "records"} found, ${read} read`];
  if (gaps > 0)
    notes.push(
      `${gaps} ${gaps === 1 ? "gap" : "gaps"} in this time: ${missingLeast === missingMost ? "" : `at least ${missingLeast}, `}at most ${missingMost} records are missing, which may have matched`,
    );
  if (unreadable > 0) notes.push(`${unreadable} lines are no audit records that can be read`);
  if (end === "limit") notes.push(`stopped at the limit of ${limit}; later records and gaps were not read`);
  if (end === "interrupted" && signal.aborted)
    notes.push(path === undefined ? "interrupted" : `interrupted; ${path} was not written`);
  for (const note of notes) terminal.err(`${note}\n`);
  return gaps > 0 || unreadable > 0 || end === "interrupted" ? 1 : 0;
}
