/**
 * Process: one program in the simulated world, with its machine's clocks.
 *
 *   down --start--> running --pause--> paused --resume--> running        kill: from any state to down
 *
 * - Work scheduled by one boot never runs in another.
 * - Work for a paused process waits, in order, until its resume. Work for a process that is down is dropped.
 * - Pauses nest: two faults may pause one process.
 */
import { type BootId, type MonotonicMs, parseBootId } from "../../src/events/index.ts";
import { type NodeKey, nodeKeyFrom } from "../../src/replication/wire/index.ts";
import type { Clock, Frozen, Moment } from "./clock.ts";
import type { Report, SimFactOf } from "./facts.ts";
import type { Due } from "./heap.ts";
import type { Stream } from "./random.ts";

export type ProcessStatus = "down" | "running" | "paused";

/** The services that a process needs from its world. */
export type Ground = Readonly<{
  now(): number;
  /** Schedules at a real time. */
  at(time: number, run: () => void): Due;
  note(who: string, text: string): void;
  /** The reading of an accurate wall clock at time 0. */
  readonly wallStart: number;
  report: Report;
  random(authority: string): Stream;
}>;

/** The content of its `started` fact. A rolling upgrade changes it between two boots. */
export type Identity = Pick<SimFactOf<"started">, "role" | "node" | "lessee" | "build" | "unknownTypes">;

export type ProcessOptions = Readonly<{
  name: string;
  region: string;
  identity: Identity;
  /** Called at each boot: builds a new program from the content of its disk. */
  start: (process: SimProcess) => void;
}>;

export type Timer = Readonly<{ cancel(): void }>;

/** The single wake-up of a core: a new request replaces the previous one. */
export type Alarm = Readonly<{ set(at: MonotonicMs): void; clear(): void }>;

/** The name of the cluster of every seed. */
export const simCluster = "sim";

const waitingMax = 200_000;
/** Delay (ms) that corrects a wake-up that is early by a rounding error of the clock. */
const roundedMs = 1e-6;

export class SimProcess {
  readonly name: string;
  readonly region: string;
  /** Its index in the network's tables. */
  readonly index: number;
  readonly clock: Clock;
  identity: Identity;
  /** Number of starts so far; 0 before the first. */
  boot = 0;
  /** Drawn at each start. Null: servers have none. */
  bootId: BootId | null = null;
  /** Key of a process that holds a lease. Its boot id commits to this key. */
  nodeKey: NodeKey | null = null;
  status: ProcessStatus = "down";
  readonly #ground: Ground;
  readonly #start: ProcessOptions["start"];
  #pauses = 0;
  #pausedAt = 0;
  #waiting: (() => void)[] = [];
  readonly #onKill = new Set<() => void>();

  constructor(options: ProcessOptions, beside: Readonly<{ index: number; clock: Clock; ground: Ground }>) {
    this.name = options.name;
    this.region = options.region;
    this.identity = options.identity;
    this.#start = options.start;
    this.index = beside.index;
    this.clock = beside.clock;
    this.#ground = beside.ground;
  }

  get isUp(): boolean {
    return this.status !== "down";
  }

  moment(): Moment {
    return this.clock.moment();
  }

