/** Drill run: what the steps of a drill share while it runs, and what undoes them. */
import { setTimeout as delay } from "node:timers/promises";
import { CodedError } from "../../events/index.ts";
import type { Drill } from "./drill.ts";
import type { DrillFile, DrillProxy } from "./drill-file.ts";
import type { Hook } from "./hook.ts";
import type { Observations } from "./observations.ts";
import type { ChangeRequest, DrillOperator } from "./operator-changes.ts";
import type { Prepared } from "./preflight.ts";
import type { ProbeClient } from "./probe-client.ts";

/** A guard rail or a signal ended the drill. */
export class DrillStoppedError extends CodedError<"ERR_CLI_DRILL_STOPPED"> {
  override readonly code = "ERR_CLI_DRILL_STOPPED";
}

export type DrillRun = Readonly<{
  drill: Drill;
  file: DrillFile;
  prepared: Prepared;
  hook: Hook | null;
  operator: DrillOperator;
  probes: ProbeClient;
  observations: Observations;
  undo: UndoList;
  /** The command that has been sent and has no answer yet; null: none. */
  pending: { change: Readonly<{ request: ChangeRequest; commandId: string }> | null };
  /** Milliseconds between two probes of a proxy. */
  pace: { everyMs: number };
  /** Milliseconds of the run. */
  now: () => number;
  say: (text: string) => void;
  /** Aborts with a DrillStoppedError. */
  signal: AbortSignal;
  rounds: number;
  /** How long a process is away. */
  faultMs: number;
}>;

/** @throws the signal's reason */
export async function pauseFor(run: Pick<DrillRun, "signal">, ms: number): Promise<void> {
  try {
    await delay(ms, undefined, { signal: run.signal });
  } catch (cause) {
    run.signal.throwIfAborted();
    throw cause;
  }
}

/** @returns false: it was not so in time @throws the signal's reason */
export async function waitUntil(
  run: Pick<DrillRun, "signal" | "now">,
  { withinMs, everyMs }: Readonly<{ withinMs: number; everyMs: number }>,
  isSo: () => boolean | Promise<boolean>,
): Promise<boolean> {
  const giveUpAt = run.now() + withinMs;
  while (!(await isSo())) {
    if (run.now() >= giveUpAt) return false;
    await pauseFor(run, everyMs);
  }
  return true;
}

/** The proxies that must answer: all but the one that the drill stops. */
export function awaitedProxies({ file, observations }: DrillRun): readonly DrillProxy[] {
  return file.proxies.filter(({ node }) => node !== observations.awayTarget);
}

type UndoStep = Readonly<{ text: string; undo: () => Promise<void> }>;

/** What must be undone however the drill ends. The processes come first, because the rest needs the cluster. */
export class UndoList {
  readonly #processes: UndoStep[] = [];
  readonly #changes: UndoStep[] = [];

  /** @returns a function that takes the step from the list: it was done in time */
  add(kind: "process" | "change", step: UndoStep): () => void {
    const steps = kind === "process" ? this.#processes : this.#changes;
    steps.push(step);
    return () => {
      const index = steps.indexOf(step);
      if (index >= 0) steps.splice(index, 1);
    };
  }

  /** Undoes the newest first. One failure does not keep the others. @returns what could not be undone */
  async runAll(say: (text: string) => void): Promise<readonly string[]> {
    const failed: string[] = [];
    for (const { text, undo } of [...this.#processes.splice(0).reverse(), ...this.#changes.splice(0).reverse()]) {
      try {
        await undo();
        say(`undone: ${text}`);
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        failed.push(`${text}: ${why}`);
        say(`NOT undone: ${text}: ${why}`);
      }
    }
    return failed;
  }
}
