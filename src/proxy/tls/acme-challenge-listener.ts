/**
 * ACME's TLS-ALPN-01 questions: handshakes of an authority that wants to see a certificate made for it (RFC 8737).
 *
 * Which certificate a handshake meets is settled before its protocol is; so while there is a question, connections are looked at first:
 * what asks for `acme-tls/1` comes here, where nothing else is spoken, and the rest goes on untouched.
 */
import type { Socket } from "node:net";
import { createSecureContext, createServer, type Server, type TLSSocket } from "node:tls";
import type { TlsFiles } from "../../config/index.ts";
import type { FirstBytes } from "./first-bytes-socket.ts";

const protocol = "acme-tls/1";
/** As it stands in a ClientHello: its length first. */
const asked = Buffer.from(`\n${protocol}`, "latin1");
const recordBytesMax = 16_384;
const handshakeByte = 0x16;

export function createQuestionListener(
  certificateFor: (host: string) => TlsFiles | undefined,
): Readonly<{ accept(socket: Socket): void }> {
  const server: Server = createServer({
    minVersion: "TLSv1.2",
    ALPNProtocols: [protocol],
    handshakeTimeout: 10_000,
    SNICallback(name, choose) {
      const pair = certificateFor(name.toLowerCase());
      choose(null, pair === undefined ? undefined : createSecureContext({ ...pair }));
    },
  });
  server.on("secureConnection", (socket: TLSSocket) => {
    socket.on("error", ignore);
    socket.end();
  });
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  return { accept: (socket) => void server.emit("connection", socket) };
}

/** For `readFirstBytes`: whether the first record of a handshake asks for it. Nothing is taken away. */
export function lookForQuestion(bytes: Buffer): FirstBytes<boolean> {
  const other: FirstBytes<boolean> = { type: "found", own: 0, found: false };
  if (bytes[0] !== handshakeByte) return other;
  if (bytes.length < 5) return { type: "more" };
  const length = bytes.readUInt16BE(3);
  if (length > recordBytesMax) return other;
  if (bytes.length < 5 + length) return { type: "more" };
  return { type: "found", own: 0, found: bytes.subarray(5, 5 + length).includes(asked) };
}

function ignore(): void {}
