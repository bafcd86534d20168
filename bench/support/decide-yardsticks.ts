/**
 * One policy in three languages: Cardea's, Cedar's (wasm) and CEL, each compiled or parsed once. The policy:
 * engineers of one domain may read and post, unless they are contractors or the path begins with /admin.
 *
 * Each gets the input of its interface: Cardea a session's id, Cedar a person as an entity whose parents are the
 * groups, CEL an object with the groups as a list. Before timing starts, all three must answer every case alike.
 */
import { preparsePolicySet, statefulIsAuthorized } from "@cedar-policy/cedar-wasm/nodejs";
import { Environment } from "@marcbachmann/cel-js";
import { request, route, source } from "../../test/auth/authorize/support.ts";
import { createWorld } from "./decide-world.ts";

const people = 5;
const methods = ["GET", "POST", "DELETE"];
const paths = ["/", "/api/things/7", "/admin/users"];
const domain = "example.com";
const dept = (person: number): readonly string[] => [`dept-${person % 2}`];

const cedarPolicy = `
permit (principal, action, resource) when {
  principal.domain == "${domain}" && principal.dept.contains("dept-1") && ["GET", "HEAD", "POST"].contains(context.method)
};
forbid (principal, action, resource) when { principal in Group::"contractors" || context.path like "/admin*" };`;
const celPolicy = `user.domain == "${domain}" && "dept-1" in user.dept && request.method in ["GET", "HEAD", "POST"]
  && !("contractors" in user.groups) && !request.path.startsWith("/admin")`;

export type Yardsticks = Readonly<Record<"cardea" | "cedar-wasm" | "cel-js", (n: number) => string>>;

/** The n-th request is the same for all three. @returns `permit` or `deny` of each */
export function createYardsticks(groupsEach: number): Yardsticks {
  const groupsOf = (person: number): readonly string[] => [
    ...Array.from({ length: groupsEach - 1 }, (_, i) => `group-${i}`),
    person === 0 ? "contractors" : "employees",
  ];
  const yardsticks = {
    cardea: cardea(groupsOf),
    "cedar-wasm": cedar(groupsOf),
    "cel-js": cel(groupsOf),
  };
  for (let n = 0; n < people * methods.length * paths.length; n++) {
    const answers = new Set(Object.values(yardsticks).map((ask) => ask(n)));
    if (answers.size !== 1) throw new Error(`case ${n} is not answered alike`);
  }
  return yardsticks;
}

function drawn(n: number): Readonly<{ person: number; method: string; path: string }> {
  return {
    person: n % people,
    method: methods[Math.floor(n / people) % methods.length] ?? "",
    path: paths[Math.floor(n / people / methods.length) % paths.length] ?? "",
  };
}

type GroupsOf = (person: number) => readonly string[];

function cardea(groupsOf: GroupsOf): (n: number) => string {
  const policy = source({
    allow: { and: [{ domain }, { "claim/dept": "dept-1" }, { http_method: { in: ["GET", "HEAD", "POST"] } }] },
    deny: { or: [{ groups: "contractors" }, { http_path: { starts_with: "/admin" } }] },
  });
  const world = createWorld([route({ id: "only", policy })], {
    people,
    groupsOf,
    claimsOf: (person) => ({ dept: [...dept(person)] }),
  });
  const requests = new Map(
    methods.flatMap((method) => paths.map((path) => [`${method} ${path}`, request({ method, path })])),
  );
  return (n) => {
    const { person, method, path } = drawn(n);
    return world.decide(person, "only", requests.get(`${method} ${path}`) ?? request());
  };
}

function cedar(groupsOf: GroupsOf): (n: number) => string {
  const parsed = preparsePolicySet("yardstick", { staticPolicies: cedarPolicy });
  if (parsed.type === "failure") throw new Error(JSON.stringify(parsed.errors));
  const entities = Array.from({ length: people }, (_, person) => [
    {
      uid: { type: "User", id: String(person) },
      attrs: { domain, dept: [...dept(person)] },
      parents: groupsOf(person).map((id) => ({ type: "Group", id })),
    },
  ]);
  return (n) => {
    const { person, method, path } = drawn(n);
    const answer = statefulIsAuthorized({
      principal: { type: "User", id: String(person) },
      action: { type: "Action", id: "visit" },
      resource: { type: "Route", id: "only" },
      context: { method, path },
      preparsedPolicySetId: "yardstick",
      entities: entities[person] ?? [],
    });
    if (answer.type === "failure") throw new Error(JSON.stringify(answer.errors));
    return answer.response.decision === "allow" ? "permit" : "deny";
  };
}

function cel(groupsOf: GroupsOf): (n: number) => string {
  const program = new Environment().registerVariable("user", "map").registerVariable("request", "map").parse(celPolicy);
  const users = Array.from({ length: people }, (_, person) => ({
    domain,
    dept: dept(person),
    groups: groupsOf(person),
  }));
  return (n) => {
    const { person, method, path } = drawn(n);
    return program({ user: users[person], request: { method, path } }) === true ? "permit" : "deny";
  };
}
