/** YAML documents: values with locations, and bounds on the size and nesting of a file. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { formatProblem, readYaml } from "../../../src/config/index.ts";

const value = (text: string): unknown => readYaml(text, "y").value;
const problems = (text: string): readonly string[] =>
  readYaml(text, "y").problems.map((one) => formatProblem(one).replace(": error: ", ": "));

suite("values", () => {
  const table: readonly (readonly [string, unknown])[] = [
    ["a: 1", { a: 1 }],
    ['{"a": [true, null, "x"]}', { a: [true, null, "x"] }],
    ["a: yes", { a: "yes" }],
    ["a: 2024-01-01", { a: "2024-01-01" }],
    ["1: x\ntrue: y", { "1": "x", true: "y" }],
    ["a: &x [1]\nb: *x", { a: [1], b: [1] }],
    ["a: &x {k: 1, l: 2}\nb:\n  k: 3\n  <<: *x", { a: { k: 1, l: 2 }, b: { k: 3, l: 2 } }],
    ["a: &x {k: 1}\nb: &y {k: 2, m: 3}\nc:\n  <<: [*x, *y]", { a: { k: 1 }, b: { k: 2, m: 3 }, c: { k: 1, m: 3 } }],
    ["constructor: 1\ntoString: 2", { constructor: 1, toString: 2 }],
    ["\uFEFFa: 1", { a: 1 }],
    ["", null],
    ["# nothing\n", null],
  ];
  for (const [text, expected] of table) test(JSON.stringify(text), () => assert.deepEqual(value(text), expected));
});

suite("a refused document", () => {
  const table: readonly (readonly [string, readonly string[]])[] = [
    ["a: 1\nb: 2\na: 3", ["y:3:1: (document): a is written twice (first on line 1); keep one of them"]],
    ["a: {b: 1, b: 2}", ["y:1:11: (document): b is written twice (first on line 1); keep one of them"]],
    [
      "a: *nope",
      ["y:1:4: (document): an alias to an anchor that is not defined above; define the anchor with & first"],
    ],
    ["? [1, 2]\n: 3", ["y:1:3: (document): a key must be one word; write key: value"]],
    ["__proto__: {admin: true}", ["y:1:1: (document): a key must be one word; write key: value"]],
    ["a: {<<: 3}", ["y:1:5: (document): << merges something that is not a mapping; merge an alias to a mapping"]],
    [
      "a: !!js/function x",
      ["y:1:4: (document): Unresolved tag: tag:yaml.org,2002:js/function; write the plain value, without a tag"],
    ],
  ];
  for (const [text, expected] of table) test(JSON.stringify(text), () => assert.deepEqual(problems(text), expected));
});

suite("resource limits", () => {
  test("nested aliases (a billion laughs) are refused", () => {
    let text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
    for (let i = 1; i < 12; i++) text += `a${i}: &a${i} [${`*a${i - 1}, `.repeat(10)}]\n`;
    const document = readYaml(text, "y");
    assert.equal(document.readable, false);
    assert.match(document.problems.map(formatProblem).join(), /contains more than 200000 values/);
  });
  test("an anchor that contains itself is bounded", () => {
    assert.match(problems("a: &a [*a]").join(), /nests deeper than 64|not defined above/);
  });
  test("deep nesting is refused", () => {
    assert.equal(readYaml(`a: ${"[".repeat(100)}${"]".repeat(100)}`, "y").readable, false);
    assert.equal(readYaml("[".repeat(20_000), "y").readable, false);
  });
  test("a file over 4 MiB is refused", () => {
    assert.deepEqual(problems("x".repeat(5 * 1024 * 1024)), [
      "y:1:1: (document): longer than 4 MiB; a configuration is smaller: is this the right file?",
    ]);
  });
});
