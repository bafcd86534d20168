/** Query options: what the arguments of `cardea audit query` ask for, and where it is stored. */
import { readFileSync, statSync } from "node:fs";
import {
  auditFiles,
  connectS3,
  createFileSource,
  createPostgresSource,
  createS3Source,
  createSpoolSource,
  nodeOfSpoolFolder,
  parseRecordId,
  type ReadingProgress,
  type RecordSource,
  type StoredRecordQuery,
  spoolFolders,
} from "../../../audit/index.ts";
import { readLocalConfig } from "../../build/local-config.ts";
import type { Parsed } from "../../terminal/arguments.ts";
import { type Terminal, UsageError } from "../../terminal/command.ts";
import { parseTime } from "../../terminal/time-box.ts";

const many = { type: "string", multiple: true } as const;

export const queryOptions = {
  user: many,
  route: many,
  result: many,
  region: many,
  node: many,
  reason: many,
  kind: many,
  occasion: many,
  session: many,
  request: many,
  id: many,
  input: many,
  since: { type: "string" },
  until: { type: "string" },
  limit: { type: "string" },
  format: { type: "string" },
  output: { type: "string", short: "o" },
  kept: { type: "string" },
  "address-file": { type: "string" },
  schema: { type: "string" },
  names: { type: "boolean" },
} as const;

const formats = ["table", "csv", "ndjson"] as const;
export type QueryFormat = (typeof formats)[number];

const unitMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** @throws UsageError */
export function queryOf(parsed: Parsed, nowMs: number): StoredRecordQuery {
  const values = (option: string): readonly string[] | undefined => {
    const all = parsed.all(option).flatMap((text) => text.split(","));
    if (all.some((text) => text === "")) throw new UsageError(`--${option} has an empty value`);
    return all.length === 0 ? undefined : all;
  };
  const since = parsed.text("since");
  const until = parsed.text("until");
  const query = {
    users: values("user"),
    routes: values("route"),
    results: values("result"),
    regions: values("region"),
    nodes: values("node"),
    reasons: values("reason"),
    kinds: values("kind"),
    occasions: values("occasion"),
    sessions: values("session"),
    requests: values("request"),
    ids: values("id"),
    sinceMs: since === undefined ? undefined : timeOf(since, "--since", nowMs),
    untilMs: until === undefined ? undefined : timeOf(until, "--until", nowMs),
  };
  const wrong = query.ids?.find((id) => parseRecordId(id) === undefined);
  if (wrong !== undefined) throw new UsageError(`--id ${wrong}: a record id is <boot>:<number>`);
  if (query.sinceMs !== undefined && query.untilMs !== undefined && query.sinceMs >= query.untilMs)
    throw new UsageError("--since must be before --until");
  return Object.fromEntries(Object.entries(query).filter(([, value]) => value !== undefined));
}

function timeOf(text: string, option: string, nowMs: number): number {
  const [, count, unit = ""] = /^(\d{1,6})([smhdw])$/.exec(text) ?? [];
  if (count !== undefined) return nowMs - Number(count) * (unitMs[unit] ?? 0);
  if (/^\d{4}-\d{2}-\d{2}$/.test(text) && Number.isFinite(Date.parse(text))) return Date.parse(text);
  return Date.parse(parseTime(text, option, "an age such as 2h or 7d, a day such as 2026-12-01, or a time"));
}

/** @throws UsageError */
export function formatOf(parsed: Parsed): QueryFormat {
  const written = parsed.text("format") ?? (parsed.flag("json") ? "ndjson" : "table");
  const format = formats.find((one) => one === written);
  if (format === undefined) throw new UsageError(`--format ${written}: write ${formats.join(", ")}`);
  return format;
}

/** @returns Infinity if there is none. @throws UsageError */
export function limitOf(parsed: Parsed): number {
  const written = parsed.text("limit");
  if (written === undefined) return Number.POSITIVE_INFINITY;
  const limit = Number(written);
  if (!Number.isSafeInteger(limit) || limit < 1) throw new UsageError("--limit takes a number from 1");
  return limit;
}

type SourceContext = Readonly<{ terminal: Terminal; query: StoredRecordQuery; onProgress: ReadingProgress }>;

/** Where the records are: what `--input` or `--address-file` names, else what the configuration does. */
export async function sourcesOf(parsed: Parsed, context: SourceContext): Promise<readonly RecordSource[]> {
  const inputs = parsed.all("input");
  const addressFile = parsed.text("address-file");
  const kept = parsed.text("kept");
  if ([inputs.length > 0, addressFile !== undefined, kept !== undefined].filter(Boolean).length > 1)
    throw new UsageError("--input, --address-file and --kept exclude each other");
  if (inputs.length > 0) return (await Promise.all(inputs.map((path) => inputSource(path, context)))).flat();
  const schema = parsed.text("schema") ?? "audit";
  if (addressFile !== undefined) return [postgresSource(readAddress(addressFile), schema, context)];
  const path = parsed.text("config");
  if (path === undefined) throw new UsageError("name a configuration with -c, files with --input, or --address-file");
  const { audit, certificateAuthority } = readLocalConfig(path, context.terminal, parsed.text("data-dir"));
  const file = audit.files.find(({ format }) => format !== "ocsf")?.path;
  const place = kept ?? (audit.postgres === null ? "files" : "postgres");
  if (place === "spool") return spoolSources(audit.spoolDir, context);
  if (place === "postgres" && audit.postgres !== null)
    return [postgresSource(audit.postgres.connectionString, audit.postgres.schema, context)];
  if (place === "files" && file !== undefined) return [filesSource(file, context)];
  const buckets = audit.s3.filter(({ format }) => format !== "ocsf");
  if (place === "s3" && buckets.length > 0)
    return Promise.all(
      buckets.map(async (bucket) => createS3Source(bucket, await connectS3(bucket, certificateAuthority))),
    );
  if (!["files", "postgres", "spool", "s3"].includes(place))
    throw new UsageError(`--kept ${place}: write postgres, files, spool or s3`);
  throw new UsageError(`${path} stores no records in ${place}, or only in OCSF, from which none can be read back`);
}

function postgresSource(connectionString: string, schema: string, { query, onProgress }: SourceContext): RecordSource {
  try {
    return createPostgresSource({ connectionString, schema, query, onProgress });
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : "the address of the database is wrong", { cause });
  }
}

function readAddress(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (cause) {
    throw new UsageError(`--address-file ${path} cannot be read`, { cause });
  }
}

/** A folder is a spool; a file is read with its rotated files. */
async function inputSource(path: string, context: SourceContext): Promise<readonly RecordSource[]> {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new UsageError(`--input ${path}: there is no such file`);
  return found.isDirectory() ? spoolSources(path, context) : [filesSource(path, context)];
}

function filesSource(path: string, { query, onProgress }: SourceContext): RecordSource {
  const files = auditFiles(path, query.sinceMs ?? 0);
  if (files.length === 0) throw new UsageError(`${path} cannot be read: there is no such file`);
  return createFileSource(path, files, { onProgress });
}

async function spoolSources(path: string, { onProgress }: SourceContext): Promise<readonly RecordSource[]> {
  const folders = await spoolFolders(path).catch((cause: unknown) => {
    throw new UsageError(`${path} cannot be read`, { cause });
  });
  if (folders.length === 0) throw new UsageError(`${path} has no spool of a node`);
  return folders.map((folder) =>
    createSpoolSource(folder, nodeOfSpoolFolder(folder), { nowMs: () => Date.now(), onProgress }),
  );
}
