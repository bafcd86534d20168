/**
 * TLS listener: the handshakes of one listener, with TLS 1.2 and 1.3.
 *
 * - The certificate is chosen by server name, else by local address; else it is the first one, as Envoy does for
 *   Pomerium.
 * - A set of TLS settings never changes. A reload builds the next set completely before it is used: later handshakes
 *   use it, and open connections are unaffected.
 */
import { constants, X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import {
  createSecureContext,
  createServer,
  type SecureContext,
  type Server,
  type TLSSocket,
  type TlsOptions,
} from "node:tls";
import type { TlsFiles } from "../../config/index.ts";
import { CertificateIndex } from "./certificate-index.ts";
import { ticketContext, ticketKeysOf, ticketPeriodAt, ticketPeriodMs } from "./ticket-keys.ts";

export type Protocol = "h2" | "http/1.1";
export type TlsMaterial = Readonly<{
  /** PEM. The first certificate is the default. Empty: every handshake fails. */
  certificates: readonly TlsFiles[];
  /** PEM: authorities of client certificates; empty: none is requested. */
  clientAuthorities: readonly string[];
  /** ALPN protocols in order of preference. */
  protocols: readonly Protocol[];
  /** Derives the keys of session tickets. Null: each set of TLS settings has random ones. */
  ticketSecret: Uint8Array | null;
}>;

export type TlsListener = Readonly<{
  /** Begins a handshake on a connection whose first byte is unread or was put back. */
  accept(socket: Socket): void;
  /** Uses these settings for new handshakes. @throws the reason when they are unusable; then nothing changes */
  reload(material: TlsMaterial): void;
}>;

/** A parsed certificate with its key, ready to be served. */
type Served = TlsFiles & Readonly<{ context: SecureContext; certificate: X509Certificate }>;

type Generation = Readonly<{
  /** By the text of the certificate. */
  served: ReadonlyMap<string, Served>;
  clientAuthorities: readonly string[];
  serverFor(socket: Socket): Server;
  /** Seals and opens tickets with the keys of this period from now on. */
  useTicketsOf(period: number): void;
}>;

/** Two round trips and arithmetic. */
const handshakeMsMax = 15_000;
/** Only forward secrecy and authenticated encryption: Pomerium's suites for TLS 1.2, and all of TLS 1.3. */
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
 * The handshake refuses no certificate; the route decides. A resumed session would restore an earlier verification
 * result without its chain, so sessions are not resumed where certificates are requested.
 */
function clientOptions(authorities: readonly string[]): object {
  if (authorities.length === 0) return { ca: [] }; // without it Node gives each context the system's authorities
  return {
    ca: [...authorities],
    allowPartialTrustChain: true, // a configured intermediate is sufficient, as in Pomerium
    requestCert: true,
    rejectUnauthorized: false,
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

export function createTlsListener(
  material: TlsMaterial,
  hooks: Readonly<{
    /** The handshake is complete. @param mayPresent the caller was asked for a certificate */
    onSecure(socket: TLSSocket, mayPresent: boolean): void;
    onFailed(code: string, socket: Socket): void;
    wall(): number;
  }>,
): TlsListener {
  let period = ticketPeriodAt(hooks.wall());
  let current = createGeneration(material);

  function createGeneration(
    { certificates, clientAuthorities, protocols, ticketSecret }: TlsMaterial,
    earlier?: Generation,
  ): Generation {
    const clients = clientOptions(clientAuthorities);
    const ticketKeysNow = (): object =>
      ticketSecret === null ? {} : { ticketKeys: ticketKeysOf(ticketSecret, certificates, period) };
    const reusable = isSameList(earlier?.clientAuthorities, clientAuthorities) ? earlier?.served : undefined;
    const served = serveAll(certificates, clients, reusable);
    const shown = certificates.flatMap(({ cert }) => {
      const value = served.get(cert);
      return value === undefined ? [] : [{ certificate: value.certificate, value }];
    });
    const first = shown[0]?.value;
    const index = new CertificateIndex(shown, hooks.wall());
    const servers = new Map<Served | undefined, Server>();
    const serverOf = (pair: Served | undefined): Server => {
      const known = servers.get(pair);
      if (known !== undefined) return known;
      const byName: TlsOptions["SNICallback"] = (name, done) => {
        const chosen = index.byName(name) ?? first;
        // Undefined: that of this server, which knows no partial chains of client certificates.
        done(null, chosen === pair && clientAuthorities.length === 0 ? undefined : chosen?.context);
      };
      const server = createServer({
        ...(pair === undefined ? {} : { cert: pair.cert, key: pair.key }),
        ciphers,
        minVersion: "TLSv1.2",
        ...clients,
        ALPNProtocols: [...protocols],
        handshakeTimeout: handshakeMsMax,
        sessionIdContext: ticketContext,
        sessionTimeout: ticketPeriodMs / 1_000,
        ...ticketKeysNow(),
        // Without a choice Node need not interrupt the handshake.
        ...(served.size > 1 || clientAuthorities.length > 0 ? { SNICallback: byName } : {}),
      });
      server.on("secureConnection", (socket) => hooks.onSecure(socket, clientAuthorities.length > 0));
      server.on("tlsClientError", (error: Error & { code?: string }, socket: Socket) => {
        hooks.onFailed(error.code ?? "ERR_TLS", socket);
        socket.destroy();
      });
      servers.set(pair, server);
      return server;
    };
    serverOf(first);
    return {
      served,
      clientAuthorities,
      serverFor: (socket) =>
        serverOf((index.hasAddresses ? index.byAddress(socket.localAddress ?? "") : undefined) ?? first),
      useTicketsOf(next) {
        if (ticketSecret === null) return;
        const keys = ticketKeysOf(ticketSecret, certificates, next);
        for (const server of servers.values()) server.setTicketKeys(keys);
      },
    };
  }

  return {
    accept(socket) {
      const periodNow = ticketPeriodAt(hooks.wall());
      if (periodNow !== period) {
        period = periodNow;
        current.useTicketsOf(period);
      }
      current.serverFor(socket).emit("connection", socket);
    },
    reload(next) {
      current = createGeneration(next, current);
    },
  };
}

/** Parses what was not served before: a thousand certificates take more than a second. */
function serveAll(
  certificates: readonly TlsFiles[],
  clients: object,
  earlier: ReadonlyMap<string, Served> | undefined,
): ReadonlyMap<string, Served> {
  const served = new Map<string, Served>();
  const parseOne = ({ cert, key }: TlsFiles): Served => {
    // The authorities too: the server name must not select others.
    const context = createSecureContext({ cert, key, ciphers, minVersion: "TLSv1.2", ...clients });
    return { cert, key, context, certificate: new X509Certificate(cert) };
  };
  for (const { cert, key } of certificates) {
    const known = served.get(cert) ?? earlier?.get(cert);
    const one = known?.key === key ? known : parseOne({ cert, key });
    if (!served.has(cert)) served.set(cert, one); // the first of equal ones counts
  }
  return served;
}

function isSameList(one: readonly string[] | undefined, other: readonly string[]): boolean {
  return one?.length === other.length && other.every((text, index) => text === one[index]);
}
