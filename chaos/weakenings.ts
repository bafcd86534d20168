/**
 * Weakenings: safety rules that can be removed on purpose, to see that the checker notices. Pure.
 *
 * Each quotes the statement of the product that enforces the rule, and its replacement. The product knows nothing of
 * this. If the statement changes, the weakening refuses to run instead of weakening nothing
 * (test/chaos/weakenings.test.ts).
 */
export type Weakening = Readonly<{
  /** The resulting behaviour. */
  meaning: string;
  /** The processes that run without the rule. */
  in: readonly string[];
  file: string;
  take: string;
  put: string;
}>;

const brokers = ["broker-1", "broker-2"];

export const weakenings: Readonly<Record<string, Weakening>> = {
  "confirm-before-closing": {
    meaning: "one proxy confirms a revocation before it has closed what the revocation denies",
    in: ["proxy-2"],
    file: "src/replication/node/change-listeners.ts",
    take: "const settled = listener(change);",
    put: "const settled: unknown = void setTimeout(() => listener(change), 700);",
  },
  "serve-without-lease": {
    meaning: "proxies keep deciding, however long ago their leases expired",
    in: ["proxy-1", "proxy-2", "proxy-3"],
    file: "src/replication/lease/lease-holder.ts",
    take: "return elapsed > windowMs ? Number.POSITIVE_INFINITY : elapsed - state.limits.deltaMs;",
    put: "return Math.min(0, elapsed);",
  },
  "fence-too-early": {
    meaning: "brokers call a silent node fenced after a fifth of its window",
    in: brokers,
    file: "src/replication/lease/lessee-record.ts",
    take: "return (windowMs * (1 + drift)) / (1 - drift) + 50;",
    put: "return windowMs * drift * 20;",
  },
  "forget-lessees": {
    meaning: "a new leader does not wait for the nodes to which the old one granted",
    in: brokers,
    file: "src/replication/lease/lease-granter.ts",
    take: "for (const row of options.lessees) {",
    put: "for (const row of options.lessees.slice(options.lessees.length)) {",
  },
};

export const firstRule = "confirm-before-closing";
