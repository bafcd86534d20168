/**
 * Links: the network between a cluster's processes, in a process of its own, so that it can be broken.
 *
 * Each link listens on its own port and forwards to one address. A cut link drops nothing and reports nothing: bytes in
 * flight wait, and new connections are accepted and lead nowhere, as when a network loses every packet. When it heals,
 * waiting bytes arrive late. Kernel buffers on both sides hold what fits; after that the senders block.
 */
import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { connectMain, type LinkState } from "./helper-process.ts";

/** Links that share a `name` are broken together. */
export type Link = Readonly<{ name: string; port: number; to: number }>;
export type LinksOptions = Readonly<{ links: readonly Link[]; slowMs: number }>;

const { options, main } = connectMain<LinksOptions>();
const states = new Map<string, LinkState>();
const pairs = new Map<string, Set<Pair>>();

/** One direction of a connection: bytes in order, each delayed by `lateMs`. */
class Lane {
  readonly #from: Socket;
  readonly #to: Socket;
  #open = false;
  #lateMs = 0;
  /** When the last bytes are due. Later bytes wait at least as long. */
  #dueAt = 0;

  constructor(from: Socket, to: Socket) {
    this.#from = from;
    this.#to = to;
    from.on("data", (bytes) => this.#after(() => this.#pass(bytes)));
    from.on("end", () => this.#after(() => void to.end()));
    to.on("drain", () => this.#flow());
  }

  set({ open, lateMs }: Readonly<{ open: boolean; lateMs: number }>): void {
    this.#open = open;
    this.#lateMs = lateMs;
    if (open) this.#flow();
    else this.#from.pause();
  }

  #flow(): void {
    if (this.#open && !this.#to.writableNeedDrain) this.#from.resume();
  }

  #pass(bytes: string | Uint8Array): void {
    if (!this.#to.write(bytes)) this.#from.pause();
  }

  #after(act: () => void): void {
    const now = performance.now();
    this.#dueAt = Math.max(this.#dueAt, now + this.#lateMs);
    if (this.#dueAt <= now) act();
    else setTimeout(act, this.#dueAt - now);
  }
}

/** One connection and its far half, which is dialled once the near side is readable. */
class Pair {
  readonly #near: Socket;
  readonly #to: number;
  #lanes: Readonly<{ out: Lane; back: Lane }> | undefined;

  constructor(near: Socket, to: number) {
    this.#near = near;
    this.#to = to;
    near.setNoDelay(true); // otherwise a commit waits for delayed acknowledgements
  }

  set(state: LinkState): void {
    if (state !== "cut") this.#lanes ??= this.#dial();
    const lateMs = state === "slow" ? options.slowMs : 0;
    this.#lanes?.out.set({ open: state !== "cut", lateMs });
    this.#lanes?.back.set({ open: state === "whole" || state === "slow", lateMs });
  }

  #dial(): Readonly<{ out: Lane; back: Lane }> {
    const near = this.#near;
    const far = dial({ port: this.#to, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
    const end = (): void => {
      near.destroy();
      far.destroy();
    };
    for (const socket of [near, far]) socket.on("close", end);
    far.on("error", end);
    return { out: new Lane(near, far), back: new Lane(far, near) };
  }
}

function listen({ name, port, to }: Link): Promise<Server> {
  const own = pairs.get(name) ?? new Set<Pair>();
  pairs.set(name, own);
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (near) => {
    const pair = new Pair(near, to);
    own.add(pair);
    near.on("error", () => near.destroy());
    near.on("close", () => own.delete(pair));
    pair.set(states.get(name) ?? "whole");
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

main.onMessage((message) => {
  if (message.type === "stop") process.exit(0);
  if (message.type !== "link") return;
  for (const name of message.links) {
    states.set(name, message.state);
    for (const pair of pairs.get(name) ?? []) pair.set(message.state);
  }
});
await Promise.all(options.links.map(listen));
main.send({ type: "ready", port: 0 });
