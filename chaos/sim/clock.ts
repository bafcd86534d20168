/**
 * Clock of one simulated machine: a monotonic clock that runs at its own rate and a wall clock that can be set.
 *
 * Real time is the world's; nobody in the world can read it. A machine's suspension stops its monotonic clock (as Linux
 * does) or does not (as some hypervisors do); its wall clock may come back late as well, until a time server sets it.
 */
import type { MonotonicMs, UnixMs } from "../../src/events/index.ts";

/** Structurally the `Moment` of the cores. */
export type Moment = Readonly<{ monotonic: MonotonicMs; wall: UnixMs }>;

/** Which of the clocks stand still while a machine is suspended. */
export type Frozen = "monotonic" | "both";

export class Clock {
  readonly #now: () => number;
  /** At real time `#since` the monotonic clock said `#monotonic`. */
  #since: number;
  #monotonic: number;
  /** Wall clock minus monotonic clock. */
  #wallAhead: number;
  #rate = 1;
  #frozen: Frozen | undefined;
  /** Sleeps that hold it: it runs again when the last of them is over. */
  #sleeps = 0;
  /** What the wall clock has missed of sleeps that it slept through, too. */
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

  /** When, in real time, the monotonic clock will say this if nothing happens to it. */
  realTimeOf(monotonic: number): number {
    return this.#since + (monotonic - this.#monotonic) / this.#rate;
  }

  /** 1.01: gains 10 ms a second. */
  setRate(rate: number): void {
    this.#rebase();
    this.#rate = rate;
  }

  stepWall(ms: number): void {
    this.#wallAhead += ms;
  }

  /** Who sleeps already sleeps on, with the clocks that stand still. */
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

  /** Every sleep is over: what runs on it was killed. */
  thawAll(): void {
    this.#sleeps = Math.min(this.#sleeps, 1);
    this.thaw();
  }

  /** A time server makes good what the wall clock has missed; what somebody else has set is left alone. */
  setByServer(): void {
    this.#wallAhead += this.#missedMs;
    this.#missedMs = 0;
  }

  /** A new process counts from somewhere else: only readings of one boot can be compared. */
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
