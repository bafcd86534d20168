/**
 * Sink client: posts batches to the HTTP receiver of one sink.
 *
 * - A request, its answer included, ends after the timeout of the sink.
 * - Redirects are not followed, so records and credentials reach only the configured address. No proxy of the
 *   environment is used.
 * - At most 64 KiB of an answer are read. Once a status of success has arrived, a cut or longer answer changes nothing.
 */
import { getCACertificates } from "node:tls";
import { Agent, request } from "undici";
import type { SinkEndpointConfig } from "../../config/index.ts";
import { createSystemLookup } from "../../replication/runtime/index.ts";
import { AuditSinkBusyError } from "../audit-sink.ts";
import { checkAnswer } from "./sink-answer.ts";

export type SinkClient = Readonly<{
  /**
   * @returns the beginning of the answer, or null if it was cut or is too long
   * @throws AuditRejectedError, AuditSinkBusyError
   */
  post(body: Uint8Array, headers: Readonly<Record<string, string>>): Promise<Buffer | null>;
  close(): Promise<void>;
}>;

export type SinkClientOptions = Readonly<{
  /** The sink, for messages. */
  name: string;
  endpoint: SinkEndpointConfig;
  /** PEM of authorities that are trusted besides those of the system, unless the endpoint names its own. */
  authority: string | null;
}>;

const answerBytesMax = 65_536;
const connectMsMax = 10_000;

export function createSinkClient({ name, endpoint, authority }: SinkClientOptions): SinkClient {
  const { url, timeoutMs, tls, ca } = endpoint;
  const trusted = ca !== null ? { ca } : authority !== null ? { ca: [...getCACertificates(), authority] } : {};
  const agent = new Agent({
    connect: {
      ...trusted,
      ...(tls === null ? {} : { cert: tls.cert, key: tls.key }),
      timeout: Math.min(timeoutMs, connectMsMax),
      lookup: createSystemLookup(),
    },
    connections: 1,
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
  });

  return {
    async post(body, headers) {
      const signal = AbortSignal.timeout(timeoutMs);
      let answer: Awaited<ReturnType<typeof request>>;
      try {
        answer = await request(url, {
          method: "POST",
          dispatcher: agent,
          headers: { "user-agent": "cardea", ...endpoint.headers, ...headers },
          body,
          signal,
        });
      } catch (error) {
        const why = signal.aborted
          ? `its receiver did not answer within ${timeoutMs} ms`
          : `its receiver cannot be reached: ${reasonOf(error)}`;
        throw new AuditSinkBusyError(name, { why, retryAfterMs: 0, cause: error });
      }
      const beginning = await beginningOf(answer.body);
      const retryAfter = answer.headers["retry-after"];
      checkAnswer(
        name,
        { status: answer.statusCode, retryAfter: typeof retryAfter === "string" ? retryAfter : null },
        Date.now(),
      );
      return beginning;
    },
    close: () => agent.destroy(),
  };
}

async function beginningOf(body: Awaited<ReturnType<typeof request>>["body"]): Promise<Buffer | null> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      bytes += chunk.length;
      if (bytes > answerBytesMax) return null; // the connection is closed with the iterator
      chunks.push(chunk);
    }
  } catch {
    return null; // the status says what happened to the batch
  }
  return Buffer.concat(chunks);
}

/** The code of the system or of TLS; the message otherwise. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return "code" in error && typeof error.code === "string" ? error.code : error.message;
}
