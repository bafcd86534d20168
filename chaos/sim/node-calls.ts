/**
 * Node calls: how a simulated node asks brokers, as the product's client does: one after the other, beginning with the
 * one that answered last, each with its own patience, until one says anything but that it cannot.
 */
import type { BrokerPort } from "./broker-port.ts";
import type { SimProcess } from "./process.ts";
import type { World } from "./world.ts";

export type Call<T> = Readonly<{
  /** What one broker has before the next one is asked. */
  timeoutMs: number;
  ask: (broker: BrokerPort, reply: (answer: T) => void) => void;
  /** True: another broker may know better. */
  isUnavailable: (answer: T) => boolean;
  /** Undefined: nobody answered. Not called when it was cancelled. */
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

  /** @returns what gives it up */
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
