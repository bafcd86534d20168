/**
 * ACME challenge listener: answers the TLS-ALPN-01 handshakes of a certificate authority (RFC 8737).
 *
 * A handshake's certificate is chosen before its protocol is negotiated. So while a challenge is open, connections are
 * inspected first: those that offer `acme-tls/1` are handled here, and all others continue untouched.
 */
import type { Socket } from "node:net";
import { createSecureContext, createServer, type Server, type TLSSocket } from "node:tls";
import type { TlsFiles } from "../../config/index.ts";
import type { FirstBytes } from "./first-bytes-socket.ts";

const protocol = "acme-tls/1";
/** The protocol name as in a ClientHello, with its length first. */
const acmeAlpnBytes = Buffer.from(`\n${protocol}`, "latin1");
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

/** For `readFirstBytes`: whether the first handshake record offers the protocol. Consumes nothing. */
export function lookForQuestion(bytes: Buffer): FirstBytes<boolean> {
  const other: FirstBytes<boolean> = { type: "found", own: 0, found: false };
  if (bytes[0] !== handshakeByte) return other;
  if (bytes.length < 5) return { type: "more" };
  const length = bytes.readUInt16BE(3);
  if (length > recordBytesMax) return other;
  if (bytes.length < 5 + length) return { type: "more" };
  return { type: "found", own: 0, found: bytes.subarray(5, 5 + length).includes(acmeAlpnBytes) };
}

function ignore(): void {}
