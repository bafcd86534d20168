/**
 * HTTP/2 reset: breaks a stream off, in either role, so that half of what was being said is never taken for the whole.
 *
 * Node's own `close` ends our direction first when nothing of it is waiting, and what ends in good order looks complete, whatever code
 * comes behind. So the stream's handle is told before. Without a handle the connection goes, which nobody takes for an end.
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
