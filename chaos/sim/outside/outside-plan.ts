/** Outside plan: when news of sessions, people and groups arrives from outside, and what it is about. Pure. */
import { streamOf } from "../random.ts";
import type { SimOptions } from "../swarm.ts";
import type { Unnumbered } from "../workload-plan.ts";

/** Each kind with the mean time (ms) between two of its actions. */
const everyMs = {
  logouts: { logout: 2_500, "logout-person": 9_000 },
  provisioning: { "provision-user": 1_600, "deactivate-user": 4_500, "delete-user": 9_000, "provision-group": 2_500 },
  directory: { "directory-change": 1_500, "directory-request": 20_000 },
  signals: { signal: 2_500 },
  massChanges: { "mass-removal": 3_000, "decide-held": 3_000 },
  accessRequests: { "request-access": 1_500, "decide-request": 1_500, "end-request": 5_000 },
} as const satisfies Readonly<Record<keyof SimOptions["outside"], Readonly<Record<string, number>>>>;

type Every = typeof everyMs;
export type OutsideKind = { [Source in keyof Every]: keyof Every[Source] }[keyof Every] & string;

/** The level of the cluster is finalized at the beginning. */
const fromMs = 5_000;
const endFreeMs = 4_000;

export function isOutside(kind: string): kind is OutsideKind {
  return Object.values(everyMs).some((kinds) => kind in kinds);
}

export function outsideActions({ seed, outside, endMs }: SimOptions): readonly Unnumbered[] {
  const actions: Unnumbered[] = [];
  for (const [source, kinds] of Object.entries(everyMs)) {
    const { [source as keyof Every]: is } = outside;
    if (is === false || is === null) continue;
    for (const [kind, mean] of Object.entries(kinds)) {
      const random = streamOf(seed, `outside/${kind}`);
      for (let at = fromMs + random.within(0, mean); at < endMs - endFreeMs; at += random.exponential(mean))
        actions.push({
          ...{ atMs: at, kind: kind as OutsideKind },
          ...{ who: random.next(), other: random.next(), much: random.next() },
        });
    }
  }
  return actions;
}
