/**
 * Newest log: opens the log that a configuration names for reading, from the Postgres server that holds its newest
 * proven epoch.
 */
import type { Config } from "../../config/index.ts";
import {
  type LogReader,
  LogRefusedError,
  LogUnavailableError,
  type NewestHead,
  openPostgresReader,
  readServerHeads,
  type SeenHeads,
  type ServerHead,
} from "../../replication/log/index.ts";
import { CannotError } from "../terminal/command.ts";
import { openLog } from "./open-log.ts";

/** `heads`: null for a log that is not in Postgres. */
export type NewestLog = Readonly<{ log: LogReader; heads: (SeenHeads & NewestHead) | null }>;

/** @throws CannotError in one line that says what to do */
export async function openNewestLog(config: Config): Promise<NewestLog> {
  const { store } = config;
  if (store.type !== "postgres") return { log: await openLog(config, undefined), heads: null };
  const { connectionString } = store;
  const cluster = config.broker.clusterName;
  try {
    const heads = await readServerHeads({ connectionString, cluster });
    const { newest } = heads;
    if (newest === null) throw new CannotError(`cannot open the event log: ${nothingIn(heads, cluster)}`);
    return { heads, log: await openPostgresReader({ connectionString, cluster, host: newest.host }) };
  } catch (error) {
    if (error instanceof LogRefusedError || error instanceof LogUnavailableError)
      throw new CannotError(`cannot open the event log: ${error.message}`, { cause: error });
    throw error;
  }
}

function nothingIn({ servers, unread }: SeenHeads, cluster: string): string {
  const found = servers.map(({ host, log }) =>
    log === null ? `${host} has no log` : `${host} holds the log of cluster ${JSON.stringify(log.cluster)}`,
  );
  const problems = [...found, ...unread.map(({ host, problem }) => `${host}: ${problem}`)];
  return `no Postgres server holds the log of ${JSON.stringify(cluster)} (${problems.join("; ")})`;
}

/** What an operator must know of the servers, one line each. Empty: one server alone, or all in order. */
export function linesOf({ servers, unread, newest, fenced, rivals, doubt }: SeenHeads & NewestHead): readonly string[] {
  if (newest === null) return [];
  const isAlone = servers.length === 1 && unread.length === 0;
  return [
    ...(isAlone ? [] : [`read from ${newest.host}, ${describe(newest)}`]),
    ...rivals.map(
      ({ host, why }) => `rival: ${host} ${why}; do not use it, and bring it back as a standby (pg_rewind)`,
    ),
    ...fenced.map(
      ({ host }) => `${host} is a former primary and refuses writes; bring it back as a standby (pg_rewind)`,
    ),
    ...unread.map(({ host, problem }) => `${host} could not be read: ${problem}`),
    ...(doubt === null ? [] : [`not shown to be the newest: ${doubt}`]),
  ];
}

function describe({ role, log, timeline }: ServerHead): string {
  const acts = role === "primary" ? "the primary" : "a standby";
  const history = timeline === null ? "" : `, timeline ${timeline}`;
  return log === null ? acts : `${acts} with the newest proven epoch ${log.durable.epoch}${history}`;
}

/** The same for programs. */
export function headsJson({ servers, unread, newest, fenced, rivals, doubt }: SeenHeads & NewestHead): object {
  return {
    source: newest?.host ?? null,
    servers: servers.map(({ host, name, role, writes, timeline, log }) => ({
      host,
      name,
      role,
      writes,
      timeline,
      epoch: log?.epoch ?? null,
      head: log?.head ?? null,
      provenEpoch: log?.durable.epoch ?? null,
    })),
    rivals,
    fenced: fenced.map(({ host }) => host),
    unread,
    doubt,
  };
}
