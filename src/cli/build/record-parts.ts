/** Data sets of a configuration: kept up to date while it is in force, or read once for a command. */
import {
  createLocalFetch,
  type RecordFetch,
  type Records,
  readRecordsOnce,
  startRecordLoader,
} from "../../auth/index.ts";
import { type Config, canonicalJson } from "../../config/index.ts";
import type { Logger } from "../../replication/index.ts";
import { systemClock } from "../../replication/runtime/index.ts";
import type { LoadedConfig } from "./load.ts";

/** How long a start or a reload waits for the sources. Later data is unknown until it arrives. */
const firstReadMs = 10_000;
const connectMs = 10_000;

function fetchOf(config: Config): Readonly<{ fetch: RecordFetch; close(): Promise<void> }> {
  const longestMs = Math.max(connectMs, ...config.dataSources.map(({ timeoutMs }) => timeoutMs));
  const local = createLocalFetch({
    hosts: config.hostAliases,
    timeoutMs: longestMs,
    ...(config.certificateAuthority === null ? {} : { ca: config.certificateAuthority }),
  });
  return { fetch: (url, init) => local.fetch(url, init), close: () => local.close() };
}

/**
 * @param before the previous configuration: an unchanged source starts with its last data
 * @returns after each source was tried, or after a bounded wait
 */
export async function startRecords(
  { config, records }: LoadedConfig,
  {
    before,
    logger,
    onChange,
  }: Readonly<{ before: LoadedConfig | null; logger: Logger; onChange: (type: string) => void }>,
): Promise<Readonly<{ stop(): Promise<void> }>> {
  if (config.dataSources.length === 0) return { async stop() {} };
  for (const source of config.dataSources) {
    const same = before?.config.dataSources.find((other) => canonicalJson(other) === canonicalJson(source));
    const known = same === undefined ? undefined : before?.records.get(source.type);
    if (known !== undefined) records.get(source.type)?.adopt(known);
  }
  const { fetch, close } = fetchOf(config);
  const { dataSources: sources } = config;
  const loader = startRecordLoader({
    sources,
    sets: records,
    fetch,
    monotonic: systemClock.monotonic,
    onChange,
    log: logger,
  });
  let timer: NodeJS.Timeout | undefined;
  const waited = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, firstReadMs);
  });
  await Promise.race([loader.firstAttempts, waited]);
  clearTimeout(timer);
  return {
    async stop() {
      await loader.stop();
      await close();
    },
  };
}

/** @returns problems by type; such a set stays unknown */
export async function readRecords(config: Config, records: Records): Promise<ReadonlyMap<string, string>> {
  if (config.dataSources.length === 0) return new Map();
  const { fetch, close } = fetchOf(config);
  try {
    return await readRecordsOnce({ sources: config.dataSources, sets: records, fetch }, new AbortController().signal);
  } finally {
    await close();
  }
}
