/**
 * Abort of a stream of `node:http2`, in either role, so that half a message is never taken for the whole.
 *
 * Node's own `close` ends our direction first when nothing is queued in it, and what ends in good order looks
 * complete, whatever code follows. So the stream's handle is reset before. Without a handle the connection is
 * destroyed, which no peer takes for an orderly end.
 */
import type { Http2Stream } from "node:http2";

type StreamHandle = { rstStream?: (code: number) => void };

export function abortStream(stream: Http2Stream, code: number): void {
  if (stream.destroyed || stream.closed) return;
  const symbol = Object.getOwnPropertySymbols(stream).find(({ description }) => description === "kHandle");
  const handle = symbol && (stream as unknown as Record<symbol, StreamHandle | undefined>)[symbol];
  if (handle?.rstStream === undefined) stream.session?.destroy();
  else handle.rstStream(code);
  stream.close(code);
}
