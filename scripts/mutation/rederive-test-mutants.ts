/** Test mutants of decisions that are made again, and of the archive behind them (test-mutants.ts). Pure data. */
import type { TestMutant } from "./test-mutant.ts";

const rederiveTest = "test/audit/rederive/rederive.test.ts";
const recheckTest = "test/audit/rederive/recheck.test.ts";
const archiveTest = "test/broker/snapshots/archive.test.ts";
const rederive = "src/audit/rederive/rederive.ts";

export const rederiveTestMutants: Readonly<Record<string, TestMutant>> = {
  "unrecorded-input-guessed": {
    section: 5,
    meaning: "a criterion on what a record does not hold counts as unmet when the decision is made again",
    test: rederiveTest,
    changes: [
      {
        file: "src/audit/rederive/recorded-caller.ts",
        take: "    criteria.flatMap(({ name, needsSession }) => (isKnown(name, needsSession) ? [] : [name])),",
        put: '    criteria.flatMap(({ name, needsSession }) => (isKnown(name, needsSession) || name !== "" ? [] : [name])),',
      },
    ],
  },
  "ended-session-overlooked": {
    section: 5,
    meaning: "a permit for a session that the log has as ended counts as the same on a public route",
    test: rederiveTest,
    changes: [
      {
        file: rederive,
        take: '  if (ended !== null) compare("caller",',
        put: '  if (ended === "") compare("caller",',
      },
    ],
  },
  "changed-facts-checked": {
    section: 5,
    meaning: "a decision is checked by facts that have changed since, and a right answer raises an alarm",
    test: recheckTest,
    changes: [
      {
        file: "src/audit/rederive/recheck.ts",
        take: '    if (!isUnchangedSince(record, policy, replica)) return skip("changed");',
        put: '    if (policy === undefined && !isUnchangedSince(record, policy, replica)) return skip("changed");',
      },
    ],
  },
  "lost-copy-trusted": {
    section: 6,
    meaning: "a node whose copy has events that a failover lost raises an alarm",
    test: recheckTest,
    changes: [
      {
        file: "src/audit/rederive/recheck.ts",
        take: '    return (await isOnChain(copy)) ? answer : { type: "skip", reason: "history" };',
        put: '    return copy.position >= 0 ? answer : { type: "skip", reason: "history" };',
      },
    ],
  },
  "unarchived-dropped": {
    section: 3,
    meaning: "events are dropped that are not archived yet",
    test: archiveTest,
    changes: [
      {
        file: "src/broker/snapshots/snapshot-run.ts",
        take: "neededAfter, archivedUpTo ?? Number.POSITIVE_INFINITY);",
        put: "neededAfter, (archivedUpTo ?? 0) + Number.POSITIVE_INFINITY);",
      },
    ],
  },
  "lost-events-archived": {
    section: 6,
    meaning: "archived events of a history that a failover lost stay, and the true ones are never archived",
    test: archiveTest,
    changes: [
      {
        file: "src/broker/snapshots/event-archiver.ts",
        take: "    if (known !== undefined && sameLink(known, last)) return last;",
        put: "    if (known !== undefined && known.position === last.position) return last;",
      },
    ],
  },
  "archived-link-unchecked": {
    section: 3,
    meaning: "archived events count that follow another link",
    test: archiveTest,
    changes: [
      {
        file: "src/replication/snapshot/log-archive-client.ts",
        take: "      if (known === undefined || !sameLink(known, after)) return null;",
        put: "      if (known === undefined || known.position !== after.position) return null;",
      },
    ],
  },
};
