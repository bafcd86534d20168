/**
 * Simulated duties: performs the duty runs requested by a broker's core in one boot: snapshots, refreshes and visits.
 *
 * A visit models a slow outside call about a session, followed by a command. It ignores the end of its epoch, so the
 * core must refuse its late commands.
 */
import type { DutyRun } from "../../src/broker/core/messages.ts";
import type { DutyTimes } from "../../src/broker/core/options.ts";
import type {
  CommandId,
  CommandRequest,
  CommandResult,
  Position,
  Projection,
  Session,
} from "../../src/events/index.ts";
import type { BrokerReporter } from "./broker-reporter.ts";
import { DirectoryRuns, type DirectoryRunsParts } from "./outside/directory-runs.ts";
import { SignalPolls, type SignalPollsParts } from "./outside/signal-polls.ts";
import { SignalTransmission, type SignalTransmissionParts } from "./outside/signal-transmission.ts";
import type { SimSignals } from "./outside/sim-signals.ts";
import type { SimProcess } from "./process.ts";
import { SimRefreshes, type SimRefreshesParts } from "./sim-refreshes.ts";
import { SimSnapshots, type SimSnapshotsParts } from "./sim-snapshots.ts";
import type { SimOptions } from "./swarm.ts";
import type { World } from "./world.ts";

const dutyTimes: readonly DutyTimes[] = [
  { name: "snapshots", everyMs: 500 },
  { name: "visits", everyMs: 6_000 },
  { name: "refreshes", everyMs: 1_500 },
];

export function dutyTimesOf({ outside }: Pick<SimOptions, "outside">): readonly DutyTimes[] {
  const more = [
    ...(outside.directory ? ["directories"] : []),
    ...(outside.signals ? ["signal-polls", "signal-transmission"] : []),
  ];
  return [...dutyTimes, ...more.map((name) => ({ name, everyMs: 1_000 }))];
}

export type SimDutiesParts = Omit<SimSnapshotsParts, "submit"> &
  Omit<SimRefreshesParts, "submit"> &
  Omit<DirectoryRunsParts, "submit"> &
  Omit<SignalPollsParts, "submit"> &
  Omit<SignalTransmissionParts, "submit"> &
  Readonly<{
    world: World;
    process: SimProcess;
    reporter: BrokerReporter;
    /** Null: the seed has none. */
    signals: SimSignals | null;
    /** Submits a command in the run's epoch, or not at all. */
    submit: (run: DutyRun, request: CommandRequest, answered: (result: CommandResult) => void) => void;
  }>;

const visitMs = [100, 5_000] as const;

export class SimDuties {
  readonly snapshots: SimSnapshots;
  readonly #refreshes: SimRefreshes;
  readonly #directories: DirectoryRuns | null;
  readonly #polls: SignalPolls | null;
  readonly #transmission: SignalTransmission | null;
  readonly #parts: SimDutiesParts;
  readonly #random: ReturnType<World["random"]>;

  constructor(parts: SimDutiesParts) {
    this.#parts = parts;
    this.#random = parts.world.random(`duties/${parts.process.name}`);
    this.snapshots = new SimSnapshots({ ...parts, submit: (...asked) => this.#submit(...asked) });
    const { directory, signals } = parts;
    const ofDuty = { ...parts, submit: (...asked: Parameters<SimDutiesParts["submit"]>) => this.#submit(...asked) };
    this.#directories = directory && new DirectoryRuns(ofDuty, directory);
    this.#polls = signals && new SignalPolls(ofDuty, signals);
    this.#transmission = signals && new SignalTransmission(ofDuty, signals);
    this.#refreshes = new SimRefreshes({ ...parts, submit: (...asked) => this.#submit(...asked) });
  }

  /** The position after which the signals need the log; null: they do not. */
  get neededAfter(): Position | null {
    return this.#transmission?.neededAfter ?? null;
  }

  run(run: DutyRun): void {
    if (run.name === "snapshots") this.snapshots.run(run);
    else if (run.name === "refreshes") this.#refreshes.run(run);
    else if (run.name === "directories") this.#directories?.run(run);
    else if (run.name === "signal-polls") this.#polls?.run(run);
    else if (run.name === "signal-transmission") this.#transmission?.run(run);
    else this.#visit(run);
  }

  end(run: DutyRun): void {
    if (run.name === "snapshots") this.snapshots.end();
    else if (run.name === "directories") this.#directories?.end(run);
    else if (run.name === "signal-transmission") this.#transmission?.end(run);
  }

  #visit(run: DutyRun): void {
    const { process, ledger, ended } = this.#parts;
    const session = this.#anySession(ledger().projection);
    process.after(this.#random.within(...visitMs), () => {
      if (session === undefined) return ended(run, "done");
      const command = { type: "revokeSession", sessionId: session.sessionId, reason: "refresh-refused" } as const;
      const request = { commandId: this.#random.uuid() as CommandId, actor: "system", command } as const;
      this.#submit(run, request, () => ended(run, "done"));
    });
  }

  #anySession(projection: Projection): Session | undefined {
    const active = [...projection.sessions()].filter(({ status }) => status === "active");
    return active[this.#random.between(0, Math.max(0, active.length - 1))];
  }

  #submit(run: DutyRun, request: CommandRequest, answered: (result: CommandResult) => void): void {
    const { reporter } = this.#parts;
    const { commandId } = request;
    const { epoch, incarnation } = run;
    reporter.report({ type: "duty-submitted", ...reporter.at(), duty: run.name, commandId, epoch, incarnation });
    this.#parts.submit(run, request, (result) => {
      reporter.report({ type: "duty-answered", ...reporter.at(), duty: run.name, commandId, outcome: result.type });
      answered(result);
    });
  }
}
