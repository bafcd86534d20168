/**
 * Receipt stream: a receipt as Server-Sent Events. `progress` for each change, and last `receipt`, which is signed. If
 * no broker leads meanwhile, the last event is `unavailable`, and the receipt can be requested again. In a region that
 * is cut off it has the last-known state.
 *
 * A stream ends with its timeout, with the caller's right to watch, or when the caller disconnects. The right is
 * checked again when a fact about the operator changes, and periodically, because the configuration may change too.
 * Without a fresh lease this node hears of no change, so it sends nothing more.
 */
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Receipt, ReceiptOptions, ReceiptTarget } from "../../replication/index.ts";
import { watchReceipt } from "../../replication/lease/index.ts";
import { BrokerUnavailableError, formatUnavailable } from "../../replication/wire/index.ts";
import { lastKnownAfter, noReceiptWithoutHome } from "./last-known.ts";
import { mayReceive, type Operator, type OperatorApiDeps } from "./operator-route.ts";
import type { LastKnownState } from "./operator-schemas.ts";
import type { RecordedTimes } from "./receipts/recorded-at.ts";

export const eventStreamType = "text/event-stream";

export type ReceiptStream = (
  request: FastifyRequest,
  reply: FastifyReply,
  caller: Operator,
  watched: Readonly<{ target: ReceiptTarget; options: Omit<ReceiptOptions, "seen"> }>,
) => Promise<FastifyReply>;

const streamsMax = 64;
/** Time (ms) between two bytes of a silent stream, so that no hop takes it for dead. */
const aliveMs = 15_000;

export function createReceiptStream(deps: OperatorApiDeps, recordedAt: RecordedTimes): ReceiptStream {
  let streams = 0;
  return async (request, reply, caller, { target, options }) => {
    if (streams >= streamsMax)
      return reply.code(503).header("retry-after", "5").send({ error: "too many receipt streams are open" });
    streams += 1;
    const gone = new AbortController();
    const { raw } = reply;
    raw.once("close", () => gone.abort());
    const mayContinue = async (): Promise<boolean> =>
      mayReceive(deps, caller) && (await deps.callerOf(request).catch(() => undefined))?.type === "operator";
    const unlisten = deps.replica.onChange(async ({ touched, rebuilt }) => {
      if (!rebuilt && !caller.reads.some((stream) => touched.has(stream))) return;
      if (!(await mayContinue())) raw.destroy();
    });
    try {
      const timeoutMs = Math.max(0, Math.min(options.timeoutMs, caller.until - deps.now()));
      const watch = { monotonic: deps.now, signal: gone.signal };
      const answers = watchReceipt(deps.databroker, target, { ...options, timeoutMs }, watch);
      const first = await answers.next(); // a failure before the first event is still an HTTP status
      reply.hijack();
      raw.writeHead(200, { "content-type": eventStreamType, "cache-control": "no-store", "x-accel-buffering": "no" });
      const write = async (event: string, data: object): Promise<void> => {
        if (!mayReceive(deps, caller)) raw.destroy();
        if (raw.destroyed || gone.signal.aborted || raw.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`))
          return;
        await once(raw, "drain", { signal: gone.signal });
      };
      void keepAlive(raw, { ...deps, over: gone.signal, mayContinue });
      try {
        const send = async (receipt: Receipt): Promise<void> =>
          write(receipt.signed === null ? "progress" : "receipt", {
            ...receipt,
            recordedAt: await recordedAt(receipt.link),
          });
        if (first.done !== true) await send(first.value);
        for await (const receipt of answers) await send(receipt);
      } catch (error) {
        if (!gone.signal.aborted) await write("unavailable", await problemOf(error, deps));
      } finally {
        raw.end();
      }
      return reply;
    } finally {
      streams -= 1;
      gone.abort();
      unlisten();
    }
  };
}

async function keepAlive(
  raw: ServerResponse,
  {
    sleep,
    over,
    mayContinue,
  }: Pick<OperatorApiDeps, "sleep"> & Readonly<{ over: AbortSignal; mayContinue: () => Promise<boolean> }>,
): Promise<void> {
  for (;;) {
    await sleep(aliveMs, over).catch(() => undefined); // aborted: the stream has ended
    if (over.aborted || raw.destroyed) return;
    if (!(await mayContinue())) raw.destroy();
    else if (!raw.writableNeedDrain) raw.write(": alive\n\n");
  }
}

async function problemOf(
  error: unknown,
  deps: OperatorApiDeps,
): Promise<Readonly<{ error: string; code?: string; lastKnown?: LastKnownState }>> {
  if (!(error instanceof BrokerUnavailableError)) return { error: "internal error; request the receipt again" };
  const { code } = formatUnavailable(error);
  if (code === undefined) return { error: error.message };
  const lastKnown = await lastKnownAfter(error, deps);
  return lastKnown === null ? { error: error.message, code } : { error: noReceiptWithoutHome, code, lastKnown };
}
