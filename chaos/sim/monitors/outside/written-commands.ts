/** Written commands: the commands of a `wrote` fact with what they say and the points of their events. */
import type { Command } from "../../../../src/events/index.ts";
import type { SimFactOf } from "../../facts.ts";
import type { LogPoint } from "../chains.ts";
import type { GroundTruth } from "../ground-truth.ts";
import type { Handlers } from "../monitor.ts";

export type WrittenCommand = Readonly<{
  commandId: string;
  /** Undefined: no client sent it; it is of a duty or a sweep. */
  command: Command | undefined;
  /** The point before its first event. */
  before: LogPoint;
  /** Its events, oldest first; not empty. */
  points: readonly LogPoint[];
  last: LogPoint;
}>;

export class WrittenCommands {
  readonly #truth: GroundTruth;
  readonly #commands = new Map<string, Command>();
  /** Events that were seen already: two servers may write the same ones. */
  readonly #seen = new Set<LogPoint>();

  constructor(truth: GroundTruth) {
    this.#truth = truth;
  }

  /** @param each called once for each command and point of the log, after the ground truth has its events */
  handlers(
    each: (written: WrittenCommand, fact: SimFactOf<"wrote">) => void,
  ): Readonly<{ before: Handlers; after: Handlers }> {
    return {
      before: {
        "command-invoked": (fact) => {
          if (!this.#commands.has(fact.commandId)) this.#commands.set(fact.commandId, fact.command);
        },
      },
      after: {
        wrote: (fact) => {
          for (const written of this.#of(fact)) each(written, fact);
        },
      },
    };
  }

  commandOf(commandId: string): Command | undefined {
    return this.#commands.get(commandId);
  }

  *#of(fact: SimFactOf<"wrote">): Generator<WrittenCommand> {
    for (const { commandId, first, count } of fact.commands) {
      const points = fact.entries.flatMap(({ recorded }) => {
        const isOwn = first <= recorded.position && recorded.position < first + count;
        return isOwn ? (this.#truth.find(recorded) ?? []) : [];
      });
      const last = points.at(-1);
      const before = points[0]?.before;
      if (last === undefined || before === undefined || before === null || this.#seen.has(last)) continue;
      this.#seen.add(last);
      yield { commandId, command: this.#commands.get(commandId), before, points, last };
    }
  }
}
