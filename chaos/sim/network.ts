/**
 * Network of the simulated world: messages between processes, with delay, loss and cuts.
 *
 * - `send`: a message that may be lost and may overtake another.
 * - `request`: one answer, or the reason why there is none.
 * - `connect` (connection.ts): ordered and reliable until it breaks, like TCP.
 *
 * A cut is one-way, from one process to another. Cuts, loss and delay are counted, so that the end of one fault on a
 * pair does not heal another fault there.
 */
import { type Connecting, Connection } from "./connection.ts";
import type { Due } from "./heap.ts";
import type { SimProcess } from "./process.ts";
import type { Stream } from "./random.ts";

export type NetworkGround = Readonly<{
  now(): number;
  at(time: number, run: () => void): Due;
  note(who: string, text: string): void;
  random: Stream;
}>;

export type RequestOutcome<T> =
  | Readonly<{ type: "answered"; value: T }>
  /** No process listens there: the request was certainly not handled. */
  | Readonly<{ type: "refused" }>
  /** No answer in time, or the other side died: the request may have been handled. */
  | Readonly<{ type: "lost" }>;

export type NetworkRequest<T> = Readonly<{
  timeoutMs: number;
  /** Runs on the other side, which calls `reply` at most once, possibly later. */
  handle: (reply: (value: T) => void) => void;
  /** Runs once on this side, unless this boot ends first. */
  done: (outcome: RequestOutcome<T>) => void;
}>;

/** Undoes one fault; a second call does nothing. */
export type Undo = () => void;

/** Maximum number of processes in one world. */
export const processesMax = 128;

export class Network {
  readonly #ground: NetworkGround;
  readonly #cuts = new Int16Array(processesMax * processesMax);
  readonly #loss = new Float64Array(processesMax * processesMax);
  readonly #slow = new Float64Array(processesMax * processesMax);
  /** Open connections in the order of their opening; faults break some of them. */
  readonly connections = new Set<Connection>();

  constructor(ground: NetworkGround) {
    this.#ground = ground;
  }

  /** Cuts one direction, from the first process to the second. */
  cut(from: SimProcess, to: SimProcess): Undo {
    const at = from.index * processesMax + to.index;
    this.#cuts[at] = (this.#cuts[at] ?? 0) + 1;
    return once(() => {
      this.#cuts[at] = (this.#cuts[at] ?? 0) - 1;
    });
  }

  /** Cuts both directions between each process of the first list and each of the second. */
  part(these: readonly SimProcess[], those: readonly SimProcess[]): Undo {
    const undo = these.flatMap((a) => those.filter((b) => b !== a).flatMap((b) => [this.cut(a, b), this.cut(b, a)]));
    return once(() => {
      for (const heal of undo) heal();
    });
  }

  isCut(from: SimProcess, to: SimProcess): boolean {
    return (this.#cuts[from.index * processesMax + to.index] ?? 0) > 0;
  }

  /** Adds to the probability that a message is lost. */
  lose(from: SimProcess, to: SimProcess, p: number): Undo {
    return this.#add(this.#loss, from, to, p);
  }

  /** Adds to the delay: each message is delayed by a random time from 0 to `ms`. */
  slow(from: SimProcess, to: SimProcess, ms: number): Undo {
    return this.#add(this.#slow, from, to, ms);
  }

  isLost(from: SimProcess, to: SimProcess): boolean {
    const p = this.#loss[from.index * processesMax + to.index] ?? 0;
    return p > 0 && this.#ground.random.chance(p);
  }

  /** The current delay of a message: 0.2–2 ms within a region, about 40 ms between two regions. */
  delay(from: SimProcess, to: SimProcess): number {
    const { random } = this.#ground;
    const u = random.next();
    const slow = this.#slow[from.index * processesMax + to.index] ?? 0;
    const base = from === to ? 0.02 : from.region === to.region ? 0.2 + 1.8 * u * u * u : 39 + 4 * u * u;
    return slow > 0 ? base + slow * random.next() : base;
  }

  /** @returns true if the message is in flight; only for the simulation's counters, never for the sender */
  send(from: SimProcess, to: SimProcess, deliver: () => void): boolean {
    if (this.isCut(from, to) || this.isLost(from, to)) return false;
    this.#ground.at(this.#ground.now() + this.delay(from, to), () => {
      to.run(deliver);
    });
    return true;
  }

  request<T>(from: SimProcess, to: SimProcess, request_: NetworkRequest<T>): void {
    const boot = from.boot;
    let open = true;
    const timer = from.after(request_.timeoutMs, () => end({ type: "lost" }));
    const end = (outcome: RequestOutcome<T>): void => {
      if (!open || from.boot !== boot) return;
      open = false;
      timer.cancel();
      request_.done(outcome);
    };
    const answer = (outcome: RequestOutcome<T>): void => {
      if (this.isCut(to, from)) return;
      this.#ground.at(this.#arrival(to, from), () => {
        if (open && from.boot === boot) from.run(() => end(outcome));
      });
    };
    if (this.isCut(from, to)) return;
    this.#ground.at(this.#arrival(from, to), () => {
      if (!to.isUp) return answer({ type: "refused" });
      const takeBack = to.onKill(() => answer({ type: "lost" }));
      let replied = false;
      to.run(() =>
        request_.handle((value) => {
          if (replied) return;
          replied = true;
          takeBack();
          answer({ type: "answered", value });
        }),
      );
    });
  }

  /** Opens a connection, or reports the reason for the failure. */
  connect(from: SimProcess, to: SimProcess, connecting: Connecting): void {
    const boot = from.boot;
    let waiting = true;
    const settle = (then: () => void): void => {
      if (!waiting || from.boot !== boot) return;
      waiting = false;
      timer.cancel();
      then();
    };
    const timer = from.after(connecting.timeoutMs, () => settle(() => connecting.failed("timeout")));
    if (this.isCut(from, to)) return;
    this.#ground.at(this.#arrival(from, to), () => {
      const up = to.isUp;
      if (this.isCut(to, from)) return;
      this.#ground.at(this.#arrival(to, from), () => {
        if (from.boot !== boot || !from.isUp) return;
        from.run(() =>
          settle(() => {
            if (!up || !to.isUp) return connecting.failed("refused");
            const connection = new Connection(this, this.#ground, { client: from, server: to });
            connecting.opened(connection);
          }),
        );
      });
    });
  }

  /** Arrival time on a connection: a lost segment is retransmitted, which adds a delay. */
  #arrival(from: SimProcess, to: SimProcess): number {
    const again = this.isLost(from, to) ? 200 : 0;
    return this.#ground.now() + this.delay(from, to) + again;
  }

  #add(table: Float64Array, from: SimProcess, to: SimProcess, amount: number): Undo {
    const at = from.index * processesMax + to.index;
    table[at] = (table[at] ?? 0) + amount;
    return once(() => {
      table[at] = Math.max(0, (table[at] ?? 0) - amount);
    });
  }
}

function once(undo: Undo): Undo {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    undo();
  };
}
