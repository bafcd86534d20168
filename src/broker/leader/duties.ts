/**
 * Duty runner: performs the runs that the duty holder starts, and aborts them when their epoch ends. When a duty runs
 * is decided in the core.
 */
import type { Logger } from "../../replication/index.ts";
import type { Duty, DutyContext } from "../core/duty.ts";
import type { DutyRun } from "../core/messages.ts";

export type DutyRunner = Readonly<{
  run: (run: DutyRun) => void;
  /** The run's epoch has ended. */
  end: (run: DutyRun) => void;
}>;

export function createDutyRunner(
  duties: readonly Duty[],
  deps: Readonly<{
    context: (run: DutyRun, signal: AbortSignal) => DutyContext;
    ended: (run: DutyRun, outcome: "done" | "failed") => void;
    logger: Logger;
  }>,
): DutyRunner {
  const running = new Map<number, AbortController>();

  async function perform(run: DutyRun, signal: AbortSignal): Promise<"done" | "failed"> {
    try {
      await duties.find(({ name }) => name === run.name)?.run(deps.context(run, signal));
      return "done";
    } catch (error) {
      deps.logger.error({ err: error, duty: run.name }, "a duty failed");
      return "failed";
    }
  }

  return {
    run(run) {
      const epochEnded = new AbortController();
      running.set(run.run, epochEnded);
      void perform(run, epochEnded.signal).then((outcome) => {
        running.delete(run.run);
        deps.ended(run, outcome);
      });
    },
    end: ({ run }) => running.get(run)?.abort(),
  };
}
