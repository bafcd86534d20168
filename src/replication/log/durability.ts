/**
 * Durability evidence: whether the standbys that a commit must wait for hold an event on disk. Pure;
 * postgres/durability.ts asks the server.
 *
 * - The evidence is where each standby has flushed the write-ahead log (`pg_stat_replication.flush_lsn`), never a
 *   setting. A commit that Postgres released early, without a warning, leaves every setting as it was:
 *   docs/adr/0031-durability-by-flush-position.md.
 * - An event that a snapshot shows was inserted below the insert position read after that snapshot. A standby that has
 *   flushed up to that position therefore holds the event.
 * - As many standbys count as `synchronous_standby_names` asks for, among those it names, at the moment of the look.
 */
import { parseSynchronousNames } from "./postgres/promotion.ts";

/**
 * Pauses between looks. A standby that is waited for is behind by one round trip; a beat flushes what an idle server
 * holds back.
 */
export const evidencePausesMs = [5, 10, 20, 40, 80, 160, 200] as const;
/** A check takes no longer. What is not shown by then counts as asynchronous. */
export const evidenceMsMax = 1_500;

/** One connected standby, as `pg_stat_replication` shows it. */
export type StandbyPosition = Readonly<{
  name: string;
  /** IP address; empty for a local socket. */
  address: string;
  /** `sync` and `quorum`: Postgres counts it for commits that wait. */
  state: string;
  /** In bytes of the write-ahead log. Null: not known, or hidden from this role. */
  flushed: bigint | null;
}>;

/** What one statement on one server shows. */
export type ReplicationLook = Readonly<{
  /** The event stands in this server's log, visible. */
  holds: boolean;
  /** The insert position of the write-ahead log, read after the statement's snapshot. */
  end: bigint;
  /** `synchronous_standby_names` and `synchronous_commit`, as the session knows them. */
  names: string;
  commit: string;
  standbys: readonly StandbyPosition[];
}>;

/** `behind`: commits wait for standbys, but not enough of them have flushed up to the end yet. Look again. */
export type Evidence = "synchronous" | "asynchronous" | "behind";

/** @param end the insert position of the first look that showed the event */
export function judgeEvidence(look: ReplicationLook, end: bigint): Evidence {
  if (!look.holds || (look.commit !== "on" && look.commit !== "remote_apply")) return "asynchronous";
  const wanted = readable(look.names);
  if (wanted === undefined) return "asynchronous";
  const flushed = positionsByStandby(look.standbys, wanted.names);
  const enough = flushed.filter((position) => position >= end).length >= wanted.count;
  return enough ? "synchronous" : "behind";
}

/**
 * The lowest position of each named standby: beside a new connection, the server may still show the old one, of a
 * machine that has been rebuilt since.
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

/** @returns undefined when commits wait for no standby, or for one that this build cannot make out */
function readable(names: string): ReturnType<typeof parseSynchronousNames> {
  try {
    return parseSynchronousNames(names);
  } catch {
    return undefined; // Postgres understands it and this build does not: nothing is claimed
  }
}
