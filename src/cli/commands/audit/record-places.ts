/** Where the commands that check and prove audit records read them: files, spools of nodes, or Postgres. */
import {
  auditFiles,
  connectS3,
  createFileSource,
  createPostgresSource,
  createS3Source,
  createSpoolSource,
  nodeOfSpoolFolder,
  type RecordSource,
  spoolFolders,
} from "../../../audit/index.ts";
import { readLocalConfig } from "../../build/local-config.ts";
import type { Parsed } from "../../terminal/arguments.ts";
import { CannotError, type Terminal, UsageError } from "../../terminal/command.ts";

export const placeOptions = {
  spool: { type: "string", multiple: true },
  kept: { type: "string" },
} as const;

export type PlaceProgress = (done: number, total: number, unit: "bytes" | "days" | "segments") => void;

/**
 * The sources that the arguments name, in the order in which they are read.
 * @param paths one file, with its rotated ones, or several, in the order in which they are read
 */
export async function recordPlaces(
  parsed: Parsed,
  terminal: Terminal,
  { paths, onProgress }: Readonly<{ paths: readonly string[]; onProgress: PlaceProgress }>,
): Promise<readonly RecordSource[]> {
  const kept = parsed.text("kept");
  const places = ["files", "postgres", "s3", "spool"];
  if (kept !== undefined && !places.includes(kept)) throw new UsageError("--kept takes files, postgres, s3 or spool");
  const spools = parsed.all("spool").map((path) => spoolSource(path, onProgress));
  const [only] = paths;
  if (paths.length === 1 && only !== undefined) return [fileSource(only, onProgress), ...spools];
  if (paths.length > 1) return [createFileSource("files", paths, { onProgress }), ...spools];
  if (spools.length > 0 && kept === undefined) return spools;
  const config = parsed.text("config");
  if (config === undefined)
    throw new UsageError("name the files with records, or the configuration that says where they are with -c");
  const { audit, certificateAuthority } = readLocalConfig(config, terminal);
  if (kept === "postgres") {
    if (audit.postgres === null) throw new UsageError(`${config} names no Postgres in audit.sinks`);
    const { schema, connectionString } = audit.postgres;
    return [createPostgresSource({ connectionString, schema, onProgress }), ...spools];
  }
  if (kept === "s3") {
    const bucket = audit.s3.find(({ format }) => format !== "ocsf");
    if (bucket === undefined)
      throw new UsageError(`${config} names no object storage from which records can be read back`);
    return [createS3Source(bucket, await connectS3(bucket, certificateAuthority)), ...spools];
  }
  if (kept === "spool") {
    const folders = await spoolFolders(audit.spoolDir);
    return [...folders.map((folder) => spoolSource(folder, onProgress)), ...spools];
  }
  const file = audit.files.find(({ format }) => format !== "ocsf");
  if (file === undefined)
    throw new UsageError(`${config} names no audit file from which records can be read back; name files`);
  return [fileSource(file.path, onProgress), ...spools];
}

function spoolSource(path: string, onProgress: PlaceProgress): RecordSource {
  return createSpoolSource(path, nodeOfSpoolFolder(path), { nowMs: () => Date.now(), onProgress });
}

function fileSource(path: string, onProgress: PlaceProgress): RecordSource {
  const files = auditFiles(path, 0);
  if (files.length === 0) throw new CannotError(`${path} cannot be read: there is no such file`);
  return createFileSource(path, files, { onProgress });
}

/** The lines of sources, one after the other; all are closed at the end. */
export async function* linesOf(sources: readonly RecordSource[]): AsyncGenerator<string> {
  try {
    for (const source of sources) yield* source.lines({});
  } finally {
    for (const source of sources) await source.close();
  }
}
