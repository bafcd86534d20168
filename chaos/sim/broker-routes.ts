/**
 * Broker routes: to the leader, as src/broker/api/leader-router.ts does it, in simulated time. What only the leader can
 * answer is answered here while we lead, handed on once while another broker does, and asked again, within a bound,
 * while nobody does.
 */
import type { SimProcess } from "./process.ts";
import type { SimBroker } from "./sim-broker.ts";
import type { World } from "./world.ts";

/** What was handed on by another broker is not handed on again. */
export type Hop = "direct" | "forwarded";

export type Routed<T> = Readonly<{
  hop: Hop;
  withinMs: number;
  isHere: () => boolean;
  /** Answered once; `moved`: we turned out not to lead; undefined: no answer can be had. */
  here: (leftMs: number, reply: (answer: T | "notLeader" | undefined) => void) => void;
  there: (broker: SimBroker, reply: (answer: T) => void) => void;
  isUsable: (answer: T) => boolean;
  /** Nobody leads and the store does not answer. */
  isHopeless: () => boolean;
  /** Undefined: nobody answered in time. */
  answered: (answer: T | undefined) => void;
}>;

const lookAgainMs = 100;
const retryMs = 50;
const attemptMsMax = 5_000;
const hopelessMs = 1_000;

export class Routes {
  readonly #world: World;
  readonly #process: SimProcess;
  readonly #beside: Readonly<{
    self: string;
    leaderName: () => string | undefined;
    brokers: () => readonly SimBroker[];
  }>;

  constructor(
    world: World,
    process: SimProcess,
    beside: Readonly<{ self: string; leaderName: () => string | undefined; brokers: () => readonly SimBroker[] }>,
  ) {
    this.#world = world;
    this.#process = process;
    this.#beside = beside;
  }

  route<T>(asked: Routed<T>): void {
    const began = this.#process.clock.monotonic();
    const deadline = began + asked.withinMs;
    const turn = (): void => {
      const leftMs = deadline - this.#process.clock.monotonic();
      if (asked.isHere()) {
        asked.here(Math.max(0, leftMs), (answer) => {
          if (answer === "notLeader") again(lookAgainMs);
          else asked.answered(answer);
        });
        return;
      }
      if (asked.hop === "forwarded") return asked.answered(undefined);
      const leader = this.#leader();
      if (leader === undefined || leftMs <= 0) return again(lookAgainMs);
      this.#world.network.request<T>(this.#process, leader.process, {
        timeoutMs: Math.min(leftMs, attemptMsMax),
        handle: (reply) => asked.there(leader, reply),
        done: (outcome) => {
          if (outcome.type === "answered" && asked.isUsable(outcome.value)) asked.answered(outcome.value);
          else again(retryMs);
        },
      });
    };
    const again = (ms: number): void => {
      const now = this.#process.clock.monotonic();
      const hopeless = now - began >= hopelessMs && asked.isHopeless();
      if (now >= deadline || hopeless) asked.answered(undefined);
      else this.#process.after(ms, turn);
    };
    turn();
  }

  /** That nobody hears of it is no news. */
  tellLeader(tell: (leader: SimBroker) => void): void {
    const leader = this.#leader();
    if (leader !== undefined) this.#world.network.send(this.#process, leader.process, () => tell(leader));
  }

  #leader(): SimBroker | undefined {
    const { self, leaderName, brokers } = this.#beside;
    const name = leaderName();
    return name === undefined || name === self ? undefined : brokers().find(({ process }) => process.name === name);
  }
}
