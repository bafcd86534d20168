/**
 * WAN: a TCP relay that simulates the link between two regions.
 *
 * - Data arrives in order, with the same delay in each direction.
 * - A cut loses nothing and shows nothing, like a network that drops every packet: data in flight waits, and new
 *   connections are accepted but lead nowhere.
 * - After healing, the waiting data arrives.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export type Wan = Readonly<{
  port: number;
  /** Sets the delay (ms) in each direction. */
  delay(ms: number): void;
  cut(): void;
  /** Only data from the far side waits. */
  cutAnswers(): void;
  heal(): void;
  /** Connections accepted so far. */
  accepted(): number;
  close(): Promise<void>;
}>;

type State = { lateMs: number; cut: "none" | "answers" | "all" };
type Way = "request" | "answer";

/** One direction of a connection. */
class Direction {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #state: State;
  readonly #way: Way;
  /** When the last bytes are due. Later bytes wait at least as long. */
  #dueAt = 0;
  /** In order. Each timer takes the first: timers of different lengths may end in another order than they began. */
  readonly #late: (() => void)[] = [];

  constructor(way: Way, from: Socket, to: Socket, state: State) {
    this.#way = way;
    this.#from = from;
    this.#to = to;
    this.#state = state;
    from.on("data", (bytes) => this.#after(() => to.write(bytes)));
    from.on("end", () => this.#after(() => to.end()));
    this.flow();
  }

  flow(): void {
    const { cut } = this.#state;
    if (cut === "none" || (cut === "answers" && this.#way === "request")) this.#from.resume();
    else this.#from.pause();
  }

  #after(act: () => void): void {
    const now = performance.now();
    this.#dueAt = Math.max(this.#dueAt, now + this.#state.lateMs);
    if (this.#dueAt <= now && this.#late.length === 0) {
      act();
      return;
    }
    this.#late.push(act);
    setTimeout(() => {
      const next = this.#late.shift();
      if (!this.#to.destroyed) next?.();
    }, this.#dueAt - now);
  }
}

export async function startWan(to: number, options: Readonly<{ lateMs?: number; port?: number }> = {}): Promise<Wan> {
  const state: State = { lateMs: options.lateMs ?? 0, cut: "none" };
  const pairs = new Set<{ near: Socket; directions: Direction[]; join: () => void }>();
  let accepted = 0;
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (near) => {
    accepted += 1;
    const pair = { near, directions: [] as Direction[], join };
    function join(): void {
      if (pair.directions.length > 0) return;
      const far = connect({ port: to, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
      const end = (): void => {
        near.destroy();
        far.destroy();
      };
      near.on("close", end);
      far.on("close", end);
      far.on("error", end);
      pair.directions = [new Direction("request", near, far, state), new Direction("answer", far, near, state)];
    }
    pairs.add(pair);
    near.on("error", () => near.destroy());
    near.on("close", () => pairs.delete(pair));
    if (state.cut !== "all") join();
  });
  server.listen(options.port ?? 0, "127.0.0.1");
  await once(server, "listening");
  const flow = (): void => {
    for (const { directions } of pairs) for (const direction of directions) direction.flow();
  };
  return {
    port: (server.address() as AddressInfo).port,
    delay(ms) {
      state.lateMs = ms;
    },
    cut() {
      state.cut = "all";
      flow();
    },
    cutAnswers() {
      state.cut = "answers";
      flow();
    },
    heal() {
      state.cut = "none";
      for (const { join } of pairs) join();
      flow();
    },
    accepted: () => accepted,
    async close() {
      for (const { near } of pairs) near.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
