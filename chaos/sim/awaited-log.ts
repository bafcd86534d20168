/**
 * Awaited log: an `EventLog` over the Postgres model, for tests that run alike against the model and real stores.
 *
 * - Simulated time advances by itself while a caller waits for an answer; otherwise it does not move.
 * - The model does not support a step-by-step refill of an empty log: the model's operator restores backups.
 */
import {
  type EventLog,
  LogRefusedError,
  LogUnavailableError,
  type OpenEpochOutcome,
} from "../../src/replication/log/log.ts";
import { MalformedBatchError } from "../../src/replication/log/log-rules.ts";
import type { LogAnswer, SimLog } from "./sim-log.ts";
import type { World } from "./world.ts";

export class Pump {
  readonly world: World;
  #waiting = 0;
  #pumping = false;

  constructor(world: World) {
    this.world = world;
  }

  /** Advances simulated time until `ask` gets its answer. */
  wait<T>(ask: (answer: (value: T) => void) => void): Promise<T> {
    this.#waiting += 1;
    const answered = new Promise<T>((resolve, reject) => {
      try {
        ask((value) => {
          this.#waiting -= 1;
          resolve(value);
        });
      } catch (error) {
        this.#waiting -= 1;
        reject(error);
      }
    });
    this.#pump();
    return answered;
  }

  /** Advances simulated time by `ms`. */
  pass(ms: number): Promise<undefined> {
    return this.wait((answer) => this.world.after(ms, () => answer(undefined)));
  }

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    const turn = (): void => {
      if (this.#waiting === 0) {
        this.#pumping = false;
        return;
      }
      this.world.run(this.world.now + 1);
      setImmediate(turn);
    };
    setImmediate(turn);
  }
}

export function awaitedLog(pump: Pump, log: SimLog): EventLog {
  const read = async <T>(ask: (answer: LogAnswer<T>) => void): Promise<T> => {
    const answer = await pump.wait<T | LogUnavailableError>(ask);
    if (answer instanceof LogUnavailableError) throw answer;
    return answer;
  };
  return {
    kind: "postgres",
    exclusive: false,
    observe: () => read((answer) => log.observe(answer)),
    openEpoch: async (request) => {
      const outcome = await pump.wait<OpenEpochOutcome>((answer) => log.openEpoch(request, answer));
      if (outcome.type === "unavailable" && outcome.cause instanceof MalformedBatchError) throw outcome.cause;
      return outcome;
    },
    append: (batch) => pump.wait((answer) => log.append(batch, answer)),
    beat: (request) => pump.wait((answer) => log.beat(request, answer)),
    retain: (request) => pump.wait((answer) => log.retain(request, answer)),
    read: (after, limit) => read((answer) => log.read(after, limit, answer)),
    base: () => read((answer) => log.base(answer)),
    restore: async () => {
      throw new LogRefusedError("the model is not refilled step by step");
    },
    linkAt: (position) => read((answer) => log.linkAt(position, answer)),
    epochs: () => read((answer) => log.epochs(answer)),
    durabilityOf: (link) => pump.wait((answer) => log.durabilityOf(link, answer)),
    findCommand: (commandId) => read((answer) => log.findCommand(commandId, answer)),
    streamVersions: (streams) => read((answer) => log.streamVersions(streams, answer)),
    lessees: () => read((answer) => log.lessees(answer)),
    admittedNodes: () => read((answer) => log.admittedNodes(answer)),
    keys: (users) => read((answer) => log.keys(users, answer)),
    keysAfter: (user, limit) => read((answer) => log.keysAfter(user, limit, answer)),
    rewrapKeys: async () => {
      throw new LogRefusedError("the model's secret is never replaced");
    },
    vault: (sessionId) => read((answer) => log.vault(sessionId, answer)),
    configuration: (configHash) => read((answer) => log.configuration(configHash, answer)),
    configurations: () => read((answer) => log.configurations(answer)),
    sweepCommands: () => read((answer) => log.sweepCommands(answer)),
    close: async () => log.close(),
  };
}
