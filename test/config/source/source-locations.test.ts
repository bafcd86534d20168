/** Locations inside a policy, for the policy compiler. Lines 1 to 10 are `base`. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { formatProblem, locationIn, type Path, type PolicySource } from "../../../src/config/index.ts";
import { base, config } from "../support.ts";

function policyOf(text: string): PolicySource {
  const policy = config(text).routes.at(-1)?.policy;
  assert.ok(policy);
  return policy;
}
const text = `${base}routes:
  - from: https://app.example.com
    to: http://a
    policy:
      - allow:
          and:
            - email:
                is: a@example.com
            - groups: {has: eng}
      - deny:
          or: [reject: true]
`;

suite("a location inside a policy", () => {
  const policy = policyOf(text);
  const table: readonly (readonly [Path, "key" | "value", readonly [number, number]])[] = [
    [[], "key", [14, 5]],
    [[], "value", [15, 7]],
    [[0], "key", [15, 9]],
    [[0, "allow"], "key", [15, 9]],
    [[0, "allow", "and"], "value", [17, 13]],
    [[0, "allow", "and", 0], "key", [17, 15]],
    [[0, "allow", "and", 0, "email"], "key", [17, 15]],
    [[0, "allow", "and", 0, "email", "is"], "value", [18, 21]],
    [[0, "allow", "and", 1, "groups"], "key", [19, 15]],
    [[0, "allow", "and", 1, "groups", "has"], "value", [19, 29]],
    [[1, "deny", "or", 0, "reject"], "key", [21, 16]],
    [[1, "deny", "nor"], "key", [21, 11]],
    [["nothing", "like", "this"], "key", [15, 7]],
  ];
  for (const [path, at, [line, column]] of table) {
    test(`${path.join("/")} (${at}) is at ${line}:${column}`, () => {
      const location = locationIn(policy, path, at);
      assert.deepEqual({ line: location.line, column: location.column }, { line, column });
      assert.equal(location.file, "c.yaml");
    });
  }
});

test("an aliased policy points into the anchor", () => {
  const aliased = `${base}routes:
  - &a
    from: https://a.example.com
    to: http://a
    policy: &team
      allow: {or: [{groups: {has: eng}}]}
  - from: https://b.example.com
    to: http://b
    policy: *team
`;
  const { line, column } = locationIn(policyOf(aliased), ["allow", "or", 0, "groups"]);
  assert.deepEqual([line, column], [16, 21]);
});

test("a policy without locations, as from a test, answers with its own location", () => {
  const location = { file: "x", line: 3, column: 4 };
  assert.deepEqual(locationIn({ ppl: {}, location }, ["allow"]), location);
});

test("a policy keeps its locations when it is copied to another thread", () => {
  const path = [0, "allow", "and", 1, "groups"];
  assert.deepEqual(locationIn(structuredClone(policyOf(text)), path), locationIn(policyOf(text), path));
});

test("a problem is formatted as file:line:column: severity: key: problem; remedy", () => {
  const problem = {
    file: "c.yaml",
    line: 3,
    column: 5,
    key: "address",
    problem: "is wrong",
    remedy: "write it right",
    severity: "error",
  } as const;
  assert.equal(formatProblem(problem), "c.yaml:3:5: error: address: is wrong; write it right");
  assert.equal(
    formatProblem({ ...problem, file: "env ADDRESS", line: 0, column: 0, remedy: "" }),
    "env ADDRESS: error: address: is wrong",
  );
});
