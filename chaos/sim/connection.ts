/**
 * Connection: two processes and an ordered, reliable stream of messages each way, as TCP gives them.
 *
 * Across a cut nothing is lost at first: it is sent again and again, and comes late, unless somebody gives the
 * connection up before. When one side dies the other is told by its kernel, if the network lets that through; otherwise
 * it finds out by its own patience. What was sent before a close arrives before it.
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
  /** A side that is undefined has closed, was told, or is dead. */
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

  /** Called once, when this side learns that the other has gone; not when it closes itself. */
  onClosed(side: Side, tell: () => void): void {
    this.#onClosed[side] = tell;
  }

  /** From this side to the other. Nothing happens when this side is closed. */
  send(from: Side, deliver: () => void): void {
    if (!this.isOpen(from)) return;
    const other: Side = from === "client" ? "server" : "client";
    this.#carry(from === "client" ? this.#toServer : this.#toClient, () => {
      if (this.isOpen(other)) deliver();
    });
  }

  /** This side wants no more of it; the other is told behind everything sent before. */
  close(side: Side): void {
    if (!this.isOpen(side)) return;
    const other: Side = side === "client" ? "server" : "client";
    this.#shut(side);
    if (!this.isOpen(other)) return;
    this.#carry(side === "client" ? this.#toServer : this.#toClient, () => this.#told(other));
  }

  /** Something between the two forgets the connection: both are told soon, and what is under way is lost. */
  reset(): void {
    for (const way of [this.#toServer, this.#toClient]) {
      const side: Side = way === this.#toServer ? "server" : "client";
      way.held = [];
      this.#ground.at(this.#ground.now() + this.#network.delay(way.from, way.to), () => {
        if (way.to.boot === way.toBoot) way.to.run(() => this.#told(side));
      });
    }
    this.#lost = true;
  }
  #lost = false;

  #told(side: Side): void {
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
