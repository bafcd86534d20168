/**
 * Durability evidence: whether the standbys that a commit must wait for hold an event on disk. Pure;
 * postgres/durability.ts queries the server.
 *
 * - The evidence is the flush position of each standby (`pg_stat_replication.flush_lsn`), never a setting. Postgres can
 *   release a commit early without a warning and without changing any setting:
 *   docs/adr/0031-durability-by-flush-position.md.
 * - An event that a snapshot shows was inserted below the insert position read after that snapshot. A standby that has
 *   flushed up to that position therefore holds the event.
 * - The required number of standbys is the one in `synchronous_standby_names`, counted among the standbys that it
 *   names, at the time of the query.
 */
import { parseSynchronousNames } from "./postgres/promotion.ts";

/**
 * Pauses between queries, ms. A standby that commits wait for lags by one round trip. On an idle server, the next beat
 * flushes what is held back.
 */
export const evidencePausesMs = [5, 10, 20, 40, 80, 160, 200] as const;
/** Upper bound of a check, ms. An event not shown to be replicated by then counts as asynchronous. */
export const evidenceMsMax = 1_500;

/** One connected standby, as `pg_stat_replication` shows it. */
export type StandbyPosition = Readonly<{
  name: string;
  /** IP address; empty for a local socket. */
  address: string;
  /** `sync` or `quorum`: Postgres counts the standby for commits that wait. */
  state: string;
  /** Flush position in the write-ahead log, in bytes. Null: unknown, or hidden from this role. */
  flushed: bigint | null;
}>;

/** The result of one statement on one server. */
export type ReplicationLook = Readonly<{
  /** True when the event is visible in the log of this server. */
  holds: boolean;
  /** The insert position of the write-ahead log, read after the statement's snapshot. */
  end: bigint;
  /** `synchronous_standby_names` and `synchronous_commit`, as the session sees them. */
  names: string;
  commit: string;
  standbys: readonly StandbyPosition[];
}>;

/** `behind`: commits wait for standbys, but too few have flushed up to the end yet. The caller queries again. */
export type Evidence = "synchronous" | "asynchronous" | "behind";

/** @param end the insert position of the first query that showed the event */
export function judgeEvidence(look: ReplicationLook, end: bigint): Evidence {
  if (!look.holds || (look.commit !== "on" && look.commit !== "remote_apply")) return "asynchronous";
  const wanted = readable(look.names);
  if (wanted === undefined) return "asynchronous";
  const flushed = positionsByStandby(look.standbys, wanted.names);
  const enough = flushed.filter((position) => position >= end).length >= wanted.count;
  return enough ? "synchronous" : "behind";
}

/** Whether as many standbys that count are connected as commits wait for. */
export function hasEnoughStandbys({ names, standbys }: Pick<ReplicationLook, "names" | "standbys">): boolean {
  const wanted = readable(names);
  if (wanted === undefined) return true;
  return positionsByStandby(standbys, wanted.names).filter((position) => position > 0n).length >= wanted.count;
}

/**
 * The lowest position of each named standby. The server may still list the old connection of a rebuilt machine beside
 * its new one.
 */
function positionsByStandby(standbys: readonly StandbyPosition[], names: readonly string[] | "any"): readonly bigint[] {
  const named = names === "any" ? "any" : new Set(names.map((name) => name.toLowerCase()));
  const positions = new Map<string, bigint>();
  for (const { name, address, state, flushed } of standbys) {
    const key = name.toLowerCase();
    if (named !== "any" && !named.has(key)) continue;
    const counts = state === "sync" || state === "quorum";
    const position = counts && flushed !== null ? flushed : 0n;
    const standby = named === "any" ? `${key} ${address}` : key;
    const known = positions.get(standby);
    if (known === undefined || position < known) positions.set(standby, position);
  }
  return [...positions.values()];
}

/** @returns undefined when commits wait for no standby, or when this build cannot parse the names */
function readable(names: string): ReturnType<typeof parseSynchronousNames> {
  try {
    return parseSynchronousNames(names);
  } catch {
    return undefined; // Postgres can parse it and this build cannot: claim nothing
  }
}