  start(): void {
    if (this.isUp) return;
    this.boot += 1;
    this.status = "running";
    const { role, lessee, node } = this.identity;
    const random = this.#ground.random(`ids/${this.name}`);
    this.nodeKey =
      lessee === null || node === null
        ? null
        : nodeKeyFrom(random.bytes(32), { cluster: simCluster, role: lessee, name: node });
    if (this.nodeKey !== null) this.bootId = this.nodeKey.boot;
    else if (role === "postgres" || role === "nats") this.bootId = null;
    else this.bootId = parseBootId(Buffer.from(random.bytes(16)).toString("hex"));
    this.clock.restartMonotonic(this.#ground.random("clock").within(20, 2_000));
    this.#ground.note(this.name, `starts (boot ${this.boot})`);
    this.#ground.report({ type: "started", ...this.#here(), boot: this.bootId, region: this.region, ...this.identity });
    this.#reportClock();
    this.#start(this);
  }

  /** SIGKILL or a crash: loses everything in memory. */
  kill(): void {
    if (!this.isUp) return;
    this.status = "down";
    this.#pauses = 0;
    this.#waiting = [];
    this.clock.thawAll();
    this.#ground.note(this.name, "is killed");
    this.#ground.report({ type: "killed", ...this.#here(), boot: this.bootId });
    const listeners = [...this.#onKill];
    this.#onKill.clear();
    for (const listener of listeners) listener();
  }

  restart(): void {
    this.kill();
    this.start();
  }

  /** SIGSTOP. */
  pause(): void {
    this.#pause("stopped");
  }

  #pause(how: "stopped" | "suspended"): void {
    if (!this.isUp) return;
    this.#pauses += 1;
    if (this.status === "running") this.#pausedAt = this.#ground.now();
    this.status = "paused";
    this.#ground.note(this.name, `is ${how}`);
    this.#ground.report({ type: "paused", ...this.#here(), how });
  }

  resume(): void {
    if (this.status !== "paused") return;
    this.#pauses -= 1;
    if (this.#pauses > 0) return;
    this.status = "running";
    const waiting = this.#waiting;
    this.#waiting = [];
    const pausedMs = this.#ground.now() - this.#pausedAt;
    this.#ground.note(this.name, `is resumed after ${pausedMs.toFixed(0)} ms; ${waiting.length} things waited`);
    this.#ground.report({ type: "resumed", ...this.#here(), pausedMs });
    for (const run of waiting) this.run(run, "later");
  }

  /** The whole machine sleeps: a pause in which the frozen clocks stop. */
  suspend(frozen: Frozen): void {
    if (!this.isUp) return;
    this.#pause("suspended");
    this.clock.freeze(frozen);
  }

  wake(): void {
    if (this.status !== "paused") return;
    this.clock.thaw();
    this.#reportClock();
    this.resume();
  }

  /** Sets the rate of the machine's clock. 1.01: it gains 10 ms per second. */
  setRate(rate: number): void {
    this.clock.setRate(rate);
    if (this.isUp) this.#reportClock();
  }

  stepWall(ms: number): void {
    this.clock.stepWall(ms);
    if (this.isUp) this.#reportClock();
  }

  /** Applies a time server's answer: see `Clock.setByServer`. */
  setByServer(): void {
    this.clock.setByServer();
    if (this.isUp) this.#reportClock();
  }

  /** Runs the work at once, after the resume of a paused process, or never. @returns false if the process is down */
  run(work: () => void, when: "now" | "later" = "now"): boolean {
    if (this.status === "down") return false;
    if (when === "later") {
      const boot = this.boot;
      this.#ground.at(this.#ground.now(), () => {
        if (this.boot === boot) this.run(work);
      });
    } else if (this.status === "paused") {
      if (this.#waiting.length >= waitingMax) throw new Error(`${this.name}: too much waits for the end of a pause`);
      this.#waiting.push(work);
    } else work();
    return true;
  }

  /** Runs the work after `ms` milliseconds of this machine's monotonic clock. */
  after(ms: number, work: () => void): Timer {
    return this.at((this.clock.monotonic() + Math.max(0, ms)) as MonotonicMs, work);
  }

  /** Runs the work once this machine's monotonic clock reaches the time. */
  at(monotonic: MonotonicMs, work: () => void): Timer {
    const boot = this.boot;
    let due: Due | undefined;
    const schedule = (notBefore: number): void => {
      due = this.#ground.at(Math.max(notBefore, this.clock.realTimeOf(monotonic)), fire);
    };
    const fire = (): void => {
      if (this.boot !== boot || this.status === "down") return;
      if (this.status === "paused") {
        this.run(() => due !== undefined && work());
        return;
      }
      // The rate changed, the machine slept, or rounding cut the last digit: its own clock has not reached the time.
      if (this.clock.monotonic() < monotonic) schedule(this.#ground.now() + roundedMs);
      else work();
    };
    schedule(this.#ground.now());
    return {
      cancel() {
        if (due !== undefined) due.run = undefined;
        due = undefined;
      },
    };
  }

  alarm(work: () => void): Alarm {
    let timer: Timer | undefined;
    let setFor = Number.NaN;
    return {
      set: (at) => {
        if (timer !== undefined && setFor === at) return;
        timer?.cancel();
        setFor = at;
        timer = this.at(at, () => {
          timer = undefined;
          work();
        });
      },
      clear() {
        timer?.cancel();
        timer = undefined;
      },
    };
  }

  /** Calls `tell` once if this boot is killed. @returns a function that cancels the subscription */
  onKill(tell: () => void): () => void {
    this.#onKill.add(tell);
    return () => this.#onKill.delete(tell);
  }

  #here(): Readonly<{ at: number; process: string }> {
    return { at: this.#ground.now(), process: this.name };
  }

  #reportClock(): void {
    const wallOffsetMs = this.clock.wall() - this.#ground.wallStart - this.#ground.now();
    this.#ground.report({ type: "clock-set", ...this.#here(), rate: this.clock.rate, wallOffsetMs });
  }
}
