/**
 * Test mutants: rules of docs/architecture.md §3 to §7 that the simulator does not run, each with the test file that
 * fails without it. Pure data.
 *
 * test/scripts/test-mutants.test.ts notices when quoted code changes. `npm run mutate:tests` checks that each test
 * still fails without its rule.
 */
import { liveTestMutants } from "./live-test-mutants.ts";
import { massChangeTestMutants } from "./mass-change-test-mutants.ts";
import { pullTestMutants } from "./pull-test-mutants.ts";
import { rederiveTestMutants } from "./rederive-test-mutants.ts";
import { regionTestMutants } from "./region-test-mutants.ts";
import { sealTestMutants } from "./seal-test-mutants.ts";
import { sinkTestMutants } from "./sink-test-mutants.ts";
import { spoolTestMutants } from "./spool-test-mutants.ts";
import { storeTestMutants } from "./store-test-mutants.ts";
import type { TestMutant } from "./test-mutant.ts";
import { wireTestMutants } from "./wire-test-mutants.ts";

const sqliteFile = "src/replication/log/sqlite/file.ts";
const envelope = "src/replication/wire/envelope.ts";
const nodeProcess = "src/replication/node/node-process.ts";
const nodeProcessTest = "test/replication/node/node-process.test.ts";
const leaseSide = "src/replication/node/node-lease.ts";
const dataFolderLock = "src/replication/node/data-folder-lock.ts";
const dataFolderLockTest = "test/replication/node/data-folder-lock.test.ts";
const leaseGranter = "src/replication/lease/lease-granter.ts";
const leaseGranterTest = "test/replication/lease/lease-granter.test.ts";

