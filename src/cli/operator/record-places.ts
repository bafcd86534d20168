/** Record places: where a configuration stores audit records, and how one decision is searched for in each. */
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

export const recordPlaces = ["nats", "postgres", "files", "spool", "s3"] as const;
export type RecordPlace = (typeof recordPlaces)[number];
type PlacesConfig = Pick<Config, "audit" | "nats" | "certificateAuthority">;

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
  place: Exclude<RecordPlace, "nats">,
  config: PlacesConfig,
): Promise<readonly DecisionEntry[]> {
  const query: StoredRecordQuery = parseRecordId(id) === undefined ? { requests: [id] } : { ids: [id] };
  const found: DecisionEntry[] = [];
  for (const source of await sourcesIn(place, config, query)) {
    try {
      for await (const { record } of findRecords(source, query, { counts: emptyCounts() }))
        if (hasRecordId(record, id)) found.push(record);
    } finally {
      await source.close();
    }
  }
  return found;
}

async function sourcesIn(
  place: Exclude<RecordPlace, "nats">,
  { audit, certificateAuthority }: PlacesConfig,
  query: StoredRecordQuery,
): Promise<readonly RecordSource[]> {
  switch (place) {
    case "postgres":
      return audit.postgres === null ? [] : [createPostgresSource({ ...audit.postgres, query })];
    case "files":
      return audit.files
        .filter(({ format }) => format !== "ocsf")
        .map(({ path }) => createFileSource(path, auditFiles(path, 0)));
    case "spool":
      return (await spoolFolders(audit.spoolDir).catch(() => [])).map((folder) =>
        createSpoolSource(folder, nodeOfSpoolFolder(folder), { nowMs: () => Date.now() }),
      );
    case "s3":
      return Promise.all(
        audit.s3
          .filter(({ format }) => format !== "ocsf")
          .map(async (bucket) => createS3Source(bucket, await connectS3(bucket, certificateAuthority))),
      );
  }
}
