/** Postgres durability: asks one server how far its standbys have flushed the log, until the evidence is clear (durability.ts). */
import type { Link } from "../../events/index.ts";
import {
  type Evidence,
  evidencePausesMs,
  judgeEvidence,
  type ReplicationLook,
  type StandbyPosition,
} from "./durability.ts";
import type { Row } from "./postgres-connection.ts";
import type { Ask } from "./postgres-read.ts";

/**
 * Looks until enough standbys have flushed the event, or the pauses are used up. Every look must go to the same server: positions of
 * the write-ahead log mean nothing elsewhere.
 */
export async function findEvidence(ask: Ask, schema: string, link: Link): Promise<Exclude<Evidence, "behind">> {
  let end: bigint | undefined;
  for (const pauseMs of [...evidencePausesMs, 0]) {
    const [row = {}] = await ask(lookText(schema), [link.position, Buffer.from(link.hash, "hex")]);
    const look = readLook(row);
    end ??= look.end;
    const evidence = judgeEvidence(look, end);
    if (evidence !== "behind") return evidence;
    if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  return "asynchronous";
}

/** Subscribers of logical replication are counted by Postgres and can never become a primary; they are left out. */
function lookText(schema: string): string {
  const s = `"${schema}"`;
  return `select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text as wal_end,
    current_setting('synchronous_standby_names') as names, current_setting('synchronous_commit') as commit,
    $1::bigint = 0 or exists (select from ${s}.event where pos = $1 and hash = $2)
      or exists (select from ${s}.log_base where pos = $1 and hash = $2) as holds,
    (select coalesce(json_agg(json_build_object('name', r.application_name, 'address', coalesce(host(r.client_addr), ''),
        'state', r.sync_state, 'flushed', (r.flush_lsn - '0/0'::pg_lsn)::text)), '[]')
      from pg_stat_replication r where not exists
        (select from pg_replication_slots s where s.active_pid = r.pid and s.slot_type = 'logical')) as standbys`;
}

type StandbyRow = Readonly<{ name: string | null; address: string; state: string | null; flushed: string | null }>;

function readLook(row: Row): ReplicationLook {
  const standbys = (row["standbys"] as readonly StandbyRow[]).map(
    ({ name, address, state, flushed }): StandbyPosition => ({
      name: name ?? "",
      address,
      state: state ?? "",
      flushed: flushed === null ? null : BigInt(flushed),
    }),
  );
  return {
    holds: row["holds"] === true,
    end: BigInt(String(row["wal_end"])),
    names: String(row["names"]),
    commit: String(row["commit"]),
    standbys,
  };
}
