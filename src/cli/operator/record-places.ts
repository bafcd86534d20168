/**
 * Record places: where audit records are stored, by a configuration or by the arguments of a command, and how one
 * decision is searched for in each.
 */
import {
  auditFiles,
  connectS3,
  createFileSource,
  createPostgresSource,
  createS3Source,
  createSpoolSource,
  type DecisionEntry,
  emptyCounts,
  findRecords,
  hasRecordId,
  nodeOfSpoolFolder,
  parseRecordId,
  type RecordSource,
  type StoredRecordQuery,
  spoolFolders,
} from "../../audit/index.ts";
import type { Config } from "../../config/index.ts";
import { readLocalConfig } from "../build/local-config.ts";
import type { Parsed } from "../terminal/arguments.ts";
import { CannotError, type Terminal, UsageError } from "../terminal/command.ts";

export const recordPlaces = ["nats", "postgres", "files", "spool", "s3"] as const;
export type RecordPlace = (typeof recordPlaces)[number];
type StoredPlace = Exclude<RecordPlace, "nats">;
type PlacesConfig = Pick<Config, "audit" | "nats" | "certificateAuthority">;

export type PlaceProgress = (done: number, total: number, unit: "bytes" | "days" | "segments") => void;

/** In the order in which a search for one record tries them: what answers fastest first. */
export function placesOf({ audit, nats }: PlacesConfig): readonly RecordPlace[] {
  const has: Readonly<Record<RecordPlace, boolean>> = {
    nats: audit.nats && nats !== null,
    postgres: audit.postgres !== null,
    files: audit.files.some(({ format }) => format !== "ocsf"),
    spool: true,
    s3: audit.s3.some(({ format }) => format !== "ocsf"),
  };
  return recordPlaces.filter((place) => has[place]);
}

/** @returns the decisions with this record id or request id. @throws if the place cannot be read */
export async function findInPlace(
  id: string,
  place: StoredPlace,
  config: PlacesConfig,
): Promise<readonly DecisionEntry[]> {
  const query: StoredRecordQuery = parseRecordId(id) === undefined ? { requests: [id] } : { ids: [id] };
  const found: DecisionEntry[] = [];
  for (const source of await sourcesIn(place, config, { query })) {
    try {
      for await (const { record } of findRecords(source, query, { counts: emptyCounts() }))
        if (hasRecordId(record, id)) found.push(record);
    } finally {
      await source.close();
    }
  }
  return found;
}

export const placeOptions = {
  spool: { type: "string", multiple: true },
  kept: { type: "string" },
} as const;

/**
 * The sources that the arguments of a command name, in the order in which they are read.
 * @param paths one file, with its rotated ones, or several, in the order in which they are read
 */
export async function namedSources(
  parsed: Parsed,
  terminal: Terminal,
  { paths, onProgress }: Readonly<{ paths: readonly string[]; onProgress: PlaceProgress }>,
): Promise<readonly RecordSource[]> {
  const kept = parsed.text("kept");
  if (kept !== undefined && !isStoredPlace(kept)) throw new UsageError("--kept takes files, postgres, s3 or spool");
  const spools = parsed.all("spool").map((path) => spoolSource(path, { onProgress }));
  const [only] = paths;
  if (paths.length === 1 && only !== undefined) return [fileSource(only, { onProgress }), ...spools];
  if (paths.length > 1) return [createFileSource("files", paths, { onProgress }), ...spools];
  if (spools.length > 0 && kept === undefined) return spools;
  const path = parsed.text("config");
  if (path === undefined)
    throw new UsageError("name the files with records, or the configuration that says where they are with -c");
  const config = readLocalConfig(path, terminal);
  const place = kept ?? "files";
  if (place !== "spool" && !placesOf(config).includes(place)) throw new UsageError(`${path} ${lacks[place]}`);
  return [...(await sourcesIn(place, config, { onProgress, isCheck: true })), ...spools];
}

const lacks: Readonly<Record<Exclude<StoredPlace, "spool">, string>> = {
  postgres: "names no Postgres in audit.sinks",
  s3: "names no object storage from which records can be read back",
  files: "names no audit file from which records can be read back; name files",
};

/** The lines of sources, one after the other; all are closed at the end. */
export async function* linesOf(sources: readonly RecordSource[]): AsyncGenerator<string> {
  try {
    for (const source of sources) yield* source.lines({});
  } finally {
    for (const source of sources) await source.close();
  }
}

type Progress = Readonly<{ onProgress?: PlaceProgress }>;
type SourceOptions = Progress &
  Readonly<{
    query?: StoredRecordQuery;
    /** Of several files or buckets, which have the same records, the first, which must be there. */
    isCheck?: true;
  }>;

async function sourcesIn(
  place: StoredPlace,
  { audit, certificateAuthority }: PlacesConfig,
  { isCheck, query, ...progress }: SourceOptions,
): Promise<readonly RecordSource[]> {
  const storesMax = isCheck === true ? 1 : undefined;
  switch (place) {
    case "postgres": {
      if (audit.postgres === null) return [];
      const { schema, connectionString } = audit.postgres;
      return [
        createPostgresSource({ schema, connectionString, ...progress, ...(query === undefined ? {} : { query }) }),
      ];
    }
    case "files": {
      const files = audit.files.filter(({ format }) => format !== "ocsf").slice(0, storesMax);
      if (isCheck === true) return files.map(({ path }) => fileSource(path, progress));
      return files.map(({ path }) => createFileSource(path, auditFiles(path, 0), progress));
    }
    case "spool": {
      const found = spoolFolders(audit.spoolDir);
      const folders = await (isCheck === true ? found : found.catch(() => []));
      return folders.map((folder) => spoolSource(folder, progress));
    }
    case "s3": {
      const buckets = audit.s3.filter(({ format }) => format !== "ocsf").slice(0, storesMax);
      return Promise.all(
        buckets.map(async (bucket) => createS3Source(bucket, await connectS3(bucket, certificateAuthority))),
      );
    }
  }
}

function spoolSource(path: string, progress: Progress): RecordSource {
  return createSpoolSource(path, nodeOfSpoolFolder(path), { nowMs: () => Date.now(), ...progress });
}

function fileSource(path: string, progress: Progress): RecordSource {
  const files = auditFiles(path, 0);
  if (files.length === 0) throw new CannotError(`${path} cannot be read: there is no such file`);
  return createFileSource(path, files, progress);
}

function isStoredPlace(name: string): name is StoredPlace {
  return name !== "nats" && (recordPlaces as readonly string[]).includes(name);
}
