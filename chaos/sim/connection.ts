/**
 * Connection: two processes and an ordered, reliable stream of messages in each direction, as TCP provides.
 *
 * - A cut loses no message: the sender retransmits, and the message arrives late unless a side closes the connection
 *   first.
 * - When one side dies, its kernel notifies the other side if the network lets that through. Otherwise the other side
 *   finds out by its own timeout.
 * - Messages sent before a close arrive before it.
 */
import type { Network, NetworkGround } from "./network.ts";
import type { SimProcess } from "./process.ts";

export type Side = "client" | "server";

export type Connecting = Readonly<{
  timeoutMs: number;
  opened: (connection: Connection) => void;
  failed: (reason: "refused" | "timeout") => void;
}>;

const firstAgainMs = 200;
const againMsMax = 3_000;
const heldMax = 20_000;

/** One direction. */
type Way = {
  readonly from: SimProcess;
  readonly to: SimProcess;
  readonly toBoot: number;
  lastArrival: number;
  held: (() => void)[];
  againMs: number;
};

export class Connection {
  readonly client: SimProcess;
  readonly server: SimProcess;
  readonly #network: Network;
  readonly #ground: NetworkGround;
  readonly #toServer: Way;
  readonly #toClient: Way;
  /** A side is not open once it has closed, learned of the other side's close, or died. */
  #clientOpen = true;
  #serverOpen = true;
  #onClosed: { client: (() => void) | undefined; server: (() => void) | undefined } = {
    client: undefined,
    server: undefined,
  };
  readonly #takeBack: (() => void)[];

  constructor(network: Network, ground: NetworkGround, ends: Readonly<{ client: SimProcess; server: SimProcess }>) {
    this.#network = network;
    this.#ground = ground;
    this.client = ends.client;
    this.server = ends.server;
    this.#toServer = wayOf(ends.client, ends.server);
    this.#toClient = wayOf(ends.server, ends.client);
    this.#takeBack = [this.client.onKill(() => this.close("client")), this.server.onKill(() => this.close("server"))];
    network.connections.add(this);
  }

  isOpen(side: Side): boolean {
    return side === "client" ? this.#clientOpen : this.#serverOpen;
  }

  /** Calls `tell` once, when this side learns that the other side is gone. Not called when this side closes itself. */
  onClosed(side: Side, callback: () => void): void {
    this.#onClosed[side] = callback;
  }

  /** Sends to the other side. Does nothing when this side is closed. */
  send(from: Side, deliver: () => void): void {
    if (!this.isOpen(from)) return;
    const other: Side = from === "client" ? "server" : "client";
    this.#carry(from === "client" ? this.#toServer : this.#toClient, () => {
      if (this.isOpen(other)) deliver();
    });
  }

  /** Closes this side. The other side learns of it after everything sent before. */
  close(side: Side): void {
    if (!this.isOpen(side)) return;
    const other: Side = side === "client" ? "server" : "client";
    this.#shut(side);
    if (!this.isOpen(other)) return;
    this.#carry(side === "client" ? this.#toServer : this.#toClient, () => this.#notifyClosed(other));
  }

  /**
   * Resets the connection, as a middlebox that lost its state does. Both sides learn of it soon; data in flight is
   * lost.
   */
  reset(): void {
    for (const way of [this.#toServer, this.#toClient]) {
      const side: Side = way === this.#toServer ? "server" : "client";
      way.held = [];
      this.#ground.at(this.#ground.now() + this.#network.delay(way.from, way.to), () => {
        if (way.to.boot === way.toBoot) way.to.run(() => this.#notifyClosed(side));
      });
    }
    this.#lost = true;
  }
  #lost = false;

  #notifyClosed(side: Side): void {
    if (!this.isOpen(side)) return;
    this.#shut(side);
    this.#onClosed[side]?.();
  }

  #shut(side: Side): void {
    if (side === "client") this.#clientOpen = false;
    else this.#serverOpen = false;
    if (this.#clientOpen || this.#serverOpen) return;
    this.#network.connections.delete(this);
    for (const takeBack of this.#takeBack) takeBack();
  }

  #carry(way: Way, deliver: () => void): void {
    if (this.#lost) return;
    if (way.held.length > 0 || this.#network.isCut(way.from, way.to)) {
      if (way.held.length >= heldMax) throw new Error(`${way.from.name} to ${way.to.name}: too much waits in a cut`);
      way.held.push(deliver);
      if (way.held.length === 1) this.#again(way);
      return;
    }
    const lost = this.#network.isLost(way.from, way.to) ? firstAgainMs : 0;
    const arrival = Math.max(way.lastArrival, this.#ground.now() + this.#network.delay(way.from, way.to) + lost);
    way.lastArrival = arrival;
    this.#ground.at(arrival, () => {
      if (!this.#lost && way.to.boot === way.toBoot) way.to.run(deliver);
    });
  }

  #again(way: Way): void {
    this.#ground.at(this.#ground.now() + way.againMs, () => {
      if (way.held.length === 0 || !(this.#clientOpen || this.#serverOpen)) return;
      if (this.#network.isCut(way.from, way.to)) {
        way.againMs = Math.min(againMsMax, way.againMs * 2);
        this.#again(way);
        return;
      }
      way.againMs = firstAgainMs;
      const held = way.held;
      way.held = [];
      for (const deliver of held) this.#carry(way, deliver);
    });
  }
}

function wayOf(from: SimProcess, to: SimProcess): Way {
  return { from, to, toBoot: to.boot, lastArrival: 0, held: [], againMs: firstAgainMs };
}
