/**
 * WAN: the long way between two regions, as a TCP relay. What passes arrives late by the same time in either direction
 * and in order; a cut loses nothing and says nothing: what is under way waits, new connections are taken and lead
 * nowhere, as with a network that loses every packet. When it heals, what has waited arrives.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export type Wan = Readonly<{
  port: number;
  /** In each direction. */
  delay(ms: number): void;
  cut(): void;
  heal(): void;
  /** Connections taken so far. */
  taken(): number;
  close(): Promise<void>;
}>;

type State = { lateMs: number; open: boolean };

/** One direction of a connection. */
class Lane {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #state: State;
  /** When the last bytes are due: what comes behind them waits at least as long. */
  #dueAt = 0;

  constructor(from: Socket, to: Socket, state: State) {
    this.#from = from;
    this.#to = to;
    this.#state = state;
    from.on("data", (bytes) => this.#after(() => to.write(bytes)));
    from.on("end", () => this.#after(() => to.end()));
    this.flow();
  }

  flow(): void {
    if (this.#state.open) this.#from.resume();
    else this.#from.pause();
  }

  #after(act: () => void): void {
    const now = performance.now();
    this.#dueAt = Math.max(this.#dueAt, now + this.#state.lateMs);
    if (this.#dueAt <= now) act();
    else setTimeout(() => !this.#to.destroyed && act(), this.#dueAt - now);
  }
}

export async function startWan(to: number, options: Readonly<{ lateMs?: number; port?: number }> = {}): Promise<Wan> {
  const state: State = { lateMs: options.lateMs ?? 0, open: true };
  const pairs = new Set<{ near: Socket; lanes: Lane[]; join: () => void }>();
  let taken = 0;
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (near) => {
    taken += 1;
    const pair = { near, lanes: [] as Lane[], join };
    function join(): void {
      if (pair.lanes.length > 0) return;
      const far = connect({ port: to, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
      const end = (): void => {
        near.destroy();
        far.destroy();
      };
      near.on("close", end);
      far.on("close", end);
      far.on("error", end);
      pair.lanes = [new Lane(near, far, state), new Lane(far, near, state)];
    }
    pairs.add(pair);
    near.on("error", () => near.destroy());
    near.on("close", () => pairs.delete(pair));
    if (state.open) join();
  });
  server.listen(options.port ?? 0, "127.0.0.1");
  await once(server, "listening");
  const flow = (): void => {
    for (const { lanes } of pairs) for (const lane of lanes) lane.flow();
  };
  return {
    port: (server.address() as AddressInfo).port,
    delay(ms) {
      state.lateMs = ms;
    },
    cut() {
      state.open = false;
      flow();
    },
    heal() {
      state.open = true;
      for (const { join } of pairs) join();
      flow();
    },
    taken: () => taken,
    async close() {
      for (const { near } of pairs) near.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
