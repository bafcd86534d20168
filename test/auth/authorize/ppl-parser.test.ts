/** Grammar of the policy language: what is a policy, and the position of each mistake. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type PolicyProblem, parsePolicy } from "../../../src/auth/authorize/ppl-parser.ts";

function parse(ppl: unknown) {
  const problems: PolicyProblem[] = [];
  const rules = parsePolicy(ppl, (path, problem, remedy, severity = "error") =>
    problems.push({ path, problem, remedy, severity }),
  );
  return { rules, problems };
}

test("a policy is one rules object or a list of them; every element keeps its path", () => {
  const one = parse({ allow: { and: [{ "claim/a/b": 1 }] } });
  assert.deepEqual(one.problems, []);
  assert.deepEqual(one.rules, [
    {
      path: ["allow"],
      action: "allow",
      conditionals: [
        {
          path: ["allow", "and"],
          operator: "and",
          criteria: [{ path: ["allow", "and", 0, "claim/a/b"], name: "claim", subPath: "a/b", data: 1 }],
        },
      ],
    },
  ]);
  const list = parse([{ allow: { or: [{ accept: null }] } }, { deny: { nor: [{ reject: null }] } }]);
  assert.deepEqual(list.problems, []);
  assert.deepEqual(
    list.rules.map(({ action, path }) => [action, path]),
    [
      ["allow", [0, "allow"]],
      ["deny", [1, "deny"]],
    ],
  );
});

test("empty conditionals, rules and lists have no effect and are not mistakes", () => {
  for (const ppl of [[], {}, [{}], { allow: {} }, { allow: { and: [], or: [] } }]) {
    const { rules, problems } = parse(ppl);
    assert.deepEqual(problems, []);
    assert(rules.every(({ conditionals }) => conditionals.length === 0));
  }
});

test("a stray `action` key is ignored with a warning", () => {
  const { rules, problems } = parse({ allow: { action: "allow", or: [{ accept: 1 }] } });
  assert.equal(rules[0]?.conditionals.length, 1);
  assert.deepEqual(
    problems.map(({ path, severity }) => [path, severity]),
    [[["allow", "action"], "warning"]],
  );
});

const mistakes: readonly (readonly [string, unknown, PolicyProblem["path"], RegExp])[] = [
  ["text instead of a policy", "allow", [], /text is not a policy; .*`allow:` or `deny:`/],
  ["null instead of a policy", null, [], /nothing is not a policy/],
  ["text instead of a rules object", [{ allow: {} }, "x"], [1], /expected a rules object, found text/],
  ["a misspelt action", { alow: { or: [] } }, ["alow"], /unknown action `alow`; did you mean `allow`/],
  ["an action unlike any other", { grant: { or: [] } }, ["grant"], /unknown action `grant`; use `allow` or `deny`/],
  [
    "a list below an action",
    { allow: [{ accept: 1 }] },
    ["allow"],
    /expected an object, found a list; .*`and`, `or`, `not` or `nor`/,
  ],
  ["a misspelt operator", { allow: { adn: [] } }, ["allow", "adn"], /unknown operator `adn`/],
  [
    "an object below an operator",
    { allow: { and: { accept: 1 } } },
    ["allow", "and"],
    /expected a list of criteria, found an object/,
  ],
  ["null below an operator", { deny: { or: null } }, ["deny", "or"], /expected a list of criteria, found nothing/],
  [
    "text as a criterion",
    { allow: { and: [{ accept: 1 }, "user"] } },
    ["allow", "and", 1],
    /expected a criterion, found text/,
  ],
  [
    "two names in one criterion",
    { allow: { and: [{ user: "a", email: "b" }] } },
    ["allow", "and", 0],
    /exactly one name, this one has 2/,
  ],
  [
    "a criterion without a name",
    [{ allow: { and: [{}] } }],
    [0, "allow", "and", 0],
    /exactly one name, this one has 0/,
  ],
];
for (const [name, ppl, path, message] of mistakes) {
  test(`${name} is a mistake at ${JSON.stringify(path)}`, () => {
    const { problems } = parse(ppl);
    assert.equal(problems.length, 1);
    assert.deepEqual(problems[0]?.path, path);
    assert.match(`${problems[0]?.problem}; ${problems[0]?.remedy}`, message);
  });
}

test("all mistakes are reported at once, and valid parts are still parsed", () => {
  const { rules, problems } = parse([
    { alow: {}, allow: { xor: [], or: [{ accept: 1 }, 5] } },
    7,
    { deny: { and: "x" } },
  ]);
  assert.deepEqual(
    problems.map(({ path }) => path.join(".")),
    ["0.alow", "0.allow.xor", "0.allow.or.1", "1", "2.deny.and"],
  );
  assert.equal(rules[0]?.conditionals[0]?.criteria.length, 1);
});
