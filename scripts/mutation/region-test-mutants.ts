/**
 * Region test mutants: rules of a regional broker, its copy of the log, and of followers, each with the test file that
 * fails without it. Pure data; test-mutants.ts lists them with the others.
 */
import type { TestMutant } from "./test-mutant.ts";

const leases = "src/broker/region/region-leases.ts";
const driver = "src/broker/region/region-driver.ts";
const copy = "src/broker/region/region-copy.ts";
const pages = "src/broker/region/region-pages.ts";
const readers = "src/broker/region/region-readers.ts";
const granter = "src/replication/lease/regional-granter.ts";
const holder = "src/replication/lease/lease-holder.ts";
const follower = "src/replication/node/follower.ts";
const loop = "src/replication/node/log-sync.ts";
const enforcement = "src/replication/node/enforcement.ts";

const coreTest = "test/broker/region/region-core.test.ts";
const driverTest = "test/broker/region/region-driver.test.ts";
const copyTest = "test/broker/region/region-copy.test.ts";
const pagesTest = "test/broker/region/region-pages.test.ts";
const granterTest = "test/replication/lease/regional-granter.test.ts";
const holderTest = "test/replication/lease/lease-holder.test.ts";
const followerTest = "test/replication/node/follower.test.ts";
const loopTest = "test/replication/node/node-core.test.ts";
const enforcementTest = "test/replication/node/enforcement.test.ts";

