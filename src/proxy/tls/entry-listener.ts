/**
 * Entry: the path of a connection from its first byte to HTTP: PROXY protocol, ACME challenges, TLS, and the refusal of
 * callers without a client certificate where every route requires one.
 */
import { createServer, type Server, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Config, TlsFiles } from "../../config/index.ts";
import type { AcmeServing } from "../autocert/autocert-timer.ts";
import { type Linked, LinkedList } from "../enforce/intrusive-list.ts";
import { guardSocket } from "../enforce/send-queue-socket.ts";
import type { ConnectionPeer } from "../message/peer.ts";
import { createQuestionListener, lookForQuestion } from "./acme-challenge-listener.ts";
import { type ClientTrusts, compileClientTrusts } from "./client-trust.ts";
import { readFirstBytes } from "./first-bytes-socket.ts";
import { readPresented } from "./presented-certificate.ts";
import { lookForProxyHeader } from "./proxy-protocol.ts";
import { selfSignedCertificate } from "./self-signed.ts";
import { createTlsListener, type Protocol, type TlsListener, type TlsMaterial } from "./tls-listener.ts";

/** The part of the configuration that an entry follows. */
export type EntryConfig = Pick<
  Config,
  | "insecureServer"
  | "certificates"
  | "codecType"
  | "tlsSessionTickets"
  | "useProxyProtocol"
  | "downstreamMtls"
  | "routes"
  | "sharedSecret"
  | "authenticateServiceUrl"
>;

export type EntryHooks = Readonly<{
  /** @param protocol the negotiated protocol; undefined: none, or no TLS */
  onEntered(socket: Socket, caller: ConnectionPeer, protocol?: TLSSocket["alpnProtocol"]): void;
  onRefused(code: string): void;
  /** A caller was refused before its first request. */
  onConnectionFailure(failure: Readonly<{ ip: string; fingerprint: string | null; why: string }>): void;
  wall(): number;
}>;

export type Entry = Readonly<{
  /** Not listening yet; the caller binds it. */
  server: Server;
  /** Uses these certificates for new handshakes. @throws the reason when they are unusable; then nothing changes */
  reload(config: EntryConfig): void;
  /** Closes connections that have not reached HTTP. */
  destroyEntering(): void;
}>;

/** A TCP connection that has not reached HTTP. */
type Entering = Linked<Entering> & { readonly socket: Socket; caller: ConnectionPeer };
/** On the socket itself: a `WeakMap` costs each connection time of the collector. */
const enteringKey = Symbol("entering");
type EnteringSocket = Socket & { [enteringKey]?: Entering | undefined };

export function createEntry(config: EntryConfig, hooks: EntryHooks, acme: AcmeServing | null): Entry {
  let inForce = config;
  let trusts = compileClientTrusts(config);
  const questions = acme === null ? null : createQuestionListener(acme.challengeCertificate);
  const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, arrive);
  const entering = new LinkedList<Entering>();
  const tls: TlsListener | null = config.insecureServer
    ? null
    : createTlsListener(materialOf(config, trusts, acme), { onSecure, onFailed: hooks.onRefused, wall: hooks.wall });
  acme?.onChange(() => tls?.reload(materialOf(inForce, trusts, acme)));

  function release(this: EnteringSocket): void {
    const entry = this[enteringKey];
    if (entry === undefined) return;
    this[enteringKey] = undefined;
    entering.remove(entry);
  }

  function arrive(socket: EnteringSocket): void {
    const caller: ConnectionPeer = { address: plainAddress(socket.remoteAddress), skippedBytes: 0, certificate: null };
    const entry: Entering = { socket, caller, before: undefined, after: undefined };
    socket[enteringKey] = entry;
    entering.push(entry);
    socket.on("close", release);
    if (!config.useProxyProtocol) {
      enter(socket, caller);
      return;
    }
    readFirstBytes(socket, {
      look: lookForProxyHeader,
      onFound({ address, bytes }) {
        entry.caller = { ...caller, address: address ?? caller.address, skippedBytes: bytes };
        enter(socket, entry.caller);
      },
      onBad: (why) => hooks.onRefused(`proxy-protocol-${why}`),
    });
  }

  function enter(socket: Socket, caller: ConnectionPeer): void {
    if (tls === null) {
      enterHttp(socket, socket, caller);
      return;
    }
    if (acme?.isAsked() !== true) {
      tls.accept(socket);
      return;
    }
    readFirstBytes(socket, {
      look: lookForQuestion,
      onFound: (isQuestion) => (isQuestion && questions !== null ? questions : tls).accept(socket),
      onBad: (why) => hooks.onRefused(`handshake-${why}`),
    });
  }

  function onSecure(socket: TLSSocket, mayPresent: boolean): void {
    const tcp = tcpSocketOf(socket);
    const entered = tcp[enteringKey]?.caller;
    // The connection has closed meanwhile.
    if (entered === undefined) {
      socket.destroy();
      return;
    }
    const certificate = mayPresent ? readPresented(socket.getPeerX509Certificate(), socket.authorized) : null;
    const caller = { address: entered.address, skippedBytes: 0, certificate };
    const { door } = trusts;
    if (door === null || door.judge(certificate, hooks.wall()).valid) {
      enterHttp(tcp, socket, caller, socket.alpnProtocol);
      return;
    }
    hooks.onRefused(certificate === null ? "client-certificate-required" : "invalid-client-certificate");
    hooks.onConnectionFailure({
      ip: caller.address,
      fingerprint: certificate?.fingerprint ?? null,
      why: String(certificate === null ? "no certificate" : (socket.authorizationError ?? "not accepted here")),
    });
    socket.destroy();
  }

  function enterHttp(tcp: Socket, socket: Socket, caller: ConnectionPeer, protocol?: TLSSocket["alpnProtocol"]): void {
    release.call(tcp);
    guardSocket(socket);
    hooks.onEntered(socket, caller, protocol);
  }

  return {
    server,
    reload(next) {
      const nextTrusts = compileClientTrusts(next);
      tls?.reload(materialOf(next, nextTrusts, acme));
      inForce = next;
      trusts = nextTrusts;
    },
    destroyEntering() {
      for (const { socket } of entering.items()) socket.destroy();
    },
  };
}

const protocolsOf: Readonly<Record<Config["codecType"], readonly Protocol[]>> = {
  auto: ["h2", "http/1.1"],
  http1: ["http/1.1"],
  http2: ["h2"],
};

function materialOf(config: EntryConfig, { authorities }: ClientTrusts, acme: AcmeServing | null): TlsMaterial {
  const { certificates, codecType, tlsSessionTickets, sharedSecret } = config;
  const all = acme === null && certificates.length === 0 ? [selfSignedOf(config)] : [...certificates];
  all.push(...(acme?.certificates() ?? []));
  return {
    certificates: all,
    clientAuthorities: authorities,
    protocols: protocolsOf[codecType],
    ticketSecret: tlsSessionTickets === "shared" ? sharedSecret : null,
  };
}

/** As in Pomerium, when no certificate is configured and no authority issues one. */
function selfSignedOf({ sharedSecret, routes, authenticateServiceUrl }: EntryConfig): TlsFiles {
  return selfSignedCertificate(sharedSecret, [authenticateServiceUrl.hostname, ...routes.map(({ host }) => host)]);
}

function plainAddress(address: string | undefined): string {
  return (address ?? "").replace(/^::ffff:/, "");
}

/** The TCP connection below TLS, as `node:tls` keeps it. Compared by identity only. */
function tcpSocketOf(socket: TLSSocket): EnteringSocket {
  return (socket as unknown as { _parent: EnteringSocket })._parent;
}
