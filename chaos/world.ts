/**
 * World: the people of a run and the routes of the cluster. Pure.
 *
 * alice, bob and carol are users of the demo identity provider and really sign in. The others are known to the cluster
 * only by the commands that create their sessions.
 */
import { demoUsers } from "../src/dev/index.ts";

export type Person = Readonly<{ name: string; groups: readonly string[]; signsIn: "for-real" | "by-command" }>;
export type Route = Readonly<{
  name: string;
  host: string;
  /** Null: every signed-in person. */
  group: string | null;
  /** How long it is served without a fresh lease; null: never (`on_stale: deny`). */
  graceMs: number | null;
  /** `strict`: nothing is permitted before its record is on disk. */
  audit: "strict" | "best_effort";
}>;

export const routes: readonly Route[] = [
  { name: "app", host: "app.localhost", group: null, graceMs: 3_000, audit: "best_effort" },
  { name: "eng", host: "eng.localhost", group: "eng", graceMs: null, audit: "strict" },
  { name: "sales", host: "sales.localhost", group: "sales", graceMs: 2_000, audit: "best_effort" },
];

const extras = Array.from({ length: 24 }, (_, i): Person => {
  return { name: `u${String(i + 1).padStart(2, "0")}`, groups: ["eng", "sales"], signsIn: "by-command" };
});
export const people: readonly Person[] = [
  ...demoUsers.map(({ user, groups }): Person => ({ name: user, groups, signsIn: "for-real" })),
  ...extras,
];
/** People whose memberships the operator changes, one change at a time per person. */
export const newcomers: readonly Readonly<{ user: string; group: string }>[] = [
  { user: "u01", group: "eng" },
  { user: "u02", group: "sales" },
  { user: "u03", group: "eng" },
  { user: "carol", group: "sales" },
];

/** The members of a group at the start. */
export function isFirstMember(user: string, group: string): boolean {
  return people.some((person) => person.name === user && person.groups.includes(group));
}

export function groupOf(route: string): string | null {
  return routes.find(({ name }) => name === route)?.group ?? null;
}

export function isStrict(route: string): boolean {
  return routes.find(({ name }) => name === route)?.audit === "strict";
}

export const cluster = "chaos";
export const emailOf = (name: string): string => `${name}@example.com`;
export const lease = { drift: 0.01, leaseMs: 2_000, renewMs: 600, beatMs: 200, takeoverMs: 2_000 };

/** How long an isolated node may decide for a route, in real time: its clock may be slow by the drift. */
export function windowMsOf(route: string): number {
  const graceMs = routes.find(({ name }) => name === route)?.graceMs ?? 0;
  return (lease.leaseMs + graceMs) / (1 - lease.drift);
}

/** The token of every upstream response. */
export const stampHeaders = { token: "x-chaos-token", arrivedAt: "x-chaos-arrived-at", sentAt: "x-chaos-sent-at" };
