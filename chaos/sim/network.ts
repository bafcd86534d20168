/**
 * Network of the simulated world: messages between processes, with delay, loss and cuts.
 *
 * Three ways to talk: `send` (a message that may be lost and may overtake another), `request` (one answer, or a reason
 * why there is none), `connect` (connection.ts: ordered and reliable until it breaks, as TCP is). A cut goes one way
 * from one process to another; cuts, loss and slowness are counted, so that two faults on one pair do not heal each
 * other.
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
  /** Nobody listens there: surely not handled. */
  | Readonly<{ type: "refused" }>
  /** No answer in time, or the other side died: may be handled. */
  | Readonly<{ type: "lost" }>;

export type Requesting<T> = Readonly<{
  timeoutMs: number;
  /** Runs at the other side; `reply` may be called later, once. */
  handle: (reply: (value: T) => void) => void;
  /** Runs at this side, once, unless this boot ends before. */
  done: (outcome: RequestOutcome<T>) => void;
}>;

/** Undoes one fault; a second call does nothing. */
export type Undo = () => void;

/** Processes of one world, at most. */
export const processesMax = 128;

export class Network {
  readonly #ground: NetworkGround;
  readonly #cuts = new Int16Array(processesMax * processesMax);
  readonly #loss = new Float64Array(processesMax * processesMax);
  readonly #slow = new Float64Array(processesMax * processesMax);
  /** Open connections, for faults that break some; in the order of their opening. */
  readonly connections = new Set<Connection>();

  constructor(ground: NetworkGround) {
    this.#ground = ground;
  }

  /** One way, from the first to the second. */
  cut(from: SimProcess, to: SimProcess): Undo {
    const at = from.index * processesMax + to.index;
    this.#cuts[at] = (this.#cuts[at] ?? 0) + 1;
    return once(() => {
      this.#cuts[at] = (this.#cuts[at] ?? 0) - 1;
    });
  }

  /** Both ways, between every one of these and every one of those. */
  part(these: readonly SimProcess[], those: readonly SimProcess[]): Undo {
    const undo = these.flatMap((a) => those.filter((b) => b !== a).flatMap((b) => [this.cut(a, b), this.cut(b, a)]));
    return once(() => {
      for (const heal of undo) heal();
    });
  }

  isCut(from: SimProcess, to: SimProcess): boolean {
    return (this.#cuts[from.index * processesMax + to.index] ?? 0) > 0;
  }

  /** Adds to the chance that a message is lost. */
  lose(from: SimProcess, to: SimProcess, p: number): Undo {
    return this.#add(this.#loss, from, to, p);
  }

  /** Adds to the delay; each message by a random part of `ms`, up to all of it. */
  slow(from: SimProcess, to: SimProcess, ms: number): Undo {
    return this.#add(this.#slow, from, to, ms);
  }

  isLost(from: SimProcess, to: SimProcess): boolean {
    const p = this.#loss[from.index * processesMax + to.index] ?? 0;
    return p > 0 && this.#ground.random.chance(p);
  }

  /** How long a message takes now: 0.2–2 ms inside a region, about 40 ms between two. */
  delay(from: SimProcess, to: SimProcess): number {
    const { random } = this.#ground;
    const u = random.next();
    const slow = this.#slow[from.index * processesMax + to.index] ?? 0;
    const base = from === to ? 0.02 : from.region === to.region ? 0.2 + 1.8 * u * u * u : 39 + 4 * u * u;
    return slow > 0 ? base + slow * random.next() : base;
  }

  /** @returns whether it is under way: for the simulation's own counters, never for the sender */
  send(from: SimProcess, to: SimProcess, deliver: () => void): boolean {
    if (this.isCut(from, to) || this.isLost(from, to)) return false;
    this.#ground.at(this.#ground.now() + this.delay(from, to), () => {
      to.run(deliver);
    });
    return true;
  }

  request<T>(from: SimProcess, to: SimProcess, asking: Requesting<T>): void {
    const boot = from.boot;
    let open = true;
    const timer = from.after(asking.timeoutMs, () => end({ type: "lost" }));
    const end = (outcome: RequestOutcome<T>): void => {
      if (!open || from.boot !== boot) return;
      open = false;
      timer.cancel();
      asking.done(outcome);
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
        asking.handle((value) => {
          if (replied) return;
          replied = true;
          takeBack();
          answer({ type: "answered", value });
        }),
      );
    });
  }

  /** Opens a connection, or says why not. */
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

  /** What is lost on a connection is sent again after a while. */
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
