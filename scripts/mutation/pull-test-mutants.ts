/** Test mutants of pulled audit records and of the audit status (test-mutants.ts). Pure data. */
import type { TestMutant } from "./test-mutant.ts";

const storeTest = "test/audit/pull/pull-store.test.ts";
const feedTest = "test/audit/pull/feed.test.ts";
const decisionsTest = "test/console/api/operator-decisions.test.ts";
const statusTest = "test/audit/status/audit-status.test.ts";
const accessTest = "test/console/api/operator-access.test.ts";
const store = "src/audit/pull/pull-store.ts";
const status = "src/audit/status/audit-status.ts";

export const pullTestMutants: Readonly<Record<string, TestMutant>> = {
  "removed-unstated": {
    section: 7,
    meaning: "a reader that fell behind retention goes on as if nothing was removed",
    test: storeTest,
    changes: [{ file: store, take: "if (count > 0) return { at: first,", put: "if (count > 1e9) return { at: first," }],
  },
  "hole-unstated": {
    section: 7,
    meaning: "what the files for readers left out is not stated",
    test: storeTest,
    changes: [{ file: store, take: 'gone ??= { reason: "not_stored", count };', put: "void gone;" }],
  },
  "stored-twice": {
    section: 7,
    meaning: "a record that is delivered again after a crash is stored again",
    test: storeTest,
    changes: [{ file: store, take: "if (first > stored) return bytes;", put: "if (first > 0) return bytes;" }],
  },
  "killed-unsynced": {
    section: 7,
    meaning: "what a killed process wrote and did not sync counts as stored, and a power failure takes it",
    test: storeTest,
    changes: [{ file: store, take: "      await file.sync(); // the killed process may not have\n", put: "" }],
  },
  "reused-numbers-skipped": {
    section: 7,
    meaning: "a stream that lost its newest messages uses their numbers again, and readers skip them",
    test: feedTest,
    changes: [{ file: "src/audit/pull/feed.ts", take: " || !isAfter(first, end)) {", put: ") {" }],
  },
  "filter-hides-gaps": {
    section: 7,
    meaning: "a filter by person or route hides that records are lost",
    test: decisionsTest,
    changes: [
      {
        file: "src/audit/pull/record-filter.ts",
        take: 'if (record.kind === "gap") return true;',
        put: 'if (record.kind === "gap") return filter.users === undefined && filter.routes === undefined;',
      },
    ],
  },
  "cursor-stands-still": {
    section: 7,
    meaning: "a cursor does not advance over records that do not match",
    test: decisionsTest,
    changes: [
      {
        file: "src/console/api/decisions/decision-page.ts",
        take: "      after = entry.cursor;\n",
        put: "      if (query.matches(entry.record)) after = entry.cursor;\n",
      },
      {
        file: "src/console/api/decisions/decision-page.ts",
        take: "    if (page.entries.length > 0) after = page.after;\n",
        put: "",
      },
    ],
  },
  "status-of-another-node": {
    section: 7,
    meaning: "a node reports the audit status of another one",
    test: statusTest,
    changes: [
      {
        file: status,
        take: 'if (status.node !== opened.from.name || status.boot !== opened.from.boot) return "foreign";',
        put: "",
      },
    ],
  },
  "old-status-counts": {
    section: 7,
    meaning: "an old report of a node, sent again, counts as its newest",
    test: statusTest,
    changes: [{ file: status, take: " || status.atMs <= before) return", put: " || before === 0) return" }],
  },
  "refusals-unbounded": {
    section: 7,
    meaning: "each caller that the operator API refuses is a record, so strangers fill the spool",
    test: accessTest,
    changes: [
      {
        file: "src/console/api/operator-access.ts",
        take: "if (window.left === 0) {",
        put: "if (window.left === -1e9) {",
      },
    ],
  },
};
