/**
 * Test mutants of the store: the evidence for lost leases and for durable events (test-mutants.ts). Pure data.
 */
import type { TestMutant } from "./test-mutant.ts";

const continuityTest = "test/replication/log/continuity.test.ts";
const continuity = "src/replication/log/continuity.ts";
const durabilityTest = "test/replication/log/durability.test.ts";
const durability = "src/replication/log/durability.ts";
const lostHistoryTest = "test/replication/lease/lost-history.test.ts";
const leaseGranter = "src/replication/lease/lease-granter.ts";

export const storeTestMutants: Readonly<Record<string, TestMutant>> = {
  "lost-lessees-forgotten": {
    section: 6,
    meaning: "a new leader assumes that the store holds every lease",
    test: continuityTest,
    changes: [
      {
        file: continuity,
        take: "  const { run, previous, mark } = evidence;",
        put: "  const { run, previous, mark } = evidence;\n  if (request.expected > 0) return null;",
      },
    ],
  },
  "unrecorded-window-trusted": {
    section: 6,
    meaning: "lost leases that an older build granted count as no longer than today's limit",
    test: continuityTest,
    changes: [
      {
        file: continuity,
        take: 'if (previous === "unrecorded") return Math.max(limitMs, windowMsMax);',
        put: 'if (previous === "unrecorded") return limitMs;',
      },
    ],
  },
  "surviving-window-ignored": {
    section: 6,
    meaning: "a surviving lease that is longer than every limit is not taken as evidence about the lost ones",
    test: continuityTest,
    changes: [
      {
        file: continuity,
        take: "return lessees.reduce((longestMs, { windowMs }) => Math.max(longestMs, windowMs), limitMs);",
        put: "return limitMs;",
      },
    ],
  },
  "same-timeline-trusted": {
    section: 6,
    meaning: "a store on the same timeline counts as one that has lost nothing",
    test: continuityTest,
    changes: [
      {
        file: continuity,
        take: "if (previous.run.start === run.start) return null;",
        put: "if (previous.run.timeline === run.timeline) return null;",
      },
    ],
  },
  "timeline-unread": {
    section: 6,
    meaning: "a store on another timeline counts as one that has lost nothing",
    test: continuityTest,
    changes: [
      {
        file: continuity,
        take: "if (previous.run.timeline !== run.timeline)",
        put: 'if (previous.run.timeline === run.timeline && run.start === "")',
      },
    ],
  },
  "another-server-trusted": {
    section: 6,
    meaning: "another Postgres server counts as one that has lost nothing",
    test: continuityTest,
    changes: [
      { file: continuity, take: "if (previous.run.server !== run.server)", put: 'if (previous.run.server === "")' },
    ],
  },
  "copied-log-trusted": {
    section: 6,
    meaning: "a log copied into a database counts as the original",
    test: continuityTest,
    changes: [
      {
        file: continuity,
        take: 'if (previous.written === "elsewhere")',
        put: 'if (previous.written === "elsewhere" && run.start === "")',
      },
    ],
  },
  "restart-trusted-by-all": {
    section: 6,
    meaning: "a clean restart of Postgres proves to every broker that no lease is lost",
    test: continuityTest,
    changes: [
      {
        file: continuity,
        take: "return request.led === previous.incarnation\n    ? null",
        put: "return request.led !== undefined\n    ? null",
      },
    ],
  },
  "lost-epoch-ignored": {
    section: 6,
    meaning: "an epoch that a message named and the store lacks raises no doubt",
    test: continuityTest,
    changes: [{ file: continuity, take: "return named > expected ?", put: "return named > expected && named < 0 ?" }],
  },
  "one-standby-of-two": {
    section: 3,
    meaning: "one standby is enough where the names require two",
    test: durabilityTest,
    changes: [
      {
        file: durability,
        take: "flushed.filter((position) => position >= end).length >= wanted.count",
        put: "flushed.some((position) => position >= end)",
      },
    ],
  },
  "unnamed-standby-counts": {
    section: 3,
    meaning: "a standby counts though no commit waits for it by name",
    test: durabilityTest,
    changes: [{ file: durability, take: 'if (named !== "any" && !named.has(key)) continue;', put: "" }],
  },
  "asynchronous-standby-counts": {
    section: 3,
    meaning: "an asynchronous standby counts as one that commits wait for",
    test: durabilityTest,
    changes: [
      {
        file: durability,
        take: 'const counts = state === "sync" || state === "quorum";',
        put: 'const counts = state !== "";',
      },
    ],
  },
  "renewed-position-of-old-machine": {
    section: 3,
    meaning: "the highest position of a standby's connections counts, not the lowest",
    test: durabilityTest,
    changes: [
      {
        file: durability,
        take: "if (known === undefined || position < known)",
        put: "if (known === undefined || position > known)",
      },
    ],
  },
  "survivors-window-kept": {
    section: 6,
    meaning: "a surviving row counts for its own window, though a longer one may be lost",
    test: lostHistoryTest,
    changes: [
      {
        file: leaseGranter,
        take: "const longestMs = Math.max(lessee.windowMs, options.deltaMs, lostMs);",
        put: "const longestMs = Math.max(lessee.windowMs, options.deltaMs);",
      },
    ],
  },
  "lost-history-confirms": {
    section: 6,
    meaning: "a confirmation counts for the nodes of a lost history",
    test: lostHistoryTest,
    changes: [{ file: leaseGranter, take: "if (isLostHistory(confirm)) return { refused: reservedBootId };", put: "" }],
  },
  "lost-history-elsewhere": {
    section: 6,
    meaning: "a receipt for one region does not wait for the nodes of a lost history",
    test: lostHistoryTest,
    changes: [
      {
        file: "src/replication/lease/receipt.ts",
        take: "const region = isLostHistory(lessee) ? (awaitedRegion ?? lessee.region) : lessee.region;",
        put: "const region = lessee.region;\n  void awaitedRegion;",
      },
    ],
  },
};
