/**
 * Live upstream: holds WebSockets, event streams and TCP connections by the thousand. Each gets one message when it is
 * open, and nothing after it. Arguments: the port for HTTP, and the port for TCP.
 */
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { createServer as createTcpServer } from "node:net";

const [, , httpPort, tcpPort] = process.argv.map(Number);
const listen = (port: number | undefined) => ({ port, host: "127.0.0.1", backlog: 4_096 });

const http = createServer((_request, response) => {
  response.writeHead(200, { "content-type": "text/event-stream" }).write("data: tick\n\n");
});
http.on("upgrade", (request, socket) => {
  const key = `${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
  const accept = createHash("sha1").update(key).digest("base64");
  socket.on("error", () => {});
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n\x82\x04tick`,
    "latin1",
  );
  socket.resume();
});
http.timeout = 0;
http.listen(listen(httpPort));
createTcpServer((socket) => {
  socket.on("error", () => {});
  socket.resume().write("tick");
}).listen(listen(tcpPort));
