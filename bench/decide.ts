/**
 * Bench: decisions in process, on 200 routes of five kinds and 1,000 signed-in people with 50 groups each. One visitor
 * in ten is not signed in. Each call goes from a verified handle to a decision, as in the proxy.
 *
 * Prints p50 and p99 per decision and decisions per second and core, beside an empty closure timed in alternation, and
 * the ratio (budget: p50 ≤ 2 µs, p99 ≤ 50 µs). Then it shows how the cost grows with routes, rules, groups and claims,
 * and compares one policy with Cedar (wasm) and CEL.
 *
 *   node bench/decide.ts [--seconds 3]
 */
import { parseArgs } from "node:util";
import type { DecisionRequest } from "../src/auth/index.ts";
import { request, route, source } from "../test/auth/authorize/support.ts";
import { type Budget, reportBudgets, whole } from "./support/budget.ts";
import { growth, scaleNames } from "./support/decide-growth.ts";
import { createWorld } from "./support/decide-world.ts";
import { createYardsticks } from "./support/decide-yardsticks.ts";
import { inTurns, measure, middle, type Round, roundText } from "./support/rounds.ts";

const routesCount = 200;
const people = 1_000;
const groupsEach = 50;
const samplesEach = 20_000;
const { values } = parseArgs({ options: { seconds: { type: "string", default: "3" } } });

const policyKinds: readonly ((n: number) => Parameters<typeof route>[0])[] = [
  () => ({ allowAnyAuthenticatedUser: true }),
  (n) => ({ policy: source({ allow: { or: Array.from({ length: 5 }, (_, i) => ({ groups: `group-${n + i}` })) } }) }),
  (n) => ({
    policy: source({
      allow: {
        and: [
          { domain: "example.com" },
          { "claim/dept": `dept-${n % 7}` },
          { http_method: { in: ["GET", "HEAD", "POST"] } },
        ],
      },
      deny: { or: [{ groups: "contractors" }, { http_path: { starts_with: "/admin" } }] },
    }),
  }),
  (n) => ({
    allowedUsers: Array.from({ length: 100 }, (_, i) => `person-${n * 5 + i}@example.com`),
    corsAllowPreflight: true,
  }),
  () => ({
    policy: source({
      allow: { or: [{ accept: true }] },
      deny: { not: [{ source_ip: ["10.0.0.0/8", "192.0.2.0/24"] }] },
    }),
  }),
];
const routes = Array.from({ length: routesCount }, (_, n) =>
  route({ id: `route-${n}`, ...policyKinds[n % policyKinds.length]?.(n) }),
);
const world = createWorld(routes, {
  people,
  groupsOf: (n) => Array.from({ length: groupsEach }, (_, i) => `group-${(n * 7 + i * 3) % 400}`),
  claimsOf: (n) => ({ dept: [`dept-${n % 7}`], level: [n % 5] }),
});

const requests: readonly DecisionRequest[] = [
  request({ path: "/", ip: "192.0.2.9" }),
  request({ path: "/api/things/7", method: "POST", ip: "10.1.2.3" }),
  request({ path: "/admin/users", ip: "203.0.113.4" }),
  request({ method: "OPTIONS", headers: { origin: "https://a.example", "access-control-request-method": "PUT" } }),
];
const answers = new Map<string, number>();
/** The n-th request: one hash of n selects person, route and request. */
function decideOne(n: number): string {
  const draw = Math.imul(n + 1, 0x9e3779b1) >>> 0;
  const person = (draw >>> 22) % 10 === 0 ? undefined : draw % people;
  const what = requests[(draw >>> 20) % requests.length] ?? request();
  const answer = world.decide(person, world.routeIds[(draw >>> 10) % routesCount] ?? "", what);
  answers.set(answer, (answers.get(answer) ?? 0) + 1);
  return answer;
}
const empty = (n: number): string => (n % 2 === 0 ? "permit" : "deny");

const rounds: { decide: Round[]; empty: Round[] } = { decide: [], empty: [] };
measure(decideOne, { from: 0, calls: samplesEach }); // warm-up: code is compiled, principals were opened once
measure(empty, { from: 0, calls: samplesEach });
answers.clear();
const end = process.hrtime.bigint() + BigInt(Math.round(Number(values.seconds) * 1e9));
for (let n = 0; process.hrtime.bigint() < end; n++) {
  rounds.empty.push(measure(empty, { from: n * samplesEach, calls: samplesEach }));
  rounds.decide.push(measure(decideOne, { from: n * samplesEach, calls: samplesEach }));
}

const [decided, nothing] = [middle(rounds.decide), middle(rounds.empty)];
console.log(
  `${routesCount} routes, ${people} people with ${groupsEach} groups; median of ${rounds.decide.length} rounds of ${samplesEach}`,
);
console.log(roundText("decision", decided));
console.log(roundText("empty closure", nothing));
console.log(`ratio: p50 × ${(decided.p50 / nothing.p50).toFixed(1)}, p99 × ${(decided.p99 / nothing.p99).toFixed(1)}`);
const total = [...answers.values()].reduce((sum, count) => sum + count, 0);
console.log([...answers].map(([type, count]) => `${type} ${((100 * count) / total).toFixed(0)} %`).join(", "));

const few = { rounds: 3, calls: 4_000 };
console.log("\ngrowth, everything else constant");
let first = Number.NaN;
let scaleBefore = "";
for (const { scale, size, round } of growth(few)) {
  if (scale !== scaleBefore) first = round.perSecond;
  scaleBefore = scale;
  console.log(
    `${roundText(`${whole(size)} ${scaleNames[scale]}`, round)}   × ${(first / round.perSecond).toFixed(2)} the first row`,
  );
}

console.log(
  "\none policy in three languages (@open-policy-agent/opa-wasm runs a policy that `opa build` has compiled, and no npm package ships that compiler)",
);
const comparisons: Budget[] = [];
for (const groups of [50, 5_000]) {
  const results = inTurns(createYardsticks(groups), { rounds: 5, calls: 2_000 });
  for (const [name, round] of Object.entries(results)) {
    console.log(roundText(`${name}, ${whole(groups)} groups`, round));
    if (name === "cardea") continue;
    const ratio = `${(results.cardea.perSecond / round.perSecond).toFixed(1)} ×`;
    comparisons.push({
      what: `decisions/s beside ${name}, ${whole(groups)} groups`,
      result: ratio,
      budget: "",
      met: null,
    });
  }
}
console.log();
reportBudgets([
  { what: "decision, p50", result: `${whole(decided.p50)} ns`, budget: "≤ 2,000 ns", met: decided.p50 <= 2_000 },
  { what: "decision, p99", result: `${whole(decided.p99)} ns`, budget: "≤ 50,000 ns", met: decided.p99 <= 50_000 },
  ...comparisons,
]);