export const testMutants: Readonly<Record<string, TestMutant>> = {
  "sqlite-unsynced": {
    section: 3,
    meaning: "a file log answers before its commit is on disk",
    test: "test/replication/log/sqlite/file.test.ts",
    changes: [
      { file: sqliteFile, take: 'db.exec("pragma synchronous = full");', put: 'db.exec("pragma synchronous = off");' },
    ],
  },
  "sqlite-shared": {
    section: 3,
    meaning: "two processes open one file log",
    test: "test/replication/log/sqlite/file.test.ts",
    changes: [
      {
        file: sqliteFile,
        take: 'db.exec("pragma locking_mode = exclusive");',
        put: 'db.exec("pragma locking_mode = normal");',
      },
    ],
  },
  "signature-unchecked": {
    section: 3,
    meaning: "a message counts as its sender's, whatever its signature",
    test: "test/replication/wire/envelope.test.ts",
    changes: [
      {
        file: envelope,
        take: "if (!verify(null, signedBytes(kind, parts.certificate, payload), from.key, signature))",
        put: "if (signedBytes(kind, parts.certificate, payload).length === 0 || signature.length === 0)",
      },
    ],
  },
  "certificate-unchecked": {
    section: 3,
    meaning: "a certificate counts though no root of this cluster has signed it",
    test: "test/replication/wire/envelope.test.ts",
    changes: [
      {
        file: envelope,
        take: 'if (!verify(null, bytes, issuer.root, rootSignature)) return "certificate not signed by this cluster";',
        put: "void rootSignature;",
      },
    ],
  },
  "confirmation-unsigned": {
    section: 3,
    meaning: "a node sends its confirmation unsigned",
    test: nodeProcessTest,
    changes: [
      {
        file: nodeProcess,
        take: "const envelope = sealEnvelope(speaker, spoken.type, encodeMessage(messageBodyOf(spoken)));",
        put: 'const envelope = sealEnvelope(speaker, spoken.type, encodeMessage(messageBodyOf(spoken)));\n      if (spoken.type === "confirm") envelope.fill(0, -64);',
      },
    ],
  },
  "failed-listener-enforces": {
    section: 5,
    meaning: "a change counts as enforced though a listener failed to check what it holds open",
    test: "test/replication/node/change-listeners.test.ts",
    changes: [
      {
        file: "src/replication/node/change-listeners.ts",
        take: "if (!failed) done({ failed: true, error });",
        put: "if (!failed) done({ failed: false });\n      void error;",
      },
    ],
  },
  "failed-cut-enforces": {
    section: 5,
    meaning: "a change counts as enforced though an exchange that it denies could not be cut",
    test: "test/proxy/enforce/exchanges.test.ts",
    changes: [
      {
        file: "src/proxy/enforce/exchanges.ts",
        take: "if (failed.length > 0) settled(new CutFailedError(failed.length, { cause: failed[0] }));\n    else this",
        put: "this",
      },
    ],
  },
  "lifetime-unwatched": {
    section: 5,
    meaning: "a stream outlives its route's longest lifetime",
    test: "test/proxy/enforce/exchanges.test.ts",
    changes: [
      {
        file: "src/proxy/enforce/exchanges.ts",
        take: 'if (now >= this.#endsAt) return this.#refuse("lifetime");',
        put: "",
      },
    ],
  },
  "renew-of-stale-configuration": {
    section: 5,
    meaning: "a renew names the hash of a configuration that is no longer in force",
    test: nodeProcessTest,
    changes: [
      {
        file: "src/replication/node/node-lease.ts",
        take: "this.#configHash = configHash;",
        put: "void configHash;",
      },
    ],
  },
  "lease-of-before-a-wait": {
    section: 5,
    meaning: "a request that waited past the lease is decided by the old lease",
    test: "test/proxy/lease-during-wait.test.ts",
    changes: [
      {
        file: "src/proxy/request/request-pipeline.ts",
        take: 'if (context.downstream.closed) return "ended";\n    if (current() === pipeline && admission.isStale(requireEarlierStep(context.routed)))\n      return refuse(context, unavailableRefusal("lease"));',
        put: 'if (context.downstream.closed) return "ended";',
      },
    ],
  },
  "handle-of-another-host": {
    section: 5,
    meaning: "a session's credential counts on a host that it was not made for",
    test: "test/proxy/request/identify-caller.test.ts",
    changes: [
      {
        file: "src/proxy/request/identify-caller.ts",
        take: "(handleFits(handle, hostname, config.cookie.domain) || (isTunnel && handleFitsTunnels(handle)));",
        put: "(hostname !== config.cookie.domain || (isTunnel && handleFitsTunnels(handle)));",
      },
    ],
  },
  "same-epoch-accepted": {
    section: 5,
    meaning: "a link below a snapshot counts as reached if its epoch has the same number, whatever its incarnation",
    test: "test/replication/node/link-waiters.test.ts",
    changes: [
      {
        file: "src/replication/lease/chain-history.ts",
        take: "return incarnation === undefined || mark.incarnation === null || incarnation === tagOf(mark.incarnation);",
        put: "return true;",
      },
    ],
  },
  "incarnation-left-out": {
    section: 5,
    meaning: "a credential does not name the incarnation of its link's epoch",
    test: "test/auth/authenticate/sign-in.test.ts",
    changes: [
      {
        file: "src/events/link.ts",
        take: "return incarnation === undefined ? link : { ...link, incarnation: tagOf(incarnation) };",
        put: "return incarnation === undefined ? link : { ...link };",
      },
    ],
  },
  "goodbye-before-the-last-stream": {
    section: 5,
    meaning: "a draining node says goodbye before its last stream is closed",
    test: "test/integration/cluster/revocation.test.ts",
    changes: [
      {
        file: "src/cli/build/request-services.ts",
        take: "replica.drain();\n    await started.close();",
        put: "replica.drain();\n    void started.close();",
      },
    ],
  },
  "clone-taken-for-restart": {
    section: 5,
    meaning: "a boot on a copied data folder names the boot that wrote the original, which may be alive",
    test: dataFolderLockTest,
    changes: [{ file: dataFolderLock, take: '|| row["file"] !== file ? null', put: "? null" }],
  },
  "key-kept-after-goodbye": {
    section: 5,
    meaning: "the key of a boot that said goodbye stays in its data folder",
    test: dataFolderLockTest,
    changes: [
      {
        file: dataFolderLock,
        take: 'if (open) database.exec("begin; delete from last_boot; delete from last_key; commit");',
        put: 'if (open) database.exec("begin; delete from last_boot; commit");',
      },
    ],
  },
  "predecessor-named-again": {
    section: 5,
    meaning: "a boot keeps naming its predecessor after the leader's first grant",
    test: nodeProcessTest,
    changes: [
      {
        file: leaseSide,
        take: "      this.#replaces = null;",
        put: "",
      },
    ],
  },
  "predecessor-named-once": {
    section: 5,
    meaning: "a boot stops naming its predecessor after a regional grant, before the leader has heard of it",
    test: nodeProcessTest,
    changes: [{ file: leaseSide, take: "if (grant.ageMs === undefined || grant.ageMs === null) {", put: "{" }],
  },
  "replaced-stays-replaced": {
    section: 5,
    meaning: "receipts leave out a replaced boot that renews, and so is alive",
    test: leaseGranterTest,
    changes: [
      {
        file: leaseGranter,
        take: "this.#reviveIfReplaced(renew, ({ nonces }) => renew.nonce > nonces.renew);",
        put: "",
      },
    ],
  },
  "copy-unreported": {
    section: 5,
    meaning: "two boots of one node that both keep renewing are not reported to the operator",
    test: leaseGranterTest,
    changes: [
      {
        file: leaseGranter,
        take: "if (record.renew === null) this.#copied.recordFirstRenew(boot(renew), this.#otherBootsOf(renew));",
        put: "",
      },
    ],
  },
  "carried-denial-inexact": {
    section: 4,
    meaning: "a denial that a disk carries into another history denies sessions that were created there",
    test: "test/replication/node/lost-sessions.test.ts",
    changes: [
      {
        file: "src/replication/node/denials/persisted-denials.ts",
        take: "if (createdAt > upTo) return false;",
        put: "if (upTo > 0) return true;",
      },
    ],
  },
  ...liveTestMutants,
  ...regionTestMutants,
  ...storeTestMutants,
  ...spoolTestMutants,
  ...sinkTestMutants,
  ...sealTestMutants,
  ...massChangeTestMutants,
  ...rederiveTestMutants,
  ...pullTestMutants,
  ...wireTestMutants,
};
