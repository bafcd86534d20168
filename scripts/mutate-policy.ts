/**
 * Mutation gate of the policy evaluator: `npm run mutate:policy [-- --only name,name]`.
 *
 * For each mutant (policy-mutants/mutants.ts) it runs the evaluator's tests in separate processes, quickest first,
 * until one fails. It prints a line per mutant and a summary. Exit 1: a mutant survives all tests; 2: wrong usage.
 */
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { failsWith } from "./mutation/mutated-test.ts";
import { policyMutants } from "./policy-mutants/mutants.ts";

const tests = [
  ...[
    "decide",
    "combine",
    "criteria/criteria",
    "compile",
    "client-certificates/client-certificate",
    "criteria/device",
    "criteria/time",
    "criteria/eval-only/ssh",
  ].map((name) => `test/auth/authorize/${name}.test.ts`),
  "test/auth/authorize/laws.property.test.ts",
  "test/auth/authorize/policy.property.test.ts",
  "test/auth/authorize/rule-set.property.test.ts",
  "test/cli/policy/policy-eval.test.ts",
];

const { values } = parseArgs({ options: { only: { type: "string" } } });
const names = values.only?.split(",") ?? Object.keys(policyMutants);
const unknown = names.find((name) => policyMutants[name] === undefined);
if (unknown !== undefined) {
  console.error(`there is no mutant ${unknown}; there are ${Object.keys(policyMutants).join(", ")}`);
  process.exit(2);
}

const survived: string[] = [];
for (const name of names) {
  const mutant = policyMutants[name];
  const caughtBy = mutant && tests.find((file) => failsWith(name, [mutant], file));
  if (caughtBy === undefined) survived.push(name);
  const verdict = caughtBy === undefined ? "SURVIVED" : `caught by ${basename(caughtBy)}`;
  console.log(`${name.padEnd(30)} ${verdict.padEnd(40)} ${policyMutants[name]?.meaning}`);
}
console.log(
  `mutants: ${names.length - survived.length} of ${names.length} caught; ${survived.length === 0 ? "none survived" : `survived: ${survived.join(", ")}`}`,
);
process.exitCode = survived.length === 0 ? 0 : 1;
