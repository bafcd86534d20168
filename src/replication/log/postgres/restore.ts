/**
 * Postgres restore: refills an empty schema from a snapshot and the events after it. It also drops the events that
 * retention releases.
 *
 * A restore runs in steps, each in one transaction under the lock of the head row. During a restore the head row holds
 * no incarnation, so no broker can append or beat. An epoch opened over it ends the restore.
 */
import type { DatabaseError } from "pg";
import { type Link, linkOf, type WrappedKey } from "../../../events/index.ts";
import { joinBytes } from "../byte-list.ts";
import {
  type LogEntry,
  LogUnavailableError,
  type RestoreStep,
  type RetainOutcome,
  type RetainRequest,
} from "../log.ts";
import { checkRestore } from "../log-rules.ts";
import { messageOf, type PostgresConnection, type PostgresRow, type Statement } from "./connection.ts";
import { configurationValues, linkFrom, readRefusal } from "./statements.ts";

type Settings = Readonly<{ schema: string; asynchronousCommit: "refuse" | "accept"; timeoutMs: number }>;
type Run = (text: string, values?: readonly unknown[]) => Promise<readonly PostgresRow[]>;

export function retainStatement(
  schema: string,
  { epoch, incarnation, first, holding }: RetainRequest,
  asynchronous: "refuse" | "accept",
): Statement {
  const s = `"${schema}"`;
  // Without a row from the first, the function of the second is not called.
  return {
    text: `with holding as materialized (
        select 1 where $5::bigint is null
        union all select 1 from ${s}.event where pos = $5 and epoch = $6 and hash = $7
        union all select 1 from ${s}.log_base where pos = $5 and epoch = $6 and hash = $7
        limit 1
      )
      select retained.* from holding left join lateral (select * from ${s}.retain($1, $2, $3, $4)) as retained on true`,
    values: [
      asynchronous === "accept",
      epoch,
      incarnation,
      first,
      holding?.position ?? null,
      holding?.epoch ?? null,
      holding ? Buffer.from(holding.hash, "hex") : null,
    ],
  };
}

/** No row: the chain of the log does not contain the holding link. Empty row: nothing was ever dropped. */
export function readRetained([row]: readonly PostgresRow[]): RetainOutcome {
  if (row === undefined) return { type: "not-held" };
  if (row["pos"] === null) return { type: "retained", base: linkFrom(0, 0, "0".repeat(64)), more: false };
  return { type: "retained", base: linkFrom(row["epoch"], row["pos"], row["hash"]), more: row["more"] === true };
}

/**
 * A lock timeout is a refusal like any other: nothing was dropped, and the caller may try again.
 */
export function readRetainRefusal(error: DatabaseError): RetainOutcome {
  const refusal = readRefusal(error);
  return refusal.type === "fenced" ? refusal : { type: "unavailable", cause: error };
}

/** @throws LogRefusedError, MalformedBatchError, LogUnavailableError */
export async function restoreInto(
  connection: PostgresConnection,
  settings: Settings,
  step: RestoreStep,
): Promise<Link> {
  const s = `"${settings.schema}"`;
  const run: Run = async (text, values = []) => {
    const sent = await connection.ask({ text, values }, settings.timeoutMs);
    if (sent.type === "clean") return sent.rows;
    const cause = sent.type === "refused" ? sent.error : sent.cause;
    throw new LogUnavailableError(`Postgres at ${connection.host}: ${messageOf(cause)}`, { cause });
  };
  try {
    await run("begin");
    await run("select set_config('statement_timeout', $1, true)", [String(settings.timeoutMs)]);
    const [head = {}] = await run(`select * from ${s}.lock_head($1)`, [settings.asynchronousCommit === "accept"]);
    const begun = await run(`select 1 from ${s}.log_base`);
    const at = linkFrom(head["epoch"], head["pos"], head["hash"]);
    checkRestore(step, {
      empty: at.epoch === 0 && at.position === 0,
      restoring: head["incarnation"] === null && begun.length > 0,
      head: at,
    });
    const end = await take(run, s, at, step);
    await run("commit");
    return end;
  } catch (error) {
    connection.destroy(); // and with it the transaction and its lock
    throw error;
  }
}

