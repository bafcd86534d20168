/**
 * WebSocket echo server: returns every byte of a frame unchanged, still masked, which the bench's client accepts.
 * Argument: port.
 */
import { createHash } from "node:crypto";
import { createServer } from "node:http";

const server = createServer((_request, response) => response.end("hello from upstream\n"));
server.on("upgrade", (request, socket) => {
  const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  const accept = createHash("sha1").update(key).digest("base64");
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  socket.on("error", () => {});
  socket.pipe(socket);
});
server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4_096 });
