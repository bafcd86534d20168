/**
 * First bytes: reads the first bytes of a connection and puts back those that belong to the next protocol.
 *
 * The wait is bounded in time; the reader bounds the bytes. A connection that ends early or sends malformed bytes is
 * closed without a response.
 */
import type { Socket } from "node:net";

/** One or two round trips: the bytes are sent as soon as the connection is open. */
const waitMsMax = 10_000;

/** `own`: the number of bytes that are consumed. */
export type FirstBytes<Found> =
  | Readonly<{ type: "more" }>
  | Readonly<{ type: "bad" }>
  | Readonly<{ type: "found"; own: number; found: Found }>;

export function readFirstBytes<Found>(
  socket: Socket,
  how: Readonly<{
    /** Called with all bytes so far, each time more have arrived. */
    look(bytes: Buffer): FirstBytes<Found>;
    onFound(found: Found): void;
    onBad(why: "bad" | "timeout"): void;
  }>,
): void {
  let seen: Buffer = Buffer.alloc(0);
  const waiting = setTimeout(() => fail("timeout"), waitMsMax);
  waiting.unref();
  socket.on("readable", read);
  socket.once("end", end);
  socket.once("close", stop);
  socket.on("error", ignore);

  function stop(): void {
    clearTimeout(waiting);
    socket.off("readable", read);
    socket.off("end", end);
    socket.off("close", stop);
    socket.off("error", ignore);
  }

  function end(): void {
    stop();
    socket.destroy();
  }

  function fail(why: "bad" | "timeout"): void {
    stop();
    socket.on("error", ignore);
    socket.destroy();
    how.onBad(why);
  }

  function read(): void {
    for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null)
      seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    if (seen.length === 0) return;
    const answer = how.look(seen);
    if (answer.type === "more") return;
    if (answer.type === "bad") {
      fail("bad");
      return;
    }
    stop();
    const rest = seen.subarray(answer.own);
    if (rest.length > 0) socket.unshift(rest);
    how.onFound(answer.found);
  }
}

function ignore(): void {}
