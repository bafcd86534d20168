/**
 * Broker routes: routing of requests to the leader, as src/broker/api/leader-router.ts does it, in simulated time.
 *
 * For a request that only the leader can answer:
 * - while this broker leads, it answers;
 * - while another broker leads, this broker forwards the request once;
 * - while there is no leader, this broker retries within a time limit.
 */
import type { SimProcess } from "./process.ts";
import type { SimBroker } from "./sim-broker.ts";
import type { World } from "./world.ts";

/** A broker never forwards a request that another broker forwarded to it. */
export type Hop = "direct" | "forwarded";

export type Routed<T> = Readonly<{
  hop: Hop;
  withinMs: number;
  isHere: () => boolean;
  /** Replies once. `notLeader`: this broker turned out not to lead; undefined: no answer is available. */
  here: (leftMs: number, reply: (answer: T | "notLeader" | undefined) => void) => void;
  there: (broker: SimBroker, reply: (answer: T) => void) => void;
  isUsable: (answer: T) => boolean;
  /** True: there is no leader and the store does not answer. */
  isStoreUnreachable: () => boolean;
  /** Undefined: no broker answered in time. */
  answered: (answer: T | undefined) => void;
}>;

const recheckMs = 100;
const retryMs = 50;
const attemptMsMax = 5_000;
const unreachableMs = 1_000;

export class Routes {
  readonly #world: World;
  readonly #process: SimProcess;
  readonly #peers: Readonly<{
    self: string;
    leaderName: () => string | undefined;
    brokers: () => readonly SimBroker[];
  }>;

  constructor(
    world: World,
    process: SimProcess,
    peers: Readonly<{ self: string; leaderName: () => string | undefined; brokers: () => readonly SimBroker[] }>,
  ) {
    this.#world = world;
    this.#process = process;
    this.#peers = peers;
  }

  route<T>(routed: Routed<T>): void {
    const began = this.#process.clock.monotonic();
    const deadline = began + routed.withinMs;
    const attempt = (): void => {
      const leftMs = deadline - this.#process.clock.monotonic();
      if (routed.isHere()) {
        routed.here(Math.max(0, leftMs), (answer) => {
          if (answer === "notLeader") retryAfter(recheckMs);
          else routed.answered(answer);
        });
        return;
      }
      if (routed.hop === "forwarded") {
        routed.answered(undefined);
        return;
      }
      const leader = this.#leader();
      if (leader === undefined || leftMs <= 0) {
        retryAfter(recheckMs);
        return;
      }
      this.#world.network.request<T>(this.#process, leader.process, {
        timeoutMs: Math.min(leftMs, attemptMsMax),
        handle: (reply) => routed.there(leader, reply),
        done: (outcome) => {
          if (outcome.type === "answered" && routed.isUsable(outcome.value)) routed.answered(outcome.value);
          else retryAfter(retryMs);
        },
      });
    };
    const retryAfter = (ms: number): void => {
      const now = this.#process.clock.monotonic();
      const hopeless = now - began >= unreachableMs && routed.isStoreUnreachable();
      if (now >= deadline || hopeless) routed.answered(undefined);
      else this.#process.after(ms, attempt);
    };
    attempt();
  }

  /** Sends to the leader, if one is known. A lost message is not an error. */
  sendToLeader(send: (leader: SimBroker) => void): void {
    const leader = this.#leader();
    if (leader !== undefined) this.#world.network.send(this.#process, leader.process, () => send(leader));
  }

  #leader(): SimBroker | undefined {
    const { self, leaderName, brokers } = this.#peers;
    const name = leaderName();
    return name === undefined || name === self ? undefined : brokers().find(({ process }) => process.name === name);
  }
}
