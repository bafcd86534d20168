/**
 * TLS listener: the handshakes of one listener. The certificate follows the name that a caller asks for, else the address
 * that it came to, else the first one is shown, as Envoy does for Pomerium. TLS 1.2 and 1.3.
 *
 * What it serves with is a generation that never changes. A reload builds the next one whole before anything uses it:
 * handshakes that begin afterwards meet it, connections that are open notice nothing.
 */
import { constants, X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { createSecureContext, createServer, type SecureContext, type Server, type TLSSocket } from "node:tls";
import type { TlsFiles } from "../../config/index.ts";
import { CertificateIndex } from "./certificate-index.ts";

export type Protocol = "h2" | "http/1.1";
export type TlsMaterial = Readonly<{
  /** PEM. The first one is for callers that ask for no name that is known. Empty: every handshake fails. */
  certificates: readonly TlsFiles[];
  /** PEM: authorities of certificates that callers are asked for; empty: they are asked for none. */
  clientAuthorities: readonly string[];
  /** The best first (ALPN). */
  protocols: readonly Protocol[];
}>;

export type TlsListener = Readonly<{
  /** Begins a handshake on a connection from which nothing was read, or what was read was put back. */
  accept(socket: Socket): void;
  /** Serves handshakes from now on with this. @throws the reason when it cannot be used; then nothing has changed */
  reload(material: TlsMaterial): void;
}>;

type Generation = Readonly<{ serverFor(socket: Socket): Server }>;

/** Nothing but arithmetic and two round trips. */
const handshakeMsMax = 15_000;
/** Forward secrecy and authenticated encryption only: those of Pomerium for TLS 1.2, and all of TLS 1.3. */
const ciphers = [
  "TLS_AES_256_GCM_SHA384",
  "TLS_CHACHA20_POLY1305_SHA256",
  "TLS_AES_128_GCM_SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");

/**
 * Nobody is refused in the handshake: what a certificate is worth is decided by its route. A resumed session would bring back the
 * verdict of another time, without the chain that it was about, so there are none where certificates are asked for.
 */
function clientOptions(authorities: readonly string[]): object {
  if (authorities.length === 0) return {};
  return {
    ca: [...authorities],
    allowPartialTrustChain: true, // an intermediate that is named is enough, as in Pomerium
    requestCert: true,
    rejectUnauthorized: false,
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

export function createTlsListener(
  material: TlsMaterial,
  hooks: Readonly<{
    /** The handshake is done. */
    onSecure(socket: TLSSocket): void;
    onFailed(code: string, socket: Socket): void;
    wall(): number;
  }>,
): TlsListener {
  let current = createGeneration(material);

  function createGeneration({ certificates, clientAuthorities, protocols }: TlsMaterial): Generation {
    const clients = clientOptions(clientAuthorities);
    const shown = certificates.map(({ cert, key }) => {
      // The authorities too: the name that is asked for must not lead to others.
      const context = createSecureContext({ cert, key, ciphers, minVersion: "TLSv1.2", ...clients });
      return { certificate: new X509Certificate(cert), value: { cert, key, context } };
    });
    const index = new CertificateIndex(shown, hooks.wall());
    const servers = new Map<SecureContext | null, Server>();
    const serverOf = (pair: (TlsFiles & { context: SecureContext }) | undefined): Server => {
      const known = servers.get(pair?.context ?? null);
      if (known !== undefined) return known;
      const server = createServer({
        ...(pair === undefined ? {} : { cert: pair.cert, key: pair.key }),
        ciphers,
        minVersion: "TLSv1.2",
        ...clients,
        ALPNProtocols: [...protocols],
        handshakeTimeout: handshakeMsMax,
        SNICallback: (name, choose) => choose(null, (index.byName(name) ?? shown[0]?.value)?.context),
      });
      server.on("secureConnection", hooks.onSecure);
      server.on("tlsClientError", (error: Error & { code?: string }, socket: Socket) => {
        hooks.onFailed(error.code ?? "ERR_TLS", socket);
        socket.destroy();
      });
      servers.set(pair?.context ?? null, server);
      return server;
    };
    serverOf(shown[0]?.value);
    return { serverFor: (socket) => serverOf(index.byAddress(socket.localAddress ?? "") ?? shown[0]?.value) };
  }

  return {
    accept: (socket) => void current.serverFor(socket).emit("connection", socket),
    reload(next) {
      current = createGeneration(next);
    },
  };
}
