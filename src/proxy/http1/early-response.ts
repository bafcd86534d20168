/**
 * Last words: what an upstream said before it closed under a body that was still on its way to it.
 *
 * Whoever refuses a body answers and closes, often without reading any more of it. The next write then fails, while the answer has
 * arrived and nobody has read it; Node gives both up. Here a failed write leaves the socket open where somebody wants to hear it out.
 */
import type { Socket } from "node:net";

/** @param mayKeepOpen whether the socket is to stay open behind this failed write; then it is theirs to destroy */
export function interceptWriteErrors(socket: Socket, mayKeepOpen: (error: Error) => boolean): void {
  const destroy = socket.destroy.bind(socket);
  socket.destroy = (error) => (isWriteError(error) && mayKeepOpen(error) ? socket : destroy(error));
}

function isWriteError(error: unknown): error is Error {
  return error instanceof Error && "syscall" in error && error.syscall === "write";
}
