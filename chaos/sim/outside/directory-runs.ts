/**
 * Directory runs: the product's directory duty in one boot of a broker. Requests, answers and each pause take simulated
 * time, in which the process may be paused, deposed or killed.
 */
import {
  createDirectoryDuty,
  type DirectoryDuty,
  type DirectoryPage,
  type OpenDirectory,
} from "../../../src/auth/directory/index.ts";
import type { DutyRun } from "../../../src/broker/core/messages.ts";
import { openProfiles } from "../../../src/broker/open-profiles.ts";
import type { BrokerState } from "../../../src/broker/state/broker-state.ts";
import type { CommandRequest, CommandResult } from "../../../src/events/index.ts";
import { LogUnavailableError } from "../../../src/replication/log/log.ts";
import { personKeyWrap } from "../../../src/replication/wire/index.ts";
import type { SimProcess } from "../process.ts";
import { Promises } from "../promises.ts";
import type { SimLog } from "../sim-log.ts";
import type { World } from "../world.ts";
import { directoryName, directoryPeopleFor } from "./provisioned-people.ts";
import type { SimDirectory } from "./sim-directory.ts";

export type DirectoryRunsParts = Readonly<{
  world: World;
  process: SimProcess;
  log: SimLog;
  secret: Uint8Array;
  ledger: () => BrokerState;
  /** Null: this seed has no directory. */
  directory: SimDirectory | null;
  leads: (run: DutyRun) => boolean;
  submit: (run: DutyRun, request: CommandRequest, answered: (result: CommandResult) => void) => void;
  ended: (run: DutyRun, outcome: "done" | "failed") => void;
}>;

const everyMs = 5_000;
const wayMs = [5, 900] as const;
const pauseMs = 15;

export class DirectoryRuns {
  readonly #parts: DirectoryRunsParts;
  readonly #promises: Promises;
  readonly #random: ReturnType<World["random"]>;
  readonly #duty: DirectoryDuty;
  readonly #running = new Map<number, AbortController>();
  #run = 0;

  constructor(parts: DirectoryRunsParts, directory: SimDirectory) {
    const { world, process } = parts;
    this.#parts = parts;
    this.#promises = new Promises(world, process);
    this.#random = world.random(`directory/${process.name}`);
    const open: OpenDirectory = {
      ...{ name: directoryName, match: "subject", groups: "name", everyMs },
      source: { read: (request) => this.#read(directory, request), close: async () => {} },
    };
    const note = (level: string) => (fields: object, message: string) => {
      if (world.trace.keeps) world.note(process.name, `${level}: ${message} ${JSON.stringify(fields)}`);
    };
    this.#duty = createDirectoryDuty({
      directories: () => [open],
      provisionedFor: directoryPeopleFor,
      uuid: () => this.#random.uuid(),
      sleep: async (ms, signal) => {
        await this.#promises.pass(ms, signal);
        signal.throwIfAborted();
      },
      pause: () => this.#promises.pass(this.#random.within(0, pauseMs)),
      log: { info: note("info"), warn: note("warn") },
    });
  }

  run(run: DutyRun): void {
    const { process, log, secret, ledger, leads, ended } = this.#parts;
    const controller = new AbortController();
    this.#running.set(run.run, controller);
    const context = {
      submit: (request: CommandRequest) => this.#submit(run, request),
      leads: () => leads(run),
      get projection() {
        return ledger().projection;
      },
      profiles: (userIds: Parameters<typeof openProfiles>[0]) =>
        openProfiles(userIds, {
          log: { keys: (users) => this.#promises.wait((answered) => log.keys(users, answered)) },
          wrappingKeys: [personKeyWrap(secret)],
          projection: ledger().projection,
        }),
      clock: { wall: () => process.clock.wall() },
      signal: controller.signal,
    };
    const perform = async (): Promise<"done" | "failed"> => {
      try {
        await this.#duty.run(context);
        return "done";
      } catch (error) {
        // The product's runner of duties logs it, and the next run begins again.
        if (error instanceof LogUnavailableError || controller.signal.aborted) return "failed";
        throw error;
      }
    };
    this.#promises.begin(perform, (outcome) => {
      this.#running.delete(run.run);
      ended(run, outcome);
    });
  }

  end({ run }: DutyRun): void {
    const controller = this.#running.get(run);
    if (controller !== undefined) this.#promises.abort(controller);
  }

  #submit(run: DutyRun, request: CommandRequest): Promise<CommandResult> {
    const { world, process, submit } = this.#parts;
    const at = { at: world.now, process: process.name };
    world.report({ type: "directory-submitted", ...at, run: this.#run, commandId: request.commandId });
    return this.#promises.wait((answered) => submit(run, request, answered));
  }

  #read(
    directory: SimDirectory,
    { since, cursor, signal }: Parameters<OpenDirectory["source"]["read"]>[0],
  ): Promise<DirectoryPage> {
    const { world, process } = this.#parts;
    const way = (): number => this.#random.within(...wayMs);
    return this.#promises.wait((answered) => {
      signal.addEventListener("abort", () => answered(new Error("aborted")), { once: true });
      world.after(way(), () => {
        const read = (): DirectoryPage | Error => {
          try {
            return directory.read(process.name, { since, cursor });
          } catch (error) {
            return error as Error;
          }
        };
        const answer = read();
        world.after(way(), () => {
          if (cursor === null && !(answer instanceof Error)) this.#run = directory.newestRunOf(process.name);
          answered(answer);
        });
      });
    });
  }
}
