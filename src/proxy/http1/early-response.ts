/**
 * Early response: what an upstream sent before it closed while a request body was still on its way to it.
 *
 * A server that refuses a body answers and closes, often without reading the rest. The next write then fails while
 * the response has arrived unread, and Node discards both. Here a failed write leaves the socket open if the caller
 * of this function still wants to read from it.
 */
import type { Socket } from "node:net";

/** @param mayKeepOpen whether the socket stays open after this failed write; the caller then destroys it */
export function interceptWriteErrors(socket: Socket, mayKeepOpen: (error: Error) => boolean): void {
  const destroy = socket.destroy.bind(socket);
  socket.destroy = (error) => (isWriteError(error) && mayKeepOpen(error) ? socket : destroy(error));
}

function isWriteError(error: unknown): error is Error {
  return error instanceof Error && "syscall" in error && error.syscall === "write";
}
