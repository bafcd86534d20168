/**
 * Postgres durability: queries one server for the flush positions of its standbys until the evidence is clear
 * (durability.ts).
 *
 * - One query at a time answers all pending checks, on a connection lent for that statement alone. Lagging standbys
 *   therefore delay no other reader of the log.
 * - A query counts only for checks that began before it was sent.
 * - Bounds: `checksMax` checks; each has its pauses and `evidenceMsMax`. Without evidence by then, the result is
 *   asynchronous.
 */
import type { Link } from "../../../events/index.ts";
import {
  evidenceMsMax,
  evidencePausesMs,
  hasEnoughStandbys,
  judgeEvidence,
  type ReplicationLook,
  type StandbyPosition,
} from "../durability.ts";
import { type Durability, LogUnavailableError } from "../log.ts";
import type { PostgresRow } from "./connection.ts";
import type { Ask } from "./read.ts";

/** The result of one statement for several links. */
export type SharedLook = Omit<ReplicationLook, "holds"> &
  Readonly<{
    /** Identifies one run of one server. Positions of the write-ahead log are comparable only within it. */
    server: string;
    /** Whether the server holds each link, in the order of the request. */
    holds: readonly boolean[];
  }>;

type Check = {
  readonly link: Link;
  readonly settle: (outcome: Durability | Readonly<{ error: unknown }>) => void;
  /** Number of pauses used. */
  pauses: number;
  dueAt: number;
  /** The end of the write-ahead log at the first query, on that server. */
  end: Readonly<{ server: string; position: bigint }> | undefined;
};

const checksMax = 1_000;
/** Minimum time between the starts of two queries, however many checks begin. */
const [spacingMs] = evidencePausesMs;

export class DurabilityChecks {
  readonly #look: (links: readonly Link[]) => Promise<SharedLook>;
  readonly #withoutStandbys: "wait" | "answer";
  readonly #checks = new Set<Check>();
  #looking = false;
  #sentAt = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param options.withoutStandbys what to do while fewer standbys are connected than commits must wait for: wait for
   * them, or answer `asynchronous` at once. Default: wait
   */
  constructor(
    look: (links: readonly Link[]) => Promise<SharedLook>,
    { withoutStandbys = "wait" }: Readonly<{ withoutStandbys?: "wait" | "answer" }> = {},
  ) {
    this.#look = look;
    this.#withoutStandbys = withoutStandbys;
  }

  /** Takes at most `evidenceMsMax`. An unavailable store gives no evidence. @throws any other error of the query */
  check(link: Link): Promise<Durability> {
    if (this.#checks.size >= checksMax) return Promise.resolve("asynchronous");
    const { promise, resolve, reject } = Promise.withResolvers<Durability>();
    const now = performance.now();
    const late = setTimeout(() => check.settle("asynchronous"), evidenceMsMax);
    const check: Check = {
      link,
      pauses: 0,
      dueAt: now,
      end: undefined,
      settle: (outcome) => {
        clearTimeout(late);
        this.#checks.delete(check);
        if (typeof outcome === "string") resolve(outcome);
        else reject(outcome.error);
      },
    };
    this.#checks.add(check);
    this.#schedule();
    return promise;
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#looking || this.#checks.size === 0) return;
    let dueAt = Number.POSITIVE_INFINITY;
    for (const check of this.#checks) dueAt = Math.min(dueAt, check.dueAt);
    const at = Math.max(dueAt, this.#sentAt + spacingMs);
    this.#timer = setTimeout(() => void this.#lookOnce(), Math.max(0, at - performance.now()));
  }

  async #lookOnce(): Promise<void> {
    const checks = [...this.#checks];
    this.#looking = true;
    this.#sentAt = performance.now();
    try {
      const look = await this.#look(checks.map(({ link }) => link));
      for (const [n, check] of checks.entries()) this.#judge(check, { ...look, holds: look.holds[n] === true });
    } catch (error) {
      const outcome = error instanceof LogUnavailableError ? "asynchronous" : { error };
      for (const check of checks) check.settle(outcome);
    } finally {
      this.#looking = false;
      this.#schedule();
    }
  }

  #judge(check: Check, look: ReplicationLook & Pick<SharedLook, "server">): void {
    if (check.end?.server !== look.server) check.end = { server: look.server, position: look.end };
    const evidence = judgeEvidence(look, check.end.position);
    if (evidence !== "behind") {
      check.settle(evidence);
      return;
    }
    if (this.#withoutStandbys === "answer" && !hasEnoughStandbys(look)) {
      check.settle("asynchronous");
      return;
    }
    if (check.dueAt > this.#sentAt) return; // the query was for another check: this one keeps its pauses
    const pauseMs = evidencePausesMs[check.pauses];
    if (pauseMs === undefined) {
      check.settle("asynchronous");
      return;
    }
    check.pauses += 1;
    check.dueAt = performance.now() + pauseMs;
  }
}

/** Queries any number of links in one statement. */
export async function lookAt(ask: Ask, schema: string, links: readonly Link[]): Promise<SharedLook> {
  const hashes = links.map(({ hash }) => Buffer.from(hash, "hex"));
  const [row = {}] = await ask(lookText(schema), [links.map(({ position }) => position), hashes]);
  return readLook(row);
}

/**
 * The query text. It omits subscribers of logical replication: Postgres counts them, but they can never become a
 * primary.
 */
function lookText(schema: string): string {
  const s = `"${schema}"`;
  return `select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text as wal_end,
    concat(${s}.system_identifier(), ' ', extract(epoch from pg_postmaster_start_time())) as server,
    current_setting('synchronous_standby_names') as names, current_setting('synchronous_commit') as commit,
    (select coalesce(json_agg(
        x.pos = 0 or exists (select from ${s}.event e where e.pos = x.pos and e.hash = x.hash)
          or exists (select from ${s}.log_base b where b.pos = x.pos and b.hash = x.hash) order by x.n), '[]')
      from unnest($1::bigint[], $2::bytea[]) with ordinality as x(pos, hash, n)) as holds,
    (select coalesce(json_agg(json_build_object('name', r.application_name, 'address', coalesce(host(r.client_addr), ''),
        'state', r.sync_state, 'flushed', (r.flush_lsn - '0/0'::pg_lsn)::text)), '[]')
      from pg_stat_replication r where not exists
        (select from pg_replication_slots s where s.active_pid = r.pid and s.slot_type = 'logical')) as standbys`;
}

type StandbyRow = Readonly<{ name: string | null; address: string; state: string | null; flushed: string | null }>;

function readLook(row: PostgresRow): SharedLook {
  const standbys = (row["standbys"] as readonly StandbyRow[]).map(
    ({ name, address, state, flushed }): StandbyPosition => ({
      name: name ?? "",
      address,
      state: state ?? "",
      flushed: flushed === null ? null : BigInt(flushed),
    }),
  );
  return {
    holds: row["holds"] as readonly boolean[],
    end: BigInt(String(row["wal_end"])),
    server: String(row["server"] ?? ""),
    names: String(row["names"]),
    commit: String(row["commit"]),
    standbys,
  };
}
