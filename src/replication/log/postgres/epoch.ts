/**
 * Postgres epoch: opens an epoch in a transaction of several statements. It creates the first event while the head row
 * is locked.
 *
 * The same transaction reads the state of the server and what the previous epoch recorded of it, which shows whether
 * lessees may be missing. If so, it writes the row that represents them (continuity.ts).
 */
import { clusterStream, type Epoch, type Incarnation, linkOf } from "../../../events/index.ts";
import { lostHistory, lostWindowMs, type StoreEvidence, whyBeatsMayBeLost } from "../continuity.ts";
import type { OpenEpochOutcome, OpenEpochRequest } from "../log.ts";
import { epochToOpen, makeFirstEvent } from "../log-rules.ts";
import type { PostgresConnection, PostgresRow, Statement } from "./connection.ts";
import type { Ask } from "./read.ts";
import { admittedNodeFrom, admittedNodesText, lesseeFrom, rowsOf } from "./rows.ts";
import { linkFrom, openEpochStatement } from "./statements.ts";

/**
 * The head row stays locked while the first event is created. Nothing is committed until the commit is sent.
 * @throws LogUnavailableError, MalformedBatchError; the connection is then destroyed, and with it the transaction and
 * its lock
 */
export async function openEpochOn(
  connection: PostgresConnection,
  options: Readonly<{ schema: string; timeoutMs: number; asynchronousCommit: "refuse" | "accept" }>,
  request: OpenEpochRequest,
): Promise<OpenEpochOutcome> {
  const { schema, timeoutMs, asynchronousCommit } = options;
  const s = `"${schema}"`;
  const ask: Ask = async (text, values = []) => rowsOf(await connection.ask({ text, values }, timeoutMs), connection);
  try {
    await ask("begin");
    const [head = {}] = await ask(`select * from ${s}.lock_head($1)`, [asynchronousCommit === "accept"]);
    const epochNow = Number(head["epoch"]) as Epoch;
    if (epochNow !== request.expected) {
      await ask("rollback");
      return { type: "overtaken", epoch: epochNow };
    }
    const [beside = {}] = await ask(besideText(s), [clusterStream, epochNow]);
    const previous = linkFrom(head["epoch"], head["pos"], head["hash"]);
    const place = { epoch: epochToOpen(request), previous, streamVersion: Number(beside["version"]) + 1 };
    const entry = makeFirstEvent(request, place);
    const statement = openEpochStatement(schema, request, entry, previous, asynchronousCommit);
    await ask(statement.text, statement.values);
    const evidence = evidenceIn(beside);
    const beatsLost = whyBeatsMayBeLost(request, evidence);
    const surviving = (beside["lessees"] as PostgresRow[]).map(lesseeFrom);
    const windowMs = lostWindowMs({
      requestedMs: request.windowMaxMs,
      recordedMs: Number(beside["window_max_ms"] ?? 0),
      previous: beside["window_before_ms"] === null ? "unrecorded" : "recorded",
      lessees: surviving,
    });
    const held = beatsLost === null || windowMs === 0 ? null : lostHistory(place.epoch, windowMs);
    // A commit that does not wait for the disk proves nothing to the next epoch.
    const run = asynchronousCommit === "accept" || evidence.run.server === "" ? null : evidence.run;
    const noted = noteStatement(s, { ...request, epoch: place.epoch, run, held });
    await ask(noted.text, noted.values);
    const committed = await connection.ask({ text: "commit" }, timeoutMs);
    if (committed.type === "refused") return { type: "unavailable", cause: committed.error };
    if (committed.type === "indeterminate") return committed;
    const lessees = held === null ? surviving : [...surviving, held];
    const admitted = (beside["admitted"] as PostgresRow[]).map(admittedNodeFrom);
    return { type: "opened", epoch: place.epoch, head: linkOf(entry.recorded), entry, lessees, admitted, beatsLost };
  } catch (error) {
    connection.destroy();
    throw error;
  }
}

/**
 * The query for the evidence that openEpochOn reads in its transaction.
 *
 * - The timeline is that of the WAL. The one in `pg_control_checkpoint` changes only with the first checkpoint after a
 *   promotion.
 * - The xmin of a row is the transaction that wrote it, modulo 2^32, and remains when the row is frozen. Restoring a
 *   dump writes other values.
 * - A database created with this one as its template has the same rows but another oid.
 */
function besideText(s: string): string {
  return `select coalesce((select version from ${s}.stream_head where stream = $1), 0) as version,
      (select coalesce(json_agg(l), '[]') from ${s}.lessee l) as lessees,
      (select coalesce(json_agg(n), '[]') from (${admittedNodesText(s)}) n) as admitted,
      (select max(window_max_ms) from ${s}.log_epoch) as window_max_ms,
      (select incarnation from ${s}.epoch_mark) as mark,
      ${s}.system_identifier() || '.' || (select oid from pg_database where datname = current_database()) as system,
      substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as timeline,
      (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text as start,
      p.incarnation, p.window_max_ms as window_before_ms, p.pg_system, p.pg_timeline, p.pg_start,
      p.xmin::text::bigint = p.pg_xact % 4294967296 as written_here
    from (select 1) as one left join ${s}.log_epoch p on p.epoch = $2`;
}

function evidenceIn(row: PostgresRow): StoreEvidence {
  const [server, timeline, start] = [row["pg_system"], row["pg_timeline"], row["pg_start"]];
  const run =
    typeof server === "string" && typeof start === "string" ? { server, timeline: String(timeline), start } : null;
  return {
    run: { server: String(row["system"] ?? ""), timeline: String(row["timeline"]), start: String(row["start"]) },
    previous:
      typeof row["incarnation"] === "string"
        ? {
            incarnation: row["incarnation"] as Incarnation,
            run,
            written: row["written_here"] === true ? "here" : "elsewhere",
          }
        : null,
    mark: (row["mark"] ?? null) as Incarnation | null,
  };
}

function noteStatement(
  s: string,
  noted: Pick<OpenEpochRequest, "incarnation" | "windowMaxMs"> &
    Readonly<{ epoch: Epoch; run: StoreEvidence["run"] | null; held: ReturnType<typeof lostHistory> | null }>,
): Statement {
  const { epoch, incarnation, windowMaxMs, run, held } = noted;
  return {
    text: `with noted as (
        update ${s}.log_epoch set pg_system = $2, pg_start = $3, pg_xact = pg_current_xact_id()::text::bigint, window_max_ms = $4
        where epoch = $1
      ), marked as (
        insert into ${s}.epoch_mark (incarnation) values ($5) on conflict (one) do update set incarnation = excluded.incarnation
      )
      insert into ${s}.lessee as l (node, boot, region, role, window_ms)
        select * from (values ($6::text, $7::text, $8::text, $9::text, $10::bigint)) as x(node, boot, region, role, window_ms)
        where x.node is not null
        on conflict (node, boot) do update set window_ms = greatest(l.window_ms, excluded.window_ms)`,
    values: [
      epoch,
      run?.server ?? null,
      run?.start ?? null,
      windowMaxMs,
      incarnation,
      ...[held?.node, held?.boot, held?.region, held?.role, held?.windowMs].map((value) => value ?? null),
    ],
  };
}
