/**
 * A crowd of idle WebSockets: a separate process that executes messages one after another.
 *
 * `open` opens a number of them; `say` sends one frame of 16 bytes on each and waits until all have returned; `close`
 * closes all. Each order is answered when it is done, with the number of open WebSockets. Any error ends the process.
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";

export type CrowdOrder =
  | Readonly<{ type: "open"; count: number; port: number; headers: readonly string[] }>
  | Readonly<{ type: "say" | "close" }>;
export type CrowdAnswer = Readonly<{ open: number }>;

const atOnce = 64;
/** A whole binary frame with a mask of zeros, and 16 bytes. */
const frame = Buffer.concat([Buffer.from([0x82, 0x90, 0, 0, 0, 0]), Buffer.alloc(16, "x")]);
const sockets: Socket[] = [];
let closing = false;

process.on("message", (order: CrowdOrder) => {
  obey(order).then(
    () => process.send?.({ open: sockets.length } satisfies CrowdAnswer),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});

async function obey(order: CrowdOrder): Promise<void> {
  switch (order.type) {
    case "open": {
      closing = false;
      const ask = order;
      const until = sockets.length + order.count;
      let begun = sockets.length;
      const worker = async (): Promise<void> => {
        while (begun++ < until) sockets.push(await open(ask));
      };
      await Promise.all(Array.from({ length: atOnce }, worker));
      return;
    }
    case "say":
      for (let i = 0; i < sockets.length; i += atOnce) await Promise.all(sockets.slice(i, i + atOnce).map(echo));
      return;
    case "close":
      closing = true;
      for (const socket of sockets.splice(0)) socket.destroy();
  }
}

async function open({ port, headers }: Extract<CrowdOrder, { type: "open" }>): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  const handshake = [
    "GET /live HTTP/1.1",
    ...headers,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`,
  ];
  socket.write(`${handshake.join("\r\n")}\r\n\r\n`);
  let answer = "";
  while (!answer.includes("\r\n\r\n")) answer += String((await once(socket, "data"))[0]);
  if (!answer.startsWith("HTTP/1.1 101 ")) throw new Error(answer.slice(0, answer.indexOf("\r\n")));
  socket.on("close", () => {
    if (!closing) throw new Error("a WebSocket was closed");
  });
  return socket;
}

async function echo(socket: Socket): Promise<void> {
  socket.write(frame);
  for (let bytes = 0; bytes < frame.length; ) bytes += ((await once(socket, "data"))[0] as Buffer).length;
}
