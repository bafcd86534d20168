/**
 * World: who lives in a run and what the cluster serves them. Pure.
 *
 * alice, bob and carol are those of the demo identity provider, and really sign in there; the others are known to the
 * cluster only by the commands that create their sessions.
 */
import { demoUsers } from "../src/dev/index.ts";

export type Person = Readonly<{ name: string; groups: readonly string[]; signsIn: "for-real" | "by-command" }>;
export type Route = Readonly<{
  name: string;
  host: string;
  /** Null: everybody who is signed in. */
  group: string | null;
  /** How long it is served without a fresh lease; null: not at all (`on_stale: deny`). */
  graceMs: number | null;
}>;

export const routes: readonly Route[] = [
  { name: "app", host: "app.localhost", group: null, graceMs: 3_000 },
  { name: "eng", host: "eng.localhost", group: "eng", graceMs: null },
  { name: "sales", host: "sales.localhost", group: "sales", graceMs: 2_000 },
];

const extras = Array.from({ length: 24 }, (_, i): Person => {
  return { name: `u${String(i + 1).padStart(2, "0")}`, groups: ["eng", "sales"], signsIn: "by-command" };
});
export const people: readonly Person[] = [
  ...demoUsers.map(({ user, groups }): Person => ({ name: user, groups, signsIn: "for-real" })),
  ...extras,
];
/** People whose memberships the operator changes: one at a time for each of these. */
export const comers: readonly Readonly<{ user: string; group: string }>[] = [
  { user: "u01", group: "eng" },
  { user: "u02", group: "sales" },
  { user: "u03", group: "eng" },
  { user: "carol", group: "sales" },
];

/** Who is in a group without the operator's doing. */
export function isFirstMember(user: string, group: string): boolean {
  return people.some((person) => person.name === user && person.groups.includes(group));
}

export function groupOf(route: string): string | null {
  return routes.find(({ name }) => name === route)?.group ?? null;
}

export const cluster = "chaos";
export const emailOf = (name: string): string => `${name}@example.com`;
export const lease = { drift: 0.01, leaseMs: 2_000, renewMs: 600, beatMs: 200, takeoverMs: 2_000 };

/**
 * How long a node that hears nothing may go on deciding for a route, in real time: its clock may be slow by the drift.
 */
export function windowMsOf(route: string): number {
  const graceMs = routes.find(({ name }) => name === route)?.graceMs ?? 0;
  return (lease.leaseMs + graceMs) / (1 - lease.drift);
}

/** What the upstream says with every answer. */
export const stampHeaders = { token: "x-chaos-token", arrivedAt: "x-chaos-arrived-at", sentAt: "x-chaos-sent-at" };