async function take(run: Run, s: string, head: Link, step: RestoreStep): Promise<Link> {
  switch (step.type) {
    case "begin": {
      const { base, epochs } = step;
      await run(`insert into ${s}.log_base (epoch, pos, hash) values ($1, $2, $3)`, [
        base.epoch,
        base.position,
        Buffer.from(base.hash, "hex"),
      ]);
      await run(
        `insert into ${s}.log_epoch (epoch, incarnation, start_pos, previous_hash, broker_id, broker_url, pg_timeline)
         select *, decode(repeat('00', 32), 'hex'), '', null, '' from unnest($1::bigint[], $2::text[], $3::bigint[])`,
        [epochs.map((e) => e.epoch), epochs.map((e) => e.incarnation), epochs.map((e) => e.start)],
      );
      // No partition is created for positions before the base.
      await run(`update ${s}.log_head set partitioned_to = ($1 + 1) / partition_size * partition_size`, [
        base.position,
      ]);
      await moveHead(run, s, base);
      return base;
    }
    case "keys":
      await putKeys(run, s, step.keys);
      return head;
    case "configurations":
      await run(`select ${s}.put_configurations($1, $2, $3, $4)`, configurationValues(step.configurations));
      return head;
    case "events": {
      const last = step.entries.at(-1);
      if (last === undefined) return head;
      await putEvents(run, s, head, step.entries);
      await moveHead(run, s, linkOf(last.recorded));
      return linkOf(last.recorded);
    }
  }
}

async function moveHead(run: Run, s: string, { epoch, position, hash }: Link): Promise<void> {
  await run(
    `update ${s}.log_head set epoch = $1, pos = $2, hash = $3, durable_epoch = $1, durable_pos = $2, durable_hash = $3`,
    [epoch, position, Buffer.from(hash, "hex")],
  );
}

async function putKeys(run: Run, s: string, keys: readonly WrappedKey[]): Promise<void> {
  await run(
    `insert into ${s}.person_key select * from unnest($1::text[], $2::bytea[], $3::bytea[]) on conflict (user_id) do nothing`,
    [keys.map((k) => k.userId), keys.map((k) => k.keyId), keys.map((k) => k.wrapped)],
  );
}

async function putEvents(run: Run, s: string, before: Link, entries: readonly LogEntry[]): Promise<void> {
  const recorded = entries.map((entry) => entry.recorded);
  const { block, lengths } = joinBytes(entries.map((entry) => entry.bytes));
  let at = 1;
  const offsets = lengths.map((length) => {
    at += length;
    return at - length;
  });
  await run(`select ${s}.prepare_partitions($1)`, [before.position + entries.length]);
  await run(
    `insert into ${s}.event
       select $1::bigint + e.o, e.epoch, e.event_id, e.stream, e.version, e.type, e.schema_version, e.effect,
         to_timestamp(e.recorded_at / 1000::float8), e.actor, e.cause,
         substr($2::bytea, 32 * (e.o::integer - 1) + 1, 32), substr($3::bytea, e.at, e.length)
       from unnest($4::integer[], $5::integer[], $6::bigint[], $7::uuid[], $8::text[], $9::bigint[], $10::text[],
         $11::integer[], $12::text[], $13::bigint[], $14::text[], $15::uuid[])
       with ordinality as e(at, length, epoch, event_id, stream, version, type, schema_version, effect, recorded_at, actor, cause, o)`,
    [
      before.position,
      Buffer.from(recorded.map((r) => r.hash).join(""), "hex"),
      block,
      offsets,
      lengths,
      recorded.map((r) => r.epoch),
      recorded.map((r) => r.eventId),
      recorded.map((r) => r.stream),
      recorded.map((r) => r.version),
      recorded.map((r) => r.type),
      recorded.map((r) => r.schemaVersion),
      recorded.map((r) => r.effect),
      recorded.map((r) => r.recordedAt),
      recorded.map((r) => r.actor),
      recorded.map((r) => r.cause),
    ],
  );
  const heads = [...new Map(recorded.map((r) => [r.stream, r.version])).entries()];
  await run(
    `insert into ${s}.stream_head select * from unnest($1::text[], $2::bigint[])
     on conflict (stream) do update set version = excluded.version`,
    [heads.map(([stream]) => stream), heads.map(([, version]) => version)],
  );
  const opened = recorded.flatMap(({ event, epoch, position }) =>
    event.type === "EpochOpened" ? [{ epoch, position, event }] : [],
  );
  await run(
    `insert into ${s}.log_epoch (epoch, incarnation, start_pos, previous_hash, broker_id, broker_url, pg_timeline)
     select x.epoch, x.incarnation, x.start, decode(repeat('00', 32), 'hex'), x.broker, null, ''
     from unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[]) as x(epoch, incarnation, start, broker)`,
    [
      opened.map((o) => o.epoch),
      opened.map((o) => o.event.incarnation),
      opened.map((o) => o.position),
      opened.map((o) => o.event.brokerId),
    ],
  );
  const erased = recorded.flatMap(({ event }) => (event.type === "UserErased" ? [event.userId] : []));
  await run(
    `insert into ${s}.person_key select distinct x.user_id, ''::bytea, null::bytea from unnest($1::text[]) as x(user_id)
     on conflict (user_id) do update set key_id = '', wrapped = null`,
    [erased],
  );
}
