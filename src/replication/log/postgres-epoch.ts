/** Postgres epoch: opens one, in a transaction of several statements: the first event is made while the head row is locked. */
import { clusterStream, type Epoch, linkOf } from "../../events/index.ts";
import type { OpenEpochOutcome, OpenEpochRequest } from "./log.ts";
import { makeFirstEvent, nextEpoch } from "./log-rules.ts";
import type { PostgresConnection, Row } from "./postgres-connection.ts";
import type { Ask } from "./postgres-read.ts";
import { lesseeFrom, rowsOf } from "./postgres-rows.ts";
import { linkFrom, openEpochStatement } from "./postgres-statements.ts";

/**
 * The head row stays locked while the first event is made; until the commit is sent, nothing is.
 * @throws LogUnavailableError, MalformedBatchError; the connection is destroyed, and with it the transaction and its lock
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
    const [beside = {}] = await ask(
      `select coalesce((select version from ${s}.stream_head where stream = $1), 0) as version,
         (select coalesce(json_agg(l), '[]') from ${s}.lessee l) as lessees`,
      [clusterStream],
    );
    const previous = linkFrom(head["epoch"], head["pos"], head["hash"]);
    const place = { epoch: nextEpoch(request), previous, streamVersion: Number(beside["version"]) + 1 };
    const entry = makeFirstEvent(request, place);
    const statement = openEpochStatement(schema, request, entry, previous, asynchronousCommit);
    await ask(statement.text, statement.values);
    const committed = await connection.ask({ text: "commit" }, timeoutMs);
    if (committed.type === "refused") return { type: "unavailable", cause: committed.error };
    if (committed.type === "indeterminate") return committed;
    const lessees = (beside["lessees"] as Row[]).map(lesseeFrom);
    return { type: "opened", epoch: place.epoch, head: linkOf(entry.recorded), entry, lessees };
  } catch (error) {
    connection.destroy();
    throw error;
  }
}
