/**
 * Mutation gate of the tests: `npm run mutate:tests [-- --only name,name]`.
 *
 * Each mutant (mutation/test-mutants.ts) removes a rule that tests hold and the simulator does not run. Its test file
 * passes with the rule and must fail without it. It prints a line per mutant and a summary. Exit 1: a mutant survives,
 * or a test fails with its rule; 2: wrong usage.
 */
import { parseArgs } from "node:util";
import { failsWith } from "./mutation/mutated-test.ts";
import { testMutants } from "./mutation/test-mutants.ts";

const { values } = parseArgs({ options: { only: { type: "string" } } });
const names = values.only?.split(",") ?? Object.keys(testMutants);
const unknown = names.find((name) => testMutants[name] === undefined);
if (unknown !== undefined) {
  console.error(`there is no mutant ${unknown}; there are ${Object.keys(testMutants).join(", ")}`);
  process.exit(2);
}

const sound = new Map<string, boolean>();
const escaped: string[] = [];
for (const name of names) {
  const mutant = testMutants[name];
  if (mutant === undefined) continue;
  const { test, changes, meaning } = mutant;
  const isSound = sound.get(test) ?? !failsWith("none", [], test);
  sound.set(test, isSound);
  const isCaught = isSound && failsWith(name, changes, test);
  if (!isCaught) escaped.push(name);
  const verdict = !isSound ? "ITS TEST FAILS WITH THE RULE" : isCaught ? `caught by ${test}` : `SURVIVED ${test}`;
  console.log(`${name.padEnd(32)} ${verdict.padEnd(60)} ${meaning}`);
}
console.log(
  `mutants: ${names.length - escaped.length} of ${names.length} caught; ${escaped.length === 0 ? "none survived" : `not caught: ${escaped.join(", ")}`}`,
);
process.exitCode = escaped.length === 0 ? 0 : 1;
