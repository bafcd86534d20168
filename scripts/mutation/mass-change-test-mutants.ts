/**
 * Test mutants of mass changes and of user names that two nodes give out (test-mutants.ts). Pure data.
 */
import type { TestMutant } from "./test-mutant.ts";

const commandsTest = "test/broker/commands/mass-change.test.ts";
const brokerTest = "test/broker/held-changes.test.ts";
const guard = "src/broker/commands/held/guard-mass-change.ts";
const heldChanges = "src/broker/commands/held/held-changes.ts";

export const massChangeTestMutants: Readonly<Record<string, TestMutant>> = {
  "window-forgotten": {
    section: 3,
    meaning: "each change of a source is judged alone, so a thousand small ones pass",
    test: commandsTest,
    changes: [
      {
        file: guard,
        take: "  if (source !== null && people.size > 0)",
        put: "  if (source === null && people.size > 0)",
      },
    ],
  },
  "dropped-is-held-anew": {
    section: 3,
    meaning: "a change that an operator has dropped passes in small parts",
    test: commandsTest,
    changes: [
      { file: guard, take: "  return isSame ? { ...refuse", put: "  return isSame && people.size > 5 ? { ...refuse" },
    ],
  },
  "any-version-released": {
    section: 3,
    meaning: "an operator releases more than they have seen",
    test: commandsTest,
    changes: [{ file: heldChanges, take: "  if (held.version !== version)", put: "  if (held.version < version)" }],
  },
  "restatement-still-removes": {
    section: 3,
    meaning: "a release removes people that the source has named as members again",
    test: commandsTest,
    changes: [
      {
        file: guard,
        take: "    const withdrawn = held.filter(",
        put: "    const withdrawn = held.slice(0, 0).filter(",
      },
    ],
  },
  "sources-at-the-same-time": {
    section: 3,
    meaning: "changes of one source in one batch do not count those before",
    test: brokerTest,
    changes: [
      {
        file: "src/broker/commands/catalog.ts",
        take: "  if (source === null || !mayTake(command)) return own;",
        put: "  if (source !== null || !mayTake(command)) return own;",
      },
    ],
  },
  "retry-of-held-is-done": {
    section: 3,
    meaning: "the retry of a command that was only held is answered as done",
    test: brokerTest,
    changes: [
      {
        file: "src/broker/leader/duplicate-check.ts",
        take: "    if (held !== null) {",
        put: "    if (held !== null && held.people < 0) {",
      },
    ],
  },
  "name-given-twice": {
    section: 3,
    meaning: "two nodes give one user name to two people at the same time",
    test: "test/broker/commands/provisioned.test.ts",
    changes: [
      {
        file: "src/broker/commands/provisioned/name-claims.ts",
        take: "claim.position > basis",
        put: "claim.position < basis",
      },
    ],
  },
};
