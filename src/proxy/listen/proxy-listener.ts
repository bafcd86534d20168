/**
 * Proxy listener: the sockets that callers connect to. It serves HTTP/2 and HTTP/1.1 over TLS, with certificates chosen
 * by name, or plain HTTP.
 *
 * It accepts connections, enforces their deadlines, and closes them when this node stops. http1/connection.ts and
 * http2/connection.ts read requests from them.
 */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { RenderPage } from "../../auth/index.ts";
import type { Config, HostPort } from "../../config/index.ts";
import type { AcmeServing } from "../autocert/autocert-timer.ts";
import { type Linked, LinkedList } from "../enforce/intrusive-list.ts";
import { Http1Connection } from "../http1/connection.ts";
import { Http2Connection } from "../http2/connection.ts";
import { ResponseNames } from "../http2/hpack/response-names.ts";
import { NodeHttp2Connection } from "../http2/node-connection.ts";
import type { ConnectionOwner } from "../message/connection-owner.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { HeaderValueCheck } from "../message/header-values.ts";
import type { ConnectionPeer } from "../message/peer.ts";
import { malformedRequestReply } from "../reply/malformed-request-reply.ts";
import { listenAt } from "../tls/bound-server.ts";
import { createEntry, type EntryConfig, type EntryHooks } from "../tls/entry-listener.ts";
import { PeerEndTimer } from "./peer-end-timer.ts";

/** The part of the configuration that a listener needs. */
export type ListenerConfig = EntryConfig & Pick<Config, "address" | "timeouts" | "http2Connections">;

type Connection = Http1Connection | Http2Connection | NodeHttp2Connection;
type OpenConnection = Linked<OpenConnection> & Readonly<{ connection: Connection; socket: Socket }>;

export type ProxyListener = Readonly<{
  /** The bound address. */
  address: HostPort;
  /**
   * Uses these certificates for new handshakes and these time-outs for all connections.
   *
   * @throws the reason when they are unusable; then nothing changes
   */
  reload(config: ListenerConfig): void;
  /** Accepts no more connections and closes idle ones. Resolves when the last connection has closed. */
  stopAccepting(): Promise<void>;
  /** Resolves when every caller has read its whole response or has left. */
  whenHeard(): Promise<void>;
  /** Closes all remaining connections except upgraded ones. */
  destroyConnections(): void;
}>;

/** The interval of deadline checks, and so the most by which a deadline is exceeded. */
const sweepEveryMs = 1_000;

export async function openProxyListener(
  config: ListenerConfig,
  onRequest: (downstream: Downstream) => void,
  hooks: Readonly<{
    requestId: () => string;
    render: RenderPage;
    /** Monotonic milliseconds. */
    monotonic: () => number;
    draining: () => boolean;
    mayUpgrade: (protocol: string) => boolean;
  }> &
    Omit<EntryHooks, "onEntered">,
  acme: AcmeServing | null,
): Promise<ProxyListener> {
  let { timeouts } = config;
  const peerEnds = new PeerEndTimer();
  const owner: ConnectionOwner = {
    onRequest,
    onRefused: hooks.onRefused,
    onReadPaused: (connection) => peerEnds.add(connection),
    malformedRequestReply: (status) =>
      malformedRequestReply(status, { requestId: hooks.requestId(), render: hooks.render, now: hooks.wall() }),
    now: hooks.monotonic,
    httpDate: dates(hooks.wall),
    isDraining: hooks.draining,
    mayUpgradeTo: hooks.mayUpgrade,
    headerValues: new HeaderValueCheck(),
    get readMs() {
      return limitOf(timeouts.readMs);
    },
    get readLimit() {
      return timeouts.readLimit;
    },
    get idleMs() {
      return limitOf(timeouts.idleMs);
    },
  };
  const connections = new LinkedList<OpenConnection>();
  const responseNames = new ResponseNames();

  // --- from a connection to its requests

  function newHttp2Connection(socket: Socket, caller: ConnectionPeer): Connection {
    return config.http2Connections === "node"
      ? new NodeHttp2Connection(socket, caller, owner)
      : new Http2Connection(socket, caller, owner, responseNames);
  }

  function serve(socket: Socket, caller: ConnectionPeer, protocol?: TLSSocket["alpnProtocol"]): void {
    if (protocol === "h2" || config.codecType === "http2") {
      take(newHttp2Connection(socket, caller), socket);
      return;
    }
    const onHttp2 = (): void => {
      release();
      take(newHttp2Connection(socket, caller), socket);
    };
    const connection = new Http1Connection(socket, caller, owner, config.codecType === "http1" ? null : onHttp2);
    const release = take(connection, socket);
  }

  /** @returns ends the listing before the connection closes */
  function take(connection: Connection, socket: Socket): () => void {
    const open: OpenConnection = { connection, socket, before: undefined, after: undefined };
    let isListed = true;
    const release = (): void => {
      if (isListed) connections.remove(open);
      isListed = false;
    };
    connections.push(open);
    socket.once("close", release);
    return release;
  }

  const { server, ...entry } = createEntry(config, { ...hooks, onEntered: serve }, acme);
  const sweeping = setInterval(() => {
    const now = hooks.monotonic();
    const paused: Http1Connection[] = [];
    for (const { connection } of connections.items()) {
      connection.sweep(now);
      if (connection instanceof Http1Connection && connection.readPaused) paused.push(connection);
    }
    peerEnds.sweep(paused);
  }, sweepEveryMs);
  sweeping.unref();

  const address = await listenAt(server, config.address);
  return {
    address,
    reload(next) {
      entry.reload(next);
      timeouts = next.timeouts;
    },
    async stopAccepting() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const { connection } of connections.items()) connection.closeIdle();
      entry.destroyEntering();
      await closed;
      clearInterval(sweeping);
    },
    async whenHeard() {
      for (;;) {
        const lingering = connections
          .items()
          .flatMap(({ connection, socket }) => (connection.lingering ? [socket] : []));
        if (lingering.length === 0) return;
        await Promise.all(lingering.map((socket) => new Promise<void>((resolve) => socket.once("close", resolve))));
      }
    },
    destroyConnections() {
      for (const { connection } of connections.items()) connection.destroyUnlessTaken();
    },
  };
}

/** Formats the date once per second. */
function dates(wall: () => number): () => string {
  let second = -1;
  let text = "";
  return () => {
    const now = Math.floor(wall() / 1_000);
    if (now !== second) {
      second = now;
      text = new Date(now * 1_000).toUTCString();
    }
    return text;
  };
}

/** A limit; 0 means unlimited. */
function limitOf(ms: number): number {
  return ms === 0 ? Infinity : ms;
}
