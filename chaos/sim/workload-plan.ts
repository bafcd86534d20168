/**
 * Workload plan: the actions of clients and operators, with their times.
 *
 * Pure data, like the fault plan: the removal of one action does not move another. Numbers select the users and
 * sessions of an action; `workload.ts` resolves them by the client's knowledge at that time.
 */
import { isOfRevocations, planFaults } from "./fault-plan.ts";
import { type OutsideKind, outsideActions } from "./outside/outside-plan.ts";
import { type Stream, streamOf } from "./random.ts";
import { type FaultKind, faultClasses, type SimOptions } from "./swarm.ts";

export const commandKinds = [
  "sign-in",
  "refresh",
  "revoke",
  "revoke-many",
  "revoke-user",
  "suspend",
  "restore",
  "add-member",
  "remove-member",
  "remove-group",
] as const;
export type CommandKind = (typeof commandKinds)[number];
/** Commands that operators in a remote region send to a broker of their region. */
export const localKinds = {
  "local-revoke": "revoke",
  "local-revoke-many": "revoke-many",
  "local-revoke-user": "revoke-user",
  "local-suspend": "suspend",
} as const satisfies Readonly<Record<string, CommandKind>>;
export type LocalKind = keyof typeof localKinds;
export type ActionKind = CommandKind | LocalKind | OutsideKind | "request" | "stream" | "forge" | "reload";

export type PlannedAction = Readonly<{
  /** Its index in the whole plan, unchanged by the removal of other actions. Its ids derive from it. */
  id: number;
  atMs: number;
  kind: ActionKind;
  who: number;
  other: number;
  much: number;
}>;

export const commandsMin = 200;

const weights: Readonly<Record<CommandKind, number>> = {
  ...{ "sign-in": 32, refresh: 10, revoke: 18, "revoke-many": 3, "revoke-user": 6, suspend: 5, restore: 7 },
  ...{ "add-member": 12, "remove-member": 8, "remove-group": 1 },
};
const total = Object.values(weights).reduce((sum, each) => sum + each, 0);
/** Chance of a burst: many commands at once, as at nine in the morning. */
const burstChance = 0.03;
const burst = 8;
/** Mean time (ms) between commands in remote regions, and their number for each fault of regions. */
const localEveryMs = 6_000;
const localPerFault = 3;
/** How often such a command goes to the very region in which the fault is. */
const localThereChance = 0.8;
/** Time (ms) without forgeries before the end. A node that got a forged grant needs this time to renew again. */
const forgeryFreeMs = 10_000;
/** Time (ms) without reloads before the end, so that the monitors can judge the cuts of the last ones. */
const reloadFreeMs = 20_000;

/** All actions of a seed, ordered by time. At least `commandsMin` of them are commands. */
export function planActions(options: SimOptions): readonly PlannedAction[] {
  const random = streamOf(options.seed, "workload");
  const { load, faultsFromMs, endMs } = options;
  const actions: Omit<PlannedAction, "id">[] = [];
  const put = (atMs: number, kind: ActionKind): void => {
    actions.push({ atMs, kind, who: random.next(), other: random.next(), much: random.next() });
  };
  for (let n = 0; n < load.users; n += 1) put(random.within(1_500, 2_500), "add-member");
  for (let n = 0; n < load.sessions; n += 1) put(random.within(2_000, faultsFromMs - 1_000), "sign-in");
  let commands = load.users + load.sessions;
  for (let at = 4_000; at < endMs - 3_000; at += random.exponential(load.commandEveryMs)) {
    const count = random.chance(burstChance) ? burst : 1;
    for (let n = 0; n < count; n += 1) put(at + n, commandKind(random));
    commands += count;
  }
  for (; commands < commandsMin; commands += 1) put(random.within(4_000, endMs - 3_000), commandKind(random));
  for (let at = 4_000; at < endMs - 500; at += random.exponential(load.requestEveryMs)) put(at, "request");
  for (let at = 4_000; at < endMs - 1_000; at += random.exponential(load.streamEveryMs)) put(at, "stream");
  if (load.forgeEveryMs !== null)
    for (let at = 3_000; at < endMs - forgeryFreeMs; at += random.exponential(load.forgeEveryMs)) put(at, "forge");
  if (load.reloadEveryMs !== null)
    for (let at = 5_000; at < endMs - reloadFreeMs; at += random.exponential(load.reloadEveryMs)) put(at, "reload");
  // The ids of local actions, and of those from outside, follow those of the others, which they thus leave unchanged.
  return [...byTime(actions), ...byTime(localActions(options)), ...byTime(outsideActions(options))]
    .map((action, id) => ({ ...action, id, atMs: Math.round(action.atMs * 1_000) / 1_000 }))
    .toSorted((a, b) => a.atMs - b.atMs);
}

export type Unnumbered = Omit<PlannedAction, "id">;

function byTime(actions: readonly Unnumbered[]): readonly Unnumbered[] {
  return actions.toSorted((a, b) => a.atMs - b.atMs);
}

/** Commands in remote regions: now and then, and while a fault of regions lasts. */
function localActions(options: SimOptions): readonly Unnumbered[] {
  if (options.remotes.length === 0) return [];
  const random = streamOf(options.seed, "local-workload");
  const actions: Unnumbered[] = [];
  const put = (atMs: number, region: number | null): void => {
    const [who, other, much] = [random.next(), random.next(), random.next()];
    actions.push({ atMs, kind: localKind(random), who, other: region ?? other, much });
  };
  const { faultsFromMs, faultsUntilMs } = options;
  for (let at = faultsFromMs; at < faultsUntilMs; at += random.exponential(localEveryMs)) put(at, null);
  for (const { kind, atMs, forMs, who } of planFaults(options)) {
    if (!isOfRegions(kind)) continue;
    const until = isOfRevocations(kind) ? 0.55 : 0.9;
    for (let n = 0; n < localPerFault; n += 1)
      put(atMs + forMs * random.within(0.3, until), random.chance(localThereChance) ? who : null);
  }
  return actions;
}

function isOfRegions(kind: FaultKind): boolean {
  const { regions, regionLinks, regionBrokers, revocations } = faultClasses;
  const all = [...regions, ...regionLinks, ...regionBrokers, ...revocations, "part-regions"] as const;
  return all.some((each) => each === kind);
}

function localKind(random: Stream): LocalKind {
  const drawn = random.next();
  if (drawn < 0.5) return "local-revoke";
  if (drawn < 0.65) return "local-revoke-many";
  return drawn < 0.8 ? "local-revoke-user" : "local-suspend";
}

export function isLocal(kind: ActionKind): kind is LocalKind {
  return kind in localKinds;
}

export function isCommand(kind: ActionKind): kind is CommandKind {
  return commandKinds.some((each) => each === kind);
}

function commandKind(random: Stream): CommandKind {
  let left = random.next() * total;
  for (const kind of commandKinds) {
    left -= weights[kind];
    if (left < 0) return kind;
  }
  return "sign-in";
}
