/**
 * Postgres reads: pages of the log, and the links between them. The caller chooses the connection and the time limit.
 */
import { genesis, type Link, nextPosition, type Position } from "../../../events/index.ts";
import { LogDamagedError, type ReadOutcome } from "../log.ts";
import { placeIsMissing, takeIntact } from "../log-damage.ts";
import { judgeReader, pageBytesMax, pageLimit } from "../log-rules.ts";
import type { PostgresRow } from "./connection.ts";
import { linkFrom } from "./statements.ts";

export type Ask = (text: string, values?: readonly unknown[]) => Promise<readonly PostgresRow[]>;

/** @throws LogDamagedError */
export async function readPage(
  ask: Ask,
  schema: string,
  { after, limit, horizon }: Readonly<{ after: Link; limit: number; horizon: Link }>,
): Promise<ReadOutcome> {
  const store = `the log in schema ${schema} of Postgres`;
  const at = await readLink(ask, schema, after.position);
  const base = await readBase(ask, schema); // read last: events absent now were dropped before
  const judged = judgeReader(after, { horizon, first: nextPosition(base.position), at });
  if (judged?.type === "truncated" && after.position > base.position) throw placeIsMissing(store, after);
  if (judged !== undefined) return judged;
  const rows = await ask(
    `select pos, epoch, hash, bytes from (
       select pos, epoch, hash, bytes, sum(octet_length(bytes)) over (order by pos) as upto from (
         select pos, epoch, hash, bytes from "${schema}".event where pos > $1 and pos <= $2 order by pos limit $3
       ) as next
     ) as page where upto <= $4 or pos = $1 + 1 order by pos`,
    [after.position, horizon.position, pageLimit(limit), pageBytesMax],
  );
  const { entries, last, damage } = takeIntact(
    after,
    rows.map((row) => ({ link: linkFrom(row["epoch"], row["pos"], row["hash"]), bytes: row["bytes"] as Uint8Array })),
  );
  if (entries.length > 0) return { type: "page", page: { previous: after, entries, last, head: horizon } };
  const now = await readBase(ask, schema); // the base may have moved during the read
  if (now.position > after.position) return { type: "truncated", first: nextPosition(now.position) };
  throw new LogDamagedError(store, after, damage ?? "missing");
}

export async function readLink(ask: Ask, schema: string, position: Position): Promise<Link | undefined> {
  if (position === 0) return genesis;
  const [row] = await ask(
    `select epoch, pos, hash from "${schema}".event where pos = $1
     union all select epoch, pos, hash from "${schema}".log_base where pos = $1`,
    [position],
  );
  return row && linkFrom(row["epoch"], row["pos"], row["hash"]);
}

/** The link directly before the oldest kept event. */
export async function readBase(ask: Ask, schema: string): Promise<Link> {
  const [row] = await ask(`select epoch, pos, hash from "${schema}".log_base`);
  return row === undefined ? genesis : linkFrom(row["epoch"], row["pos"], row["hash"]);
}
