/**
 * Workload plan: the actions of clients and operators, with their times.
 *
 * Pure data, like the fault plan: the removal of one action does not move another. Numbers select the users and
 * sessions of an action; `workload.ts` resolves them by the client's knowledge at that time.
 */
import { type Stream, streamOf } from "./random.ts";
import type { SimOptions } from "./swarm.ts";

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
export type ActionKind = CommandKind | "request" | "stream" | "forge" | "reload";

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
  return actions
    .toSorted((a, b) => a.atMs - b.atMs)
    .map((action, id) => ({ ...action, id, atMs: Math.round(action.atMs * 1_000) / 1_000 }));
}

export function isCommand(kind: ActionKind): kind is CommandKind {
  return kind !== "request" && kind !== "stream" && kind !== "forge" && kind !== "reload";
}

function commandKind(random: Stream): CommandKind {
  let left = random.next() * total;
  for (const kind of commandKinds) {
    left -= weights[kind];
    if (left < 0) return kind;
  }
  return "sign-in";
}
