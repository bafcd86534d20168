/** Arguments: what a command line asks for. Pure. */
import { parseArgs } from "node:util";
import { isTopologyName, type TopologyName, topologies } from "./cluster/topology.ts";
import { type Plan, type PlanOptions, parsePlan, planFaults } from "./faults/plan.ts";
import type { Scenario } from "./scenarios/scenario.ts";
import { firstRule, weakenings } from "./weakenings.ts";

export type Keep = "always" | "on-violation";
export type ChaosRequest =
  | Readonly<{ type: "list" }>
  | Readonly<{ type: "scenarios"; scenarios: readonly Scenario[]; keep: Keep }>
  | Readonly<{
      type: "random";
      /** One after another, each on a cluster of its own. */
      rounds: readonly Plan[];
      /** The removed rule; null: none. */
      rule: string | null;
      keep: Keep;
      /** What runs the same again. */
      command: string;
    }>;

export type ArgumentTools = Readonly<{
  scenarios: readonly Scenario[];
  readFile: (path: string) => string;
  newSeed: () => number;
}>;

export const usage = `usage: npm run chaos -- --list
       npm run chaos -- --scenario NAME [--scenario NAME …]     NAME may be "all" or a topology
       npm run chaos -- [--random] [--minutes N | --seconds N] [--seed S] [--topology ${Object.keys(topologies).join("|")}]
       npm run chaos -- --plan FILE                             a saved plan again
       npm run chaos -- --prove [--rule NAME] [--seed S] [--seconds N]
       with --keep: keep the output of the processes`;

const seconds = { usual: 120, toProve: 60, min: 20, max: 6 * 3_600 };
/** A longer run is a series of rounds of at most this length, each judged by itself. */
const roundSecondsMax = 600;
const seedMax = 2 ** 32 - 1;

/** @throws Error with a sentence for people */
export function parseChaosArguments(argv: readonly string[], tools: ArgumentTools): ChaosRequest {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      list: { type: "boolean", default: false },
      scenario: { type: "string", multiple: true },
      random: { type: "boolean", default: false },
      plan: { type: "string" },
      seed: { type: "string" },
      seconds: { type: "string" },
      minutes: { type: "string" },
      topology: { type: "string" },
      prove: { type: "boolean", default: false },
      rule: { type: "string", default: firstRule },
      keep: { type: "boolean", default: false },
    },
  });
  const chosen = [values.list, values.scenario !== undefined, values.random || values.prove, values.plan !== undefined];
  if (chosen.filter(Boolean).length > 1) throw new RangeError("choose one of --list, --scenario, --random and --plan");
  const keep = values.keep ? "always" : "on-violation";
  if (values.list) return { type: "list" };
  if (values.scenario !== undefined)
    return { type: "scenarios", scenarios: scenariosNamed(values.scenario, tools.scenarios), keep };
  if (values.plan !== undefined) {
    const plan = parsePlan(tools.readFile(values.plan));
    return { type: "random", rounds: [plan], rule: null, keep, command: `npm run chaos -- --plan ${values.plan}` };
  }
  const rule = values.prove ? values.rule : null;
  const weakening = rule === null ? null : weakenings[rule];
  if (weakening === undefined) throw new RangeError(`--rule is one of ${Object.keys(weakenings).join(", ")}`);
  const seed =
    values.seed === undefined ? tools.newSeed() : wholeNumber("--seed", values.seed, { min: 0, max: seedMax });
  const length = lengthOf(values, weakening === null ? seconds.usual : seconds.toProve);
  const topology = topologyOf(values.topology, weakening?.topology ?? "three-regions");
  const proving = rule === null ? "" : ` --prove --rule ${rule}`;
  const command = `npm run chaos -- --random --seed ${seed} --seconds ${length} --topology ${topology}${proving}`;
  return {
    type: "random",
    rounds: roundsOf({ seed, seconds: length, topology, only: weakening?.faults }),
    rule,
    keep,
    command,
  };
}

/** Rounds of equal length. The first has the seed itself. */
export function roundsOf(wanted: PlanOptions): readonly Plan[] {
  const count = Math.ceil(wanted.seconds / roundSecondsMax);
  const length = Math.round(wanted.seconds / count);
  return Array.from({ length: count }, (_, i) =>
    planFaults({ ...wanted, seconds: length, seed: (wanted.seed + i * 7_919) % (seedMax + 1) }),
  );
}

function scenariosNamed(names: readonly string[], all: readonly Scenario[]): readonly Scenario[] {
  const wanted = names.flatMap((name) => {
    const found = all.filter((each) => name === "all" || each.name === name || each.topology === name);
    if (found.length === 0) throw new RangeError(`there is no scenario ${name}; --list names them`);
    return found;
  });
  return [...new Set(wanted)];
}

type Lengths = Readonly<{ seconds?: string | undefined; minutes?: string | undefined }>;

function lengthOf({ seconds: text, minutes }: Lengths, usual: number): number {
  if (text !== undefined && minutes !== undefined) throw new RangeError("--seconds or --minutes, not both");
  if (minutes !== undefined) return 60 * wholeNumber("--minutes", minutes, { min: 1, max: seconds.max / 60 });
  return text === undefined ? usual : wholeNumber("--seconds", text, seconds);
}

function topologyOf(text: string | undefined, usual: TopologyName): TopologyName {
  if (text === undefined) return usual;
  if (!isTopologyName(text)) throw new RangeError(`--topology is one of ${Object.keys(topologies).join(", ")}`);
  return text;
}

function wholeNumber(name: string, text: string, { min, max }: Readonly<{ min: number; max: number }>): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max)
    throw new RangeError(`${name} ${text}: a whole number from ${min} to ${max}`);
  return value;
}
