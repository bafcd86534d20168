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
  "ends-not-counted": {
    section: 3,
    meaning: "a batch that ends the access of any number of people passes",
    test: commandsTest,
    changes: [
      { file: guard, take: "  const people = new Set(change.ending);", put: "  const people = new Set<UserId>();" },
    ],
  },
  "sender-releases-itself": {
    section: 3,
    meaning: "a source ends the access of many people by a command that says an operator has released it",
    test: commandsTest,
    changes: [
      {
        file: "src/broker/commands/provisioned/announce-ends.ts",
        take: "    if (command.isReleased !== true ||",
        put: '    if (command.type !== "announceEnds" ||',
      },
    ],
  },
  "one-source-fills-all": {
    section: 3,
    meaning: "held changes of one source leave no room for others",
    test: commandsTest,
    changes: [
      {
        file: guard,
        take: "  if (sourceOf(source) === null) return null;",
        put: "  if (sourceOf(source) !== undefined) return null;",
      },
    ],
  },
  "request-lost-at-the-start": {
    section: 3,
    meaning: "a request that arrives while a run starts is consumed by that run, without what it allows",
    test: "test/auth/directory/directory-duty.test.ts",
    changes: [
      {
        file: "src/broker/commands/provisioned/directory-sync.ts",
        take: "      const isAnswered = asked !== null && asked.id === answers;",
        put: "      const isAnswered = asked !== null;",
      },
    ],
  },
  "older-page-wins": {
    section: 3,
    meaning: "a run undoes what the directory has said of one person since",
    test: "test/auth/directory/read-person.test.ts",
    changes: [
      {
        file: "src/auth/directory/apply-plan.ts",
        take: "    if (parts.except?.has(change.userId) === true) return false;",
        put: "    if (parts.except?.has(change.userId) === false && attemptsMax === 0) return false;",
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
        take: "  if (source === null || (!mayTake(command) && answeredBy(request, projection) === undefined)) return own;",
        put: "  if (source !== null || (!mayTake(command) && answeredBy(request, projection) === undefined)) return own;",
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
  "lost-basis-accepted": {
    section: 3,
    meaning: "what a node has decided by a lost history is recorded",
    test: "test/broker/commands/provisioned.test.ts",
    changes: [
      {
        file: "src/broker/commands/performed.ts",
        take: "basisLink === undefined || lost.mayHold(basisLink)",
        put: "basisLink === undefined || lost.mayHold !== undefined",
      },
    ],
  },
  "lost-beginning-accepted": {
    section: 3,
    meaning: "a sign-in that began in a lost history passes a logout since",
    test: "test/broker/commands/logouts.test.ts",
    changes: [
      {
        file: "src/broker/commands/session/record-logout.ts",
        take: "begunLink === undefined || lost.mayHold(begunLink)",
        put: "begunLink === undefined || lost.mayHold !== undefined",
      },
    ],
  },
};
