/** The raw socket of an attacker: sends bytes and reads everything that comes back. */
import { once } from "node:events";
import type { Socket } from "node:net";

/** How long a connection may stay open; longer is a finding. */
const withinMs = 20_000;

/** Sends everything and reads until the other side closes. @returns latin1 */
export async function sendAndReadAll(socket: Socket, bytes: string): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on("error", () => {}); // a reset ends the exchange as well
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  socket.write(bytes, "latin1");
  let stuck = false;
  const timer = setTimeout(() => {
    stuck = true;
    socket.destroy();
  }, withinMs);
  await once(socket, "close");
  clearTimeout(timer);
  const received = Buffer.concat(chunks).toString("latin1");
  if (stuck) throw new Error(`the connection was not closed within ${withinMs} ms; received: ${received}`);
  return received;
}
