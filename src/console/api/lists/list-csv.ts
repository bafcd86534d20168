/**
 * List CSV: a whole list as a file, for a caller that may read the list.
 *
 * - It is written page by page, as the client reads, with the work of a list and no more in memory than one page.
 * - The caller is verified before each page. One who has lost the right, an error, and the end of the time break the
 *   connection, so that a part never looks like the whole.
 * - A list that is longer than `rowsMax` ends with a row that says so.
 */
import { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { formatCsvCell } from "../../../audit/index.ts";
import type { Operator, OperatorApiDeps } from "../operator-route.ts";
import { isStillWithin } from "../roles/operator-roles.ts";

export type CsvList<Item> = Readonly<{
  /** Of the file, without its ending. */
  name: string;
  /** Title and value, from left to right. */
  columns: readonly (readonly [title: string, cell: (item: Item) => unknown])[];
  /** @param after null: from the beginning. @returns undefined: `after` is no cursor of this list */
  page(after: string | null): Promise<Readonly<{ items: readonly Item[]; next: string | null }> | undefined>;
}>;

const rowsMax = 100_000;
const timeMaxMs = 300_000;
const exportsMax = 4;

export type CsvWriter = <Item>(
  exchange: Readonly<{ request: FastifyRequest; reply: FastifyReply; caller: Operator }>,
  list: CsvList<Item>,
  after?: string,
) => Promise<FastifyReply>;

/** @param deps.rowsMax absent: 100,000 */
export function createCsvWriter(
  deps: Pick<OperatorApiDeps, "callerOf" | "fresh" | "sleep"> & Readonly<{ rowsMax?: number }>,
): CsvWriter {
  const most = deps.rowsMax ?? rowsMax;
  let running = 0;

  async function* rowsOf<Item>(
    { request, caller }: Readonly<{ request: FastifyRequest; caller: Operator }>,
    { columns, page }: CsvList<Item>,
    first: Readonly<{ items: readonly Item[]; next: string | null }>,
  ): AsyncGenerator<string> {
    yield lineOf(columns.map(([title]) => title));
    let [rows, shown] = [0, first];
    for (;;) {
      await mustStillRead(request, caller);
      const items = shown.items.slice(0, most - rows);
      rows += items.length;
      yield items.map((item) => lineOf(columns.map(([, cell]) => cell(item)))).join("");
      const isCut = items.length < shown.items.length || (rows >= most && shown.next !== null);
      if (isCut) yield lineOf([`Only the first ${most} rows are in this file.`]);
      if (isCut || shown.next === null) return;
      const following = await page(shown.next);
      if (following === undefined) throw new Error("a list does not know its own cursor");
      shown = following;
    }
  }

  async function mustStillRead(request: FastifyRequest, { scope, reads }: Operator): Promise<void> {
    const now = await deps.callerOf(request);
    if (now.type !== "operator" || !isStillWithin(scope, now.scope) || (reads.length > 0 && !deps.fresh()))
      throw new Error("the right to read has ended");
  }

  return async (exchange, list, after) => {
    const { reply } = exchange;
    if (running >= exportsMax)
      return reply
        .code(503)
        .header("retry-after", "5")
        .send({ error: "too many files are written at once; try again" });
    running += 1;
    const ending = new AbortController();
    const end = (): void => {
      if (ending.signal.aborted) return;
      ending.abort();
      running -= 1;
    };
    try {
      const first = await list.page(after ?? null);
      if (first === undefined) {
        end();
        return reply.code(400).send({ error: "`after` is no cursor of this list with these filters", code: "invalid" });
      }
      const body = Readable.from(rowsOf(exchange, list, first), { objectMode: false });
      body.once("close", end);
      void deps.sleep(timeMaxMs, ending.signal).then(
        () => body.destroy(new Error("the file took too long")),
        () => undefined, // it has ended
      );
      return reply
        .type("text/csv; charset=utf-8")
        .header("content-disposition", `attachment; filename="${list.name}.csv"`)
        .header("x-content-type-options", "nosniff")
        .send(body);
    } catch (error) {
      end();
      throw error;
    }
  };
}

const lineOf = (values: readonly unknown[]): string => `${values.map(formatCsvCell).join(",")}\r\n`;
