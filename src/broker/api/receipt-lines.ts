/**
 * Receipt lines: streams a receipt as it completes, one JSON line per change, the last one signed.
 *
 * The first receipt is requested before a byte is sent, so that a failure is still an HTTP status. If the leader is
 * lost later, the last line is `{"error": "unavailable"}`, and the caller may request the receipt again. It has the
 * code `home-unreachable` in a region that is cut off.
 */
import { once } from "node:events";
import type { FastifyReply } from "fastify";
import type { Databroker, Receipt, ReceiptOptions, ReceiptTarget } from "../../replication/index.ts";
import { watchReceipt } from "../../replication/lease/index.ts";
import { BrokerUnavailableError, formatUnavailable } from "../../replication/wire/index.ts";

export const jsonLinesType = "application/jsonl";

export type StreamReceipt = (
  reply: FastifyReply,
  databroker: Pick<Databroker, "receipt">,
  of: Readonly<{ target: ReceiptTarget; asked: Omit<ReceiptOptions, "seen"> }>,
) => Promise<FastifyReply>;

const streamsMax = 256;

export function createReceiptLines(monotonic: () => number): StreamReceipt {
  let streams = 0;
  return async (reply, databroker, of) => {
    if (streams >= streamsMax) throw new BrokerUnavailableError("too many receipts are being watched");
    streams += 1;
    try {
      return await stream(reply, databroker, { ...of, monotonic });
    } finally {
      streams -= 1;
    }
  };
}

async function stream(
  reply: FastifyReply,
  databroker: Pick<Databroker, "receipt">,
  of: Readonly<{ target: ReceiptTarget; asked: Omit<ReceiptOptions, "seen">; monotonic: () => number }>,
): Promise<FastifyReply> {
  const { raw } = reply;
  const gone = new AbortController();
  raw.once("close", () => gone.abort());
  const watch = { monotonic: of.monotonic, signal: gone.signal };
  const answers = watchReceipt(databroker, of.target, of.asked, watch);
  const first = await answers.next();
  reply.hijack();
  raw.writeHead(200, { "content-type": jsonLinesType, "cache-control": "no-store", "x-accel-buffering": "no" });
  const write = async (line: Receipt | Readonly<{ error: string }>): Promise<void> => {
    if (gone.signal.aborted || raw.write(`${JSON.stringify(line)}\n`)) return;
    await once(raw, "drain", { signal: gone.signal });
  };
  try {
    if (first.done !== true) await write(first.value);
    for await (const receipt of answers) await write(receipt);
  } catch (error) {
    if (gone.signal.aborted) return reply;
    const isUnavailable = error instanceof BrokerUnavailableError;
    await write(isUnavailable ? { error: "unavailable", ...formatUnavailable(error) } : { error: "internal" });
  }
  raw.end();
  return reply;
}
