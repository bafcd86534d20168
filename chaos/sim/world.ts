/**
 * World of a simulation: real time, the order in which things happen, randomness, processes and the network between
 * them.
 *
 * Callbacks only, no promise and no clock of the machine: the same seed and the same calls give the same run, told by
 * the hash of its trace. Whatever may be decided in two ways is drawn from the stream of the authority that decides it.
 *
 * Always: time never goes back; of two things due at one moment, the one scheduled first comes first; the hash takes in
 * the time and order of each thing that ran and every fact that was reported, so two runs that differ anywhere differ
 * in it soon after.
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
  /** How many lines of the trace are kept; 0: its hash alone. */
  traceLinesMax?: number;
  /** Called at once, in the midst of what reports it: it must not schedule, send or draw. */
  facts?: Report;
  /** How far a machine's wall clock is from the truth at the start, at most. */
  wallSkewMsMax?: number;
}>;

/** What most facts say of themselves in one of these words. A link stands for the bytes of every event up to it. */
type Telling = Readonly<
  Partial<Record<"head" | "to" | "link" | "place" | "request" | "nonce" | "verdict", string | number | Link | null>>
>;

/** The first moment of every world, as wall clocks without skew show it. */
export const worldStart = Date.UTC(2026, 0, 5, 8);

export class World {
  readonly seed: number;
  readonly trace: Trace;
  readonly network: Network;
  /** By name, in the order of their making. */
  readonly processes = new Map<string, SimProcess>();
  readonly #heap = new Heap();
  readonly #streams = new Map<string, Stream>();
  readonly #options: WorldOptions;
  readonly #ground: Ground;
  #now = 0;
  #steps = 0;

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

  /** Real time in milliseconds since the start. No process may ask for it. */
  get now(): number {
    return this.#now;
  }

  /** How many things have run. */
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

  /** At a real time, in nobody's name: for models, faults and the network. `due.run = undefined` cancels it. */
  at(time: number, run: () => void): Due {
    return this.#heap.push(Math.max(time, this.#now), run);
  }

  after(ms: number, run: () => void): Due {
    return this.at(this.#now + ms, run);
  }

  /** Made down; `start()` boots it. */
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
    const { head, to, link, place, request, nonce, verdict } = fact as Telling;
    for (const told of [head, to, link, place, request, nonce, verdict]) {
      if (typeof told === "number") this.trace.mixNumber(told);
      else if (typeof told === "string") this.trace.mixText(told);
      else if (told !== undefined && told !== null) this.trace.mixText(told.hash.slice(0, 8));
    }
    this.#options.facts?.(fact);
  }

  /** A line of the trace. Where making the text costs something, ask `trace.keeps` first. */
  note(who: string, text: string): void {
    this.trace.line(this.#now, who, text);
  }

  /** Runs everything due up to this real time, which is then the time. */
  run(until: number): void {
    while (true) {
      const due = this.#heap.pop(until);
      if (due === undefined) break;
      this.#step(due);
    }
    this.#now = Math.max(this.#now, until);
  }

  /** Runs until it is so, and says whether it came to be so by `until`. Asked after each step: keep it cheap. */
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
