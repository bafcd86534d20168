/**
 * Listener: the sockets that callers connect to. HTTP/2 and HTTP/1.1 over TLS with certificates chosen by name, or plain
 * HTTP.
 *
 * It accepts, keeps count of its connections and of their deadlines, and closes them when this node goes. What is read
 * from them is the matter of http1/connection.ts and http2/connection.ts.
 */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { RenderPage } from "../../auth/index.ts";
import type { Config, HostPort } from "../../config/index.ts";
import type { AcmeServing } from "../autocert/autocert-timer.ts";
import { Http1Connection } from "../http1/connection.ts";
import { Http2Connection } from "../http2/connection.ts";
import type { ConnectionOwner } from "../message/connection-owner.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { HeaderValueCheck } from "../message/header-values.ts";
import type { ConnectionPeer } from "../message/peer.ts";
import { malformedRequestReply } from "../reply/malformed-request-reply.ts";
import { listenAt } from "../tls/bound-server.ts";
import { createEntry, type EntryConfig, type EntryHooks } from "../tls/entry-listener.ts";
import { readEndedPeers } from "./linux-tcp-table-file.ts";

/** What of a configuration makes a listener. */
export type ListenerConfig = EntryConfig & Pick<Config, "address" | "timeouts">;

export type ProxyListener = Readonly<{
  /** Where it really listens. */
  address: HostPort;
  /**
   * Handshakes from now on meet these certificates, and connections these time-outs. @throws the reason when they cannot be
   * used; then nothing has changed
   */
  reload(config: ListenerConfig): void;
  /** Takes no new connections and closes idle ones; settles when the last one is gone. */
  stopAccepting(): Promise<void>;
  /** Settles when no caller is left that has been told everything and may not have read it. */
  whenHeard(): Promise<void>;
  /** Closes every connection that is left, but for upgraded ones. */
  destroyConnections(): void;
}>;

/** How often deadlines are looked at: they are exceeded by no more than this. */
const sweepEveryMs = 1_000;

export async function listen(
  config: ListenerConfig,
  onRequest: (downstream: Downstream) => void,
  hooks: Readonly<{
    requestId: () => string;
    render: RenderPage;
    /** Milliseconds that only grow. */
    monotonic: () => number;
    draining: () => boolean;
    mayUpgrade: (protocol: string) => boolean;
  }> &
    Omit<EntryHooks, "onEntered">,
  acme: AcmeServing | null,
): Promise<ProxyListener> {
  let { timeouts } = config;
  const owner: ConnectionOwner = {
    onRequest,
    onRefused: hooks.onRefused,
    malformedRequestReply: (status) =>
      malformedRequestReply(status, { requestId: hooks.requestId(), render: hooks.render, now: hooks.wall() }),
    now: hooks.monotonic,
    httpDate: dates(hooks.wall),
    isDraining: hooks.draining,
    mayUpgradeTo: hooks.mayUpgrade,
    headerValues: new HeaderValueCheck(),
    get readMs() {
      return unlessNone(timeouts.readMs);
    },
    get readLimit() {
      return timeouts.readLimit;
    },
    get idleMs() {
      return unlessNone(timeouts.idleMs);
    },
  };
  const connections = new Map<Http1Connection | Http2Connection, Socket>();

  // --- from a connection to its requests

  function speak(socket: Socket, caller: ConnectionPeer, protocol?: TLSSocket["alpnProtocol"]): void {
    if (protocol === "h2" || config.codecType === "http2") {
      take(new Http2Connection(socket, caller, owner), socket);
      return;
    }
    const onHttp2 = (): void => {
      connections.delete(connection);
      take(new Http2Connection(socket, caller, owner), socket);
    };
    const connection = new Http1Connection(socket, caller, owner, config.codecType === "http1" ? null : onHttp2);
    take(connection, socket);
  }

  function take(connection: Http1Connection | Http2Connection, socket: Socket): void {
    connections.set(connection, socket);
    socket.once("close", () => connections.delete(connection));
  }

  /** Whoever ends its side behind an upload that is held back has left as well. */
  let asking = false;
  async function askForEnds(paused: readonly Http1Connection[]): Promise<void> {
    asking = true;
    try {
      const hasEnded = await readEndedPeers();
      for (const connection of paused) connection.destroyIfPeerEnded(hasEnded);
    } finally {
      asking = false;
    }
  }

  const { server, ...entry } = createEntry(config, { ...hooks, onEntered: speak }, acme);
  const sweeping = setInterval(() => {
    const now = hooks.monotonic();
    const paused: Http1Connection[] = [];
    for (const connection of connections.keys()) {
      connection.sweep(now);
      if (connection instanceof Http1Connection && connection.readPaused) paused.push(connection);
    }
    if (paused.length > 0 && !asking) void askForEnds(paused);
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
      for (const connection of connections.keys()) connection.closeIdle();
      entry.destroyEntering();
      await closed;
      clearInterval(sweeping);
    },
    async whenHeard() {
      for (;;) {
        const lingering = [...connections].flatMap(([connection, socket]) => (connection.lingering ? [socket] : []));
        if (lingering.length === 0) return;
        await Promise.all(lingering.map((socket) => new Promise<void>((resolve) => socket.once("close", resolve))));
      }
    },
    destroyConnections() {
      for (const connection of connections.keys()) connection.destroyUnlessTaken();
    },
  };
}

/** The same text for a second. */
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

/** Of a limit of which 0 means none. */
function unlessNone(ms: number): number {
  return ms === 0 ? Infinity : ms;
}
