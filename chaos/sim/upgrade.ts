/**
 * Upgrade: a rolling upgrade of one process after the other, with a way back until operators finalize the new level.
 *
 * - The simulation finalizes as `cardea cluster finalize` does: a command that the leader refuses while any process
 *   cannot read the new level. The refusal names those processes.
 * - Patient operators finalize once all processes are new; others retry throughout the rollout.
 * - No process rolls back after the first finalize command.
 */
import { type CommandId, type CommandResult, parseCommandId } from "../../src/events/index.ts";
import { builds, firstBuildOf, readsOf } from "./builds.ts";
import type { Fault, FaultContext } from "./faults.ts";
import { up } from "./faults-processes.ts";
import type { SimProcess } from "./process.ts";

/** The rollout state that operators know. */
export type Rollout = { finalizing: "no" | "asked" };

const goneMs = 300;
const stopMsMax = 2_500;
const stepMsMin = 600;
/**
 * Bounds on `much`, the draw that selects the rollout. Below `timid`: operators roll back half-way. From `forgetful` to
 * `impatient`: one machine is off throughout. Above `impatient`: operators do not wait before they finalize.
 */
const timid = 0.3;
const forgetful = 0.5;
const impatient = 0.75;
const forgottenMs = 4_000;
const commandMs = 10_000;
const againMs = { unavailable: 700, refused: 1_500 };
const refusalsMax = 40;

/** Steps still open at the end of the fault stay undone. A finalize command is repeated until it gets an answer. */
export const upgrade: Fault = (context, { forMs, who, much }) => {
  const { world, nodes } = context.actors;
  const away = much > forgetful && much <= impatient ? context.pick(nodes, who)?.process : undefined;
  const steps = upgradable(context).filter((process) => process !== away);
  const eachMs = Math.max(stepMsMin, forMs / (steps.length + 1));
  const turnsAt = much < timid ? Math.ceil(steps.length / 2) : steps.length;
  let over = false;
  const next = (index: number): void => {
    const process = steps[index];
    if (over || process === undefined) return;
    replace(context, process, "new");
    world.after(eachMs, () => {
      if (index + 1 < turnsAt) next(index + 1);
      else if (turnsAt < steps.length) back(index);
      else if (!over) finalize(context, switchOn);
    });
  };
  const switchOn = (): void => {
    if (away === undefined || away.isUp) return;
    up(away);
    world.after(forgottenMs, () => {
      if (context.rollout.finalizing === "asked") replace(context, away, "new");
    });
  };
  const back = (index: number): void => {
    const process = steps[index];
    if (over || process === undefined || context.rollout.finalizing === "asked") return;
    replace(context, process, "first");
    world.after(eachMs, () => back(index - 1));
  };
  away?.kill();
  next(0);
  if (much > impatient) finalize(context);
  return {
    about: turnsAt < steps.length ? "nodes are upgraded one by one, and taken back" : "nodes and brokers, one by one",
    undo: () => {
      over = away === undefined; // with a machine off, the rollout continues
    },
  };
};

/** Upgrades the remaining processes once the level is finalized: no process can roll back. */
export function upgradeTheRest(context: FaultContext): void {
  if (context.rollout.finalizing === "no") return;
  for (const process of upgradable(context)) {
    if (process.identity.build === builds.new) continue;
    process.identity = { ...process.identity, build: builds.new, unknownTypes: [] };
    process.restart();
  }
}

/** The processes in upgrade order: readers first. */
function upgradable({ actors: { nodes, regionals, brokers } }: FaultContext): readonly SimProcess[] {
  const [readers, writers] = [nodes.map(({ process }) => process), brokers.map(({ process }) => process)];
  return [...readers, ...regionals.map(({ process }) => process), ...writers];
}

/** Operators of a new cluster finalize its level as soon as a leader accepts it. */
export function startNew(context: FaultContext): void {
  if (context.options.startsNew) context.actors.world.at(1_000, () => finalize(context));
}

/** @param settled called once the command has an answer of either kind, or at once if it was sent before */
function finalize(context: FaultContext, settled: () => void = () => {}): void {
  const { actors, rollout, clients } = context;
  if (rollout.finalizing === "asked") {
    settled();
    return;
  }
  rollout.finalizing = "asked";
  const { world } = actors;
  const random = world.random("operator");
  const client = random.pick(clients);
  let refusals = 0;
  const nextId = (): CommandId => parseCommandId(random.uuid());
  const ask = (commandId: CommandId, attempt: number): void => {
    const broker = random.pick(actors.brokers);
    const command = { type: "finalizeUpgrade", level: readsOf(builds.new) } as const;
    const said = { type: "command-invoked", process: client.name, to: broker.process.name } as const;
    world.report({ ...said, at: world.now, commandId, command, attempt });
    world.network.request<CommandResult>(client, broker.process, {
      timeoutMs: commandMs,
      handle: (reply) => broker.submit({ commandId, actor: "operator:sim", command }, reply),
      done: (outcome) => {
        const silence = { type: "unavailable", commandId, message: "no answer came", retryAfterMs: 0 } as const;
        const result = outcome.type === "answered" ? outcome.value : silence;
        world.report({ type: "command-answered", at: world.now, process: client.name, commandId, result });
        if (result.type === "unavailable") world.after(againMs.unavailable, () => ask(commandId, attempt + 1));
        else if (result.type === "refused" && ++refusals < refusalsMax)
          world.after(againMs.refused, () => ask(nextId(), 1));
        else settled();
      },
    });
  };
  ask(nextId(), 1);
}

/** Stops the process, kills it if that takes too long, and starts the other build. */
function replace({ actors, options }: FaultContext, process: SimProcess, which: "first" | "new"): void {
  const { boot } = process;
  const index = actors.nodes.findIndex((one) => one.process === process);
  const node = actors.nodes[index];
  const build = which === "new" ? { build: builds.new, unknownTypes: [] } : firstBuildOf(options, index);
  process.identity = { ...process.identity, ...build };
  if (node === undefined || !process.isUp) process.kill();
  else process.run(() => node.stop());
  actors.world.after(node === undefined ? goneMs : stopMsMax, () => {
    if (process.boot !== boot) return;
    process.kill();
    up(process);
  });
}
