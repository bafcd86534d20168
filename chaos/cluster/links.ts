/**
 * Links: the network between a cluster's processes, in a process of its own, so that it can be broken.
 *
 * Each link listens on its own port and forwards to one address. A cut link drops nothing and reports nothing: bytes in
 * flight wait, and new connections are accepted and lead nowhere, as when a network loses every packet. When it heals,
 * waiting bytes arrive late. Kernel buffers on both sides hold what fits; after that the senders block.
 */
import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { connectMain } from "./helper-process.ts";
import { directionOf, type LaneState, type Link, type LinkState, type Rule, stateOf } from "./link-rules.ts";

export type LinksOptions = Readonly<{ links: readonly Link[] }>;

const { options, main } = connectMain<LinksOptions>();
const rules = new Map<string, readonly Rule[]>();
const pairs = new Map<Link, Set<Pair>>();

/** What a trickling lane carries: so many bytes each turn. */
const trickle = { bytes: 40, everyMs: 200 };

/** One direction of a connection: bytes in order, each delayed by `lateMs`. */
class Lane {
  readonly #from: Socket;
  readonly #to: Socket;
  #state: LaneState = { open: false, lateMs: 0, trickles: false };
  /** When the last bytes are due. Later bytes wait at least as long. */
  #dueAt = 0;

  constructor(from: Socket, to: Socket) {
    this.#from = from;
    this.#to = to;
    from.on("data", (bytes) => this.#take(typeof bytes === "string" ? Buffer.from(bytes) : bytes));
    from.on("end", () => this.#after(0, () => void to.end()));
    to.on("drain", () => this.#flow());
  }

  set(state: LaneState): void {
    this.#state = state;
    if (state.open) this.#flow();
    else this.#from.pause();
  }

  #flow(): void {
    if (this.#state.open && !this.#to.writableNeedDrain) this.#from.resume();
  }

  #take(bytes: Buffer): void {
    if (!this.#state.trickles) {
      this.#after(0, () => this.#pass(bytes));
      return;
    }
    // The sender has to wait, or its bytes would pile up here.
    this.#from.pause();
    for (let at = 0; at < bytes.length; at += trickle.bytes) {
      const piece = bytes.subarray(at, at + trickle.bytes);
      const isLast = at + trickle.bytes >= bytes.length;
      this.#after(trickle.everyMs, () => {
        this.#pass(piece);
        if (isLast) this.#flow();
      });
    }
  }

  #pass(bytes: Uint8Array): void {
    if (!this.#to.destroyed && !this.#to.write(bytes)) this.#from.pause();
  }

  /** @param gapMs the least time since the bytes before */
  #after(gapMs: number, act: () => void): void {
    const now = performance.now();
    this.#dueAt = Math.max(this.#dueAt + gapMs, now + this.#state.lateMs);
    if (this.#dueAt <= now) act();
    else setTimeout(act, this.#dueAt - now);
  }
}

/** One connection and its far half, which is dialled once the near side is readable. */
class Pair {
  readonly #near: Socket;
  readonly #to: number;
  #lanes: Readonly<{ out: Lane; back: Lane }> | undefined;
  #forgotten = false;

  constructor(near: Socket, to: number) {
    this.#near = near;
    this.#to = to;
    near.setNoDelay(true); // otherwise a commit waits for delayed acknowledgements
  }

  set({ out, back }: LinkState): void {
    if (this.#forgotten) return;
    if (out.open) this.#lanes ??= this.#dial();
    this.#lanes?.out.set(out);
    this.#lanes?.back.set(back);
  }

  /** The connection carries nothing from now on, and neither end notices. */
  forget(): void {
    this.#forgotten = true;
    const closed: LaneState = { open: false, lateMs: 0, trickles: false };
    this.#lanes?.out.set(closed);
    this.#lanes?.back.set(closed);
  }

  #dial(): Readonly<{ out: Lane; back: Lane }> {
    const near = this.#near;
    const far = dial({ port: this.#to, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
    const end = (): void => {
      if (this.#forgotten) return;
      near.destroy();
      far.destroy();
    };
    for (const socket of [near, far]) socket.on("close", end);
    far.on("error", end);
    return { out: new Lane(near, far), back: new Lane(far, near) };
  }
}

const inForce = (): readonly Rule[] => [...rules.values()].flat();

function listen(link: Link): Promise<Server> {
  const own = new Set<Pair>();
  pairs.set(link, own);
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (near) => {
    const pair = new Pair(near, link.to);
    own.add(pair);
    near.on("error", () => near.destroy());
    near.on("close", () => own.delete(pair));
    pair.set(stateOf(link, inForce()));
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(link.port, "127.0.0.1", () => resolve(server));
  });
}

main.onMessage((message) => {
  if (message.type === "stop") process.exit(0);
  if (message.type !== "break-links" && message.type !== "heal-links") return;
  if (message.type === "break-links") rules.set(message.id, message.rules);
  else rules.delete(message.id);
  const forgetting = (message.type === "break-links" ? message.rules : []).filter(
    ({ effect }) => effect.type === "half-open",
  );
  for (const [link, own] of pairs) {
    const state = stateOf(link, inForce());
    for (const pair of own) {
      if (forgetting.some((rule) => directionOf(rule, link) !== null)) pair.forget();
      pair.set(state);
    }
  }
  main.send({ type: "links-set", id: message.id });
});
await Promise.all(options.links.map(listen));
main.send({ type: "ready", port: 0 });
