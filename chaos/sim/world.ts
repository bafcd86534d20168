/**
 * World of a simulation: real time, the order of events, randomness, the processes and the network between them.
 *
 * - No clock of the machine. The same seed and the same calls give the same run.
 * - Callbacks, and promises that only the simulation settles (promises.ts). After a step that has settled one, all that
 *   waited for it runs before the next step.
 * - Time never goes back. Of two callbacks due at the same time, the one scheduled first runs first.
 * - Each free choice draws from the stream of the authority that makes it.
 * - The trace's hash covers the time and order of each callback and every reported fact. Two runs that differ anywhere
 *   soon differ in their hash.
 */
import type { Link } from "../../src/events/index.ts";
import { Clock } from "./clock.ts";
import type { Report, SimFact } from "./facts.ts";
import { type Due, Heap } from "./heap.ts";
import { Network, processesMax } from "./network.ts";
import { type Ground, type ProcessOptions, SimProcess } from "./process.ts";
import { type Stream, streamOf } from "./random.ts";
import { Trace } from "./trace.ts";

export type WorldOptions = Readonly<{
  seed: number;
  /** Maximum number of trace lines to keep. 0: only the hash. */
  traceLinesMax?: number;
  /** Called synchronously by the reporter of a fact. It must not schedule, send or draw. */
  facts?: Report;
  /** Maximum initial error (ms) of a machine's wall clock. */
  wallSkewMsMax?: number;
}>;

/** The fields by which most facts describe themselves. A link represents the bytes of every event up to it. */
type HashedFields = Readonly<
  Partial<Record<"head" | "to" | "link" | "request" | "nonce" | "verdict", string | number | Link | null>>
>;

/** The start time of every world, as shown by wall clocks without skew. */
export const worldStart = Date.UTC(2026, 0, 5, 8);

export class World {
  readonly seed: number;
  readonly trace: Trace;
  readonly network: Network;
  /** All processes by name, in order of creation. */
  readonly processes = new Map<string, SimProcess>();
  readonly #heap = new Heap();
  readonly #streams = new Map<string, Stream>();
  readonly #options: WorldOptions;
  readonly #ground: Ground;
  #now = 0;
  #steps = 0;
  #mustSettle = false;
  #failed: Readonly<{ error: unknown }> | null = null;

  constructor(options: WorldOptions) {
    this.seed = options.seed;
    this.#options = options;
    this.trace = new Trace(options.traceLinesMax ?? 0);
    const now = (): number => this.#now;
    const at = (time: number, run: () => void): Due => this.at(time, run);
    const note = (who: string, text: string): void => this.note(who, text);
    const random = (authority: string): Stream => this.random(authority);
    const report: Report = (fact) => this.report(fact);
    this.#ground = { now, at, note, report, random, wallStart: worldStart };
    this.network = new Network({ now, at, note, random: this.random("net") });
  }

  /** Real time in ms since the start. Processes must not read it. */
  get now(): number {
    return this.#now;
  }

  /** Number of callbacks run so far. */
  get steps(): number {
    return this.#steps;
  }

  get waiting(): number {
    return this.#heap.size;
  }

  /**
   * The stream of one authority: "net", "pg", "nats", "clock", "process", "workload", "faults", "ids", or a part:
   * "ids/node-1".
   */
  random(authority: string): Stream {
    const known = this.#streams.get(authority);
    if (known !== undefined) return known;
    const made = streamOf(this.seed, authority);
    this.#streams.set(authority, made);
    return made;
  }

  /** Schedules at a real time, for no process: for models, faults and the network. `due.run = undefined` cancels it. */
  at(time: number, run: () => void): Due {
    return this.#heap.push(Math.max(time, this.#now), run);
  }

  after(ms: number, run: () => void): Due {
    return this.at(this.#now + ms, run);
  }

  /** Adds a process that is down; `start()` boots it. */
  addProcess(options: ProcessOptions): SimProcess {
    if (this.processes.has(options.name)) throw new Error(`there is a process ${options.name} already`);
    if (this.processes.size >= processesMax) throw new Error(`a world has ${processesMax} processes at most`);
    const skew = this.#options.wallSkewMsMax ?? 50;
    const wall = worldStart + this.random("clock").within(-skew, skew);
    const clock = new Clock(() => this.#now, { monotonic: 0, wall });
    const index = this.processes.size;
    const process = new SimProcess(options, { index, clock, ground: this.#ground });
    this.processes.set(process.name, process);
    return process;
  }

  process(name: string): SimProcess {
    const found = this.processes.get(name);
    if (found === undefined) throw new Error(`there is no process ${name}`);
    return found;
  }

  report(fact: SimFact): void {
    this.trace.mixText(fact.type);
    this.trace.mixText(fact.process);
    const { head, to, link, request, nonce, verdict } = fact as HashedFields;
    for (const value of [head, to, link, request, nonce, verdict]) {
      if (typeof value === "number") this.trace.mixNumber(value);
      else if (typeof value === "string") this.trace.mixText(value);
      else if (value !== undefined && value !== null) this.trace.mixText(value.hash.slice(0, 8));
    }
    this.#options.facts?.(fact);
  }

  /** Adds a line to the trace. If the text is costly to build, check `trace.keeps` first. */
  note(who: string, text: string): void {
    this.trace.line(this.#now, who, text);
  }

  /** Runs everything due up to this real time, and advances the time to it. */
  run(until: number): void {
    while (true) {
      const due = this.#heap.pop(until);
      if (due === undefined) break;
      this.#step(due);
    }
    this.#now = Math.max(this.#now, until);
  }

  /** The same, for a world with promises. */
  async runSettled(until: number): Promise<void> {
    while (true) {
      const due = this.#heap.pop(until);
      if (due === undefined) break;
      this.#step(due);
      if (this.#mustSettle) await this.#settle();
    }
    this.#now = Math.max(this.#now, until);
  }

  /** A promise was settled in this step, or a function that awaits was called. */
  mustSettle(): void {
    this.#mustSettle = true;
  }

  /** An awaiting function has thrown: the run ends with the error. */
  fail(error: unknown): void {
    this.#failed ??= { error };
    this.#mustSettle = true;
  }

  /** Runs all microtasks. */
  async #settle(): Promise<void> {
    while (this.#mustSettle) {
      this.#mustSettle = false;
      if (this.#failed !== null) throw this.#failed.error;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /**
   * Runs until `isSo` is true. @returns false if it was not true by `until`. It runs after each step: keep it cheap.
   */
  runUntil(isSo: () => boolean, until: number): boolean {
    while (!isSo()) {
      const due = this.#heap.pop(until);
      if (due === undefined) {
        this.#now = Math.max(this.#now, until);
        return isSo();
      }
      this.#step(due);
    }
    return true;
  }

  #step(due: Due): void {
    this.#now = due.at;
    this.#steps += 1;
    this.trace.mixNumber(due.at);
    this.trace.mixNumber(due.order);
    const run = due.run;
    due.run = undefined;
    run?.();
  }
}
