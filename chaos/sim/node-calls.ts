/**
 * Node calls: how a simulated node calls brokers, with the behavior of the product's client.
 *
 * The node calls one broker after the other, starting with the one that answered last. Each call has its own timeout.
 * The first answer other than "unavailable" ends the sequence.
 */
import type { BrokerPort } from "./broker-port.ts";
import type { SimProcess } from "./process.ts";
import type { World } from "./world.ts";

export type Call<T> = Readonly<{
  /** Timeout for one broker before the node calls the next one. */
  timeoutMs: number;
  ask: (broker: BrokerPort, reply: (answer: T) => void) => void;
  /** True if the node should try another broker. */
  isUnavailable: (answer: T) => boolean;
  /** Receives the answer; undefined: no broker answered. Not called after a cancel. */
  done: (answer: T | undefined) => void;
}>;

export class NodeCalls {
  readonly #world: World;
  readonly #process: SimProcess;
  readonly #brokers: () => readonly BrokerPort[];
  #good = 0;

  constructor(world: World, process: SimProcess, brokers: () => readonly BrokerPort[]) {
    this.#world = world;
    this.#process = process;
    this.#brokers = brokers;
  }

  /** @returns a function that cancels the call */
  start<T>(call: Call<T>): () => void {
    const brokers = this.#brokers();
    const first = this.#good;
    let open = true;
    const turn = (index: number): void => {
      const at = (first + index) % Math.max(1, brokers.length);
      const broker = brokers[at];
      if (!open) return;
      if (index >= brokers.length || broker === undefined) {
        open = false;
        call.done(undefined);
        return;
      }
      this.#world.network.request<T>(this.#process, broker.process, {
        timeoutMs: call.timeoutMs,
        handle: (reply) => call.ask(broker, reply),
        done: (outcome) => {
          if (!open) return;
          if (outcome.type === "answered" && !call.isUnavailable(outcome.value)) {
            open = false;
            this.#good = at;
            call.done(outcome.value);
            return;
          }
          if (this.#good === at) this.#good = (at + 1) % brokers.length;
          turn(index + 1);
        },
      });
    };
    turn(0);
    return () => {
      open = false;
    };
  }
}
