/**
 * First bytes: looks at what comes first on a connection, and puts back what is not its own.
 *
 * Bounded in time; how many bytes it waits for is the matter of whoever reads them. A connection that ends, or says what it
 * should not, is closed without a word.
 */
import type { Socket } from "node:net";

/** A round trip or two: what is waited for is sent at once. */
const waitMsMax = 10_000;

/** `own`: how many of the bytes are not passed on. */
export type FirstBytes<Found> =
  | Readonly<{ type: "more" }>
  | Readonly<{ type: "bad" }>
  | Readonly<{ type: "found"; own: number; found: Found }>;

export function readFirstBytes<Found>(
  socket: Socket,
  how: Readonly<{
    /** Asked with all that has come so far, whenever more has. */
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
