/**
 * Clock of one simulated machine: a monotonic clock that runs at its own rate and a wall clock that can be set.
 *
 * - Real time belongs to the world; no process in the world can read it.
 * - A suspension of the machine stops its monotonic clock (as Linux does) or does not (as some hypervisors do).
 * - The wall clock may be late after a suspension too, until a time server sets it.
 */
import type { MonotonicMs, UnixMs } from "../../src/events/index.ts";

/** Structurally the `Moment` of the cores. */
export type Moment = Readonly<{ monotonic: MonotonicMs; wall: UnixMs }>;

/** The clocks that stop while a machine is suspended. */
export type Frozen = "monotonic" | "both";

export class Clock {
  readonly #now: () => number;
  /** At real time `#since` the monotonic clock read `#monotonic`. */
  #since: number;
  #monotonic: number;
  /** Wall clock minus monotonic clock. */
  #wallAhead: number;
  #rate = 1;
  #frozen: Frozen | undefined;
  /** Number of suspensions in effect. The clock runs again when the last of them ends. */
  #sleeps = 0;
  /** Time (ms) that the wall clock lost in suspensions that stopped it too. */
  #missedMs = 0;

  /** @param now real time */
  constructor(now: () => number, start: Readonly<{ monotonic: number; wall: number }>) {
    this.#now = now;
    this.#since = now();
    this.#monotonic = start.monotonic;
    this.#wallAhead = start.wall - start.monotonic;
  }

  get rate(): number {
    return this.#rate;
  }

  monotonic(): MonotonicMs {
    return this.#reading() as MonotonicMs;
  }

  wall(): UnixMs {
    const lost = this.#frozen === "monotonic" ? (this.#now() - this.#since) * this.#rate : 0;
    return Math.floor(this.#reading() + this.#wallAhead + lost) as UnixMs;
  }

  moment(): Moment {
    return { monotonic: this.monotonic(), wall: this.wall() };
  }

  /** Real time at which the monotonic clock reaches this reading, if its rate stays and no suspension begins. */
  realTimeOf(monotonic: number): number {
    return this.#since + (monotonic - this.#monotonic) / this.#rate;
  }

  /** A rate of 1.01 gains 10 ms a second. */
  setRate(rate: number): void {
    this.#rebase();
    this.#rate = rate;
  }

  stepWall(ms: number): void {
    this.#wallAhead += ms;
  }

  /** A suspension during another one keeps the clocks that the first one stopped. */
  freeze(which: Frozen): void {
    this.#rebase();
    this.#sleeps += 1;
    this.#frozen ??= which;
  }

  thaw(): void {
    if (this.#frozen === undefined) return;
    this.#sleeps -= 1;
    if (this.#sleeps > 0) return;
    const sleptMs = (this.#now() - this.#since) * this.#rate;
    if (this.#frozen === "monotonic") this.#wallAhead += sleptMs;
    else this.#missedMs += sleptMs;
    this.#since = this.#now();
    this.#frozen = undefined;
  }

  /** Ends every suspension: the process on this machine was killed. */
  thawAll(): void {
    this.#sleeps = Math.min(this.#sleeps, 1);
    this.thaw();
  }

  /** A time server corrects the wall clock for the time lost in suspensions. It leaves other steps alone. */
  setByServer(): void {
    this.#wallAhead += this.#missedMs;
    this.#missedMs = 0;
  }

  /** A new process starts its monotonic clock elsewhere: only readings of one boot are comparable. */
  restartMonotonic(at: number): void {
    this.#rebase();
    this.#wallAhead += this.#monotonic - at;
    this.#monotonic = at;
  }

  #reading(): number {
    if (this.#frozen !== undefined) return this.#monotonic;
    return this.#monotonic + (this.#now() - this.#since) * this.#rate;
  }

  #rebase(): void {
    if (this.#frozen !== undefined) return;
    this.#monotonic = this.#reading();
    this.#since = this.#now();
  }
}
