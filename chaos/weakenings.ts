/**
 * Weakenings: safety rules that can be removed on purpose, to see that the checker notices. Pure.
 *
 * Each quotes the statement of the product that enforces the rule, and its replacement. The product knows nothing of
 * this. If the statement changes, the weakening refuses to run instead of weakening nothing
 * (test/chaos/weakenings.test.ts).
 */
import type { TopologyName } from "./cluster/topology.ts";
import type { FaultKind } from "./faults/fault-kinds.ts";

export type Weakening = Readonly<{
  /** The resulting behaviour. */
  meaning: string;
  /** Where its absence shows. */
  topology: TopologyName;
  /** The faults in which it shows; absent: any. */
  faults?: readonly FaultKind[];
  /** The processes that run without the rule. */
  in: readonly string[];
  file: string;
  take: string;
  put: string;
}>;

const brokers = ["broker-eu-1", "broker-eu-2"];
const proxies = ["proxy-eu-1", "proxy-us-1", "proxy-ap-1"];

export const weakenings: Readonly<Record<string, Weakening>> = {
  "confirm-before-closing": {
    meaning: "one proxy confirms a revocation before it has closed what the revocation denies",
    topology: "one-region",
    in: ["proxy-eu-2"],
    file: "src/replication/node/change-listeners.ts",
    take: "const settled = listener(change);",
    put: "const settled: unknown = void setTimeout(() => listener(change), 700);",
  },
  "serve-without-lease": {
    meaning: "proxies keep deciding, however long ago their leases expired",
    topology: "one-region",
    in: ["proxy-eu-1", "proxy-eu-2", "proxy-eu-3"],
    file: "src/replication/lease/lease-holder.ts",
    take: "return elapsed > windowMs ? Number.POSITIVE_INFINITY : elapsed - state.limits.deltaMs;",
    put: "return Math.min(0, elapsed);",
  },
  "fence-too-early": {
    meaning: "brokers call a silent node fenced after a fifth of its window",
    topology: "one-region",
    in: brokers,
    file: "src/replication/lease/lessee-record.ts",
    take: "return (windowMs * (1 + drift)) / (1 - drift) + 50;",
    put: "return windowMs * drift * 20;",
  },
  "forget-lessees": {
    meaning: "a new leader does not wait for the nodes to which the old one granted",
    topology: "one-region",
    in: brokers,
    file: "src/replication/lease/lease-granter.ts",
    take: "for (const row of options.lessees) {",
    put: "for (const row of options.lessees.slice(options.lessees.length)) {",
  },
  "grant-by-age-as-new": {
    meaning: "regional brokers grant leases by age as if their own lease had just begun",
    topology: "three-regions",
    in: ["broker-us-1", "broker-us-2", "broker-ap-1"],
    file: "src/replication/lease/regional-granter.ts",
    take: "const ageMs = Math.max(0, at.monotonic - lease.freshSinceMs);",
    put: "const ageMs = 0;",
  },
  "permit-what-the-region-denies": {
    meaning: "proxies confirm what their region has revoked by itself, and go on permitting it",
    topology: "three-regions",
    // Random faults of a minute often cut no region off for long enough that it revokes by itself.
    faults: ["cut-region"],
    in: ["proxy-us-1", "proxy-ap-1"],
    file: "src/replication/node/denials/local-denials.ts",
    take: "return this.#denied.has(stream);",
    put: "return this.#denied.has(stream) && this.#denied.size < 0;",
  },
  "declare-no-lost-tail": {
    meaning: "a boot declares nothing of the numbers that a killed boot had reserved and not stored",
    topology: "three-regions",
    faults: ["kill-on-full-disk", "kill-on-slow-disk"],
    in: proxies,
    file: "src/audit/spool/segment.ts",
    take: "return Math.max(0, segment.reserved - segment.last);",
    put: "return 0;",
  },
  "permit-before-the-record": {
    meaning: "a strict route permits before the record of the permit is on disk",
    topology: "three-regions",
    faults: ["kill-on-slow-disk"],
    in: proxies,
    file: "src/audit/spool/spool-writer.ts",
    take: "const { promise, resolve, reject } = Promise.withResolvers<void>();",
    put: "const { promise, resolve, reject } = Promise.withResolvers<void>(); resolve();",
  },
  "pass-before-acceptance": {
    meaning: "the position of a sink moves on before the sink has accepted the records",
    topology: "three-regions",
    faults: ["block-audit-file"],
    in: proxies,
    file: "src/audit/sink-delivery.ts",
    take: "await this.#write(batch);\n        if (this.#sink.sync",
    put: "void this.#write(batch).catch(() => undefined);\n        if (this.#sink.sync",
  },
  "withhold-gap-records": {
    meaning: "gap records do not reach the sinks",
    topology: "three-regions",
    faults: ["kill-on-full-disk", "kill-on-slow-disk"],
    in: proxies,
    file: "src/audit/sink-delivery.ts",
    take: "batch: this.#read(how) };",
    put: "batch: this.#read(how).then((batch) => (batch?.records === 0 ? this.#read(how) : batch)) };",
  },
  "record-another-result": {
    meaning: "refusals are recorded as permits",
    topology: "three-regions",
    faults: ["fill-disk"],
    in: proxies,
    file: "src/audit/decision-line.ts",
    take: "ip, sessionId, userId, result, status, reasons } = record;",
    put: 'ip, sessionId, userId, status, reasons } = record; const result = "permit";',
  },
  "record-no-cut": {
    meaning: "the end of a stream has no record if a change cut it",
    topology: "three-regions",
    faults: ["fill-disk"],
    in: proxies,
    file: "src/proxy/request/request-end.ts",
    take: "if (permitted === null) return;",
    put: "if (context.exchange?.cutReason !== undefined || permitted === null) return;",
  },
};

export const firstRule = "confirm-before-closing";