export const regionTestMutants: Readonly<Record<string, TestMutant>> = {
  "mark-requested-late": {
    section: 5,
    meaning: "a regional broker grants by age before it requests the age mark",
    test: coreTest,
    changes: [
      {
        file: leases,
        take: 'this.#unmarked.set(id, renew);\n    if (this.#mark === "asked for") return;',
        put: 'this.#grantByAge(id, renew);\n    if (this.#mark === "asked for") return;',
      },
    ],
  },
  "mark-reported-late": {
    section: 5,
    meaning: "the shell of a regional broker reports the age mark before the disk holds it",
    test: driverTest,
    changes: [
      {
        file: driver,
        take: "    try {\n      this.#parts.mark.set();",
        put: '    this.#feed({ type: "markKept" });\n    try {\n      this.#parts.mark.set();',
      },
    ],
  },
  "mark-cleared-early": {
    section: 5,
    meaning: "a regional broker removes the age mark while leases by age count",
    test: coreTest,
    changes: [
      { file: leases, take: "this.leased(now) === 0 && this.#context.own.lease", put: "this.#context.own.lease" },
    ],
  },
  "mark-cleared-unleased": {
    section: 5,
    meaning: "a boot removes the age mark of the previous boot, though the leader has granted it no lease",
    test: coreTest,
    changes: [
      { file: leases, take: "&& this.#context.own.lease !== null && this.#unmarked", put: "&& this.#unmarked" },
    ],
  },
  "left-history-confirms": {
    section: 5,
    meaning: "confirmations of a history that the region has left count in the history that it was rebuilt to",
    test: coreTest,
    changes: [{ file: leases, take: "if (rebuilt) this.#granter.forgetEnforced();", put: "void rebuilt;" }],
  },
  "region-goodbye-early": {
    section: 5,
    meaning: "a regional broker says goodbye while leases by age count",
    test: coreTest,
    changes: [
      { file: leases, take: "maySayGoodbye: this.leased(this.#context.now) === 0", put: "maySayGoodbye: true" },
    ],
  },
  "stopping-region-grants": {
    section: 5,
    meaning: "a regional broker grants by age after it has said goodbye",
    test: coreTest,
    changes: [{ file: leases, take: "if (this.#closed) {", put: "if (this.#closed && id < 0) {" }],
  },
  "refused-boot-by-age": {
    section: 5,
    meaning: "a regional broker grants by age to a boot that the leader refuses",
    test: coreTest,
    changes: [
      {
        file: leases,
        take: 'else if (answer.type === "refused")\n      this.#granter',
        put: 'else if (answer.type === "refused" && renew.nonce < 0)\n      this.#granter',
      },
    ],
  },
  "message-in-another-name": {
    section: 3,
    meaning: "a regional broker accepts one node's message in the name of another",
    test: coreTest,
    changes: [
      {
        file: leases,
        take: 'return isOwn && hasOwnRole ? undefined : "a node may send only its own messages";',
        put: "return isOwn || hasOwnRole ? undefined : undefined;",
      },
    ],
  },
  "rebuilding-region-grants": {
    section: 5,
    meaning: "a regional broker whose own lease is void grants from it",
    test: holderTest,
    changes: [
      {
        file: holder,
        take: "if (overdueMs(state, at) === Number.POSITIVE_INFINITY || state.limits",
        put: "if (state.limits",
      },
    ],
  },
  "region-window-exceeded": {
    section: 5,
    meaning: "a lease by age lasts as long as the node requests, though the region's own window is shorter",
    test: granterTest,
    changes: [
      {
        file: granter,
        take: "Math.min(Math.max(renew.windowMs, lease.deltaMs), lease.windowMs)",
        put: "Math.max(renew.windowMs, lease.deltaMs)",
      },
    ],
  },
  "head-of-copy-unnamed": {
    section: 5,
    meaning: "a grant by age names the node's own position, not all that the region has applied",
    test: granterTest,
    changes: [{ file: granter, take: "const head = copy.applied;", put: "const head = renew.applied;" }],
  },
  "region-history-ignored": {
    section: 5,
    meaning: "a confirmation counts at its region, whatever its history",
    test: granterTest,
    changes: [{ file: granter, take: "node.claimed === null || !onChain(node.claimed)", put: "node.claimed === null" }],
  },
  "late-confirmation-counts": {
    section: 5,
    meaning: "an old confirmation that arrives late counts at the region",
    test: granterTest,
    changes: [{ file: granter, take: "if (nonce < node.enforcedNonce) return;", put: "" }],
  },
  "age-rate-ignored": {
    section: 5,
    meaning: "a lease by age ignores the drift of the region's clock and of the node's",
    test: holderTest,
    changes: [{ file: holder, take: "(ageMs * (1 + drift)) / (1 - drift)", put: "ageMs" }],
  },
  "lost-suffix-served": {
    section: 4,
    meaning: "a region's copy keeps the suffix that the home region has declared lost",
    test: coreTest,
    changes: [{ file: pages, take: 'if (answer.type === "forked") this.#change(() => this.#clear());', put: "" }],
  },
  "unapplied-delivery-kept": {
    section: 4,
    meaning: "a region's copy keeps a delivery that its broker's projection has not applied",
    test: coreTest,
    changes: [{ file: pages, take: "if (batch.last.position > this.#context.own.applied.position) return;", put: "" }],
  },
  "copy-keeps-both": {
    section: 4,
    meaning: "a region's copy keeps its own events where a page of the home region contradicts them",
    test: copyTest,
    changes: [
      {
        file: copy,
        take: "if (here !== undefined) this.#store.dropFrom(link.position);",
        put: "if (here !== undefined) return;",
      },
    ],
  },
  "copy-joins-unlinked": {
    section: 4,
    meaning: "a region's copy accepts a delivery that does not link to its head",
    test: copyTest,
    changes: [{ file: copy, take: "if (!this.holds(stretch.previous)) return false;", put: "" }],
  },
  "late-copy-calls-forked": {
    section: 4,
    meaning: "a region reports a node's history as lost because the region's copy is late",
    test: pagesTest,
    changes: [
      {
        file: readers,
        take: "(outcome.link.epoch >= after.epoch || head.epoch > after.epoch)",
        put: "outcome.link.epoch >= 0",
      },
    ],
  },
  "old-primary-trusted": {
    section: 4,
    meaning: "a node rebuilds because a broker of an older epoch declares its history lost",
    test: followerTest,
    changes: [
      {
        file: follower,
        take: "const proven = input.head.epoch > state.history.applied.epoch;",
        put: "const proven = true;",
      },
    ],
  },
  "page-of-before-a-rebuild": {
    section: 4,
    meaning: "a node applies a page that it requested before its rebuild began",
    test: followerTest,
    changes: [
      {
        file: follower,
        take: "if (state.reading?.stale === true) return finishRead(state);\n  const before",
        put: "const before",
      },
    ],
  },
  "rebuilt-at-an-old-head": {
    section: 4,
    meaning: "a rebuild ends at the head of the history that was lost",
    test: followerTest,
    changes: [{ file: follower, take: " && applied.epoch >= done.rebuilding.atLeast;", put: ";" }],
  },
  "deposed-delivery-applied": {
    section: 4,
    meaning: "a node applies the delivery of a leader that it knows to be deposed",
    test: followerTest,
    changes: [
      {
        file: follower,
        take: "return input.batch.epoch < state.epoch\n        ? [state, []]\n        : onDelivery(",
        put: "return onDelivery(",
      },
    ],
  },
  "incarnation-unread": {
    section: 4,
    meaning: "two epochs with one number and different incarnations count as one",
    test: followerTest,
    changes: [{ file: follower, take: "if (ahead || twin || locateLink", put: "if (ahead || locateLink" }],
  },
  "foreign-snapshot-fresh": {
    section: 4,
    meaning: "a node keeps its lease over a snapshot of another history",
    test: loopTest,
    changes: [
      {
        file: loop,
        take: "if (!sound) this.#options.onRebuilding(this.#visible.applied);",
        put: "",
      },
    ],
  },
  "older-snapshot-adopted": {
    section: 4,
    meaning: "a node behind retention returns to a snapshot that is older than its position",
    test: loopTest,
    changes: [
      {
        file: loop,
        take: 'if (!consistent || (why === "truncated" && link.position <= history.applied.position)) {',
        put: "if (!consistent) {",
      },
    ],
  },
  "mislabelled-snapshot-adopted": {
    section: 4,
    meaning: "a node adopts a snapshot whose projection does not belong to the link that it names",
    test: loopTest,
    changes: [{ file: loop, take: "if (!consistent || (why", put: "if ((why" }],
  },
  "abandoned-answer-taken": {
    section: 4,
    meaning: "a node accepts the answer to a read that it has abandoned",
    test: loopTest,
    changes: [
      {
        file: loop,
        take: 'if (this.#mode.type !== "reading" || this.#mode.id !== id) return;',
        put: 'if (this.#mode.type !== "reading") return;',
      },
    ],
  },
  "enforced-out-of-order": {
    section: 5,
    meaning: "a node reports a change as enforced while an earlier one is not enforced yet",
    test: enforcementTest,
    changes: [
      {
        file: enforcement,
        take: "while (this.#groups[0]?.open === 0) {",
        put: "while (this.#groups.length > 0 && group.open === 0) {",
      },
    ],
  },
  "left-history-enforced": {
    section: 5,
    meaning: "after a rebuild a node reports positions of the history that it left as enforced",
    test: enforcementTest,
    changes: [
      {
        file: enforcement,
        take: "const group = change.rebuilt ? this.#groupOfAll(change) : this.#groupFor(change);",
        put: "const group = change.rebuilt && change.id < 0 ? this.#groupOfAll(change) : this.#groupFor(change);",
      },
    ],
  },
};
