/** Growth: how a decision's cost grows when one dimension of its world grows and all others stay constant. */
import type { RouteConfig } from "../../src/config/index.ts";
import { request, route, source } from "../../test/auth/authorize/support.ts";
import { createWorld } from "./decide-world.ts";
import { inTurns, type Round } from "./rounds.ts";

/** `alike`: the number of routes with equal policies, instead of `routes`; 0: each route has its own. */
type Size = Readonly<{ routes: number; alike: number; rules: number; groups: number; claims: number }>;
const base: Size = { routes: 100, alike: 0, rules: 2, groups: 50, claims: 5 };
const people = 20;
const scales: Readonly<Record<keyof Size, readonly number[]>> = {
  routes: [10, 1_000, 10_000],
  alike: [10, 1_000, 10_000],
  rules: [1, 10, 100],
  groups: [5, 50, 500, 5_000],
  claims: [1, 100, 1_000],
};
export const scaleNames: Readonly<Record<keyof Size, string>> = {
  routes: "routes, each with its own policy",
  alike: "routes with one policy",
  rules: "rules of a route",
  groups: "groups of a person",
  claims: "values of a claim",
};

export type Grown = Readonly<{ scale: keyof Size; size: number; round: Round }>;

export function growth({ rounds, calls }: Readonly<{ rounds: number; calls: number }>): readonly Grown[] {
  return (Object.keys(scales) as (keyof Size)[]).flatMap((scale) => {
    const sizes = scales[scale];
    const runs = Object.fromEntries(sizes.map((size) => [String(size), decisions({ ...base, [scale]: size })]));
    const results = inTurns(runs, { rounds, calls });
    return sizes.flatMap((size) => {
      const round = results[String(size)];
      return round === undefined ? [] : [{ scale, size, round }];
    });
  });
}

/** Every rule is evaluated: only the last one is met, and its last criterion is the last value of the claim. */
function decisions(size: Size): (n: number) => string {
  const count = size.alike === 0 ? size.routes : size.alike;
  const routes = Array.from({ length: count }, (_, n): RouteConfig => {
    const rules = Array.from({ length: size.rules }, (_, i) => ({
      allow:
        i === size.rules - 1
          ? { and: [{ groups: `group-${size.groups - 1}` }, { "claim/badges": `badge-${size.claims - 1}` }] }
          : { or: [{ groups: `no-member-${size.alike === 0 ? n : "x"}-${i}` }] },
    }));
    return route({ id: `route-${n}`, policy: source(rules) });
  });
  const world = createWorld(routes, {
    people,
    groupsOf: () => Array.from({ length: size.groups }, (_, i) => `group-${i}`),
    claimsOf: () => ({ badges: Array.from({ length: size.claims }, (_, i) => `badge-${i}`) }),
  });
  const sample = request({ path: "/api/things/7" });
  return (n) => {
    const draw = Math.imul(n + 1, 0x9e3779b1) >>> 0;
    const answer = world.decide(draw % people, world.routeIds[(draw >>> 8) % count] ?? "", sample);
    if (answer !== "permit") throw new Error(`${answer} where a permit was expected`);
    return answer;
  };
}
