/**
 * Bare TLS server: the floor of new TLS connections in Node. It reads once, writes a fixed response to the socket and
 * ends the connection. It parses no HTTP, decides nothing and records nothing.
 *
 *   node bench/support/bare-tls-server.ts PORT CERTIFICATE_FILE KEY_FILE
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:tls";

const [, , port = "0", certFile = "", keyFile = ""] = process.argv;
const body = "<html>bad request</html>";
const response = `HTTP/1.1 400 Bad Request\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;

const server = createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile), ca: [] }, (socket) => {
  socket.on("error", () => {}); // the caller may reset it
  socket.once("data", () => socket.end(response));
});
server.listen(Number(port), "127.0.0.1");
