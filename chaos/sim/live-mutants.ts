/** Mutants of the live cut: what is registered, what a change or a configuration re-decides, what is cut and waited for. Pure data. */
import type { Mutant } from "./mutant.ts";

const exchanges = "src/proxy/exchanges.ts";

export const liveMutants: Readonly<Record<string, Mutant>> = {
  "one-look": {
    meaning: "what was permitted is not looked at again before the first byte",
    changes: [
      {
        file: "chaos/sim/exchanges.ts",
        take: "    if (!exchange.mayCarry()) {",
        put: '    if (exchange.cutReason === "lifetime") {',
      },
    ],
    within: 40,
  },
  "bytes-without-a-look": {
    meaning: "a stream goes on though the lease is over",
    changes: [
      {
        file: exchanges,
        take: 'if (freshness.overdueMs(now, wall) > this.#graceMs) return this.#refuse("stale");',
        put: "void freshness;",
      },
    ],
    within: 10,
  },
  "cut-not-awaited": {
    meaning: "a change counts as enforced while what it denies is still being cut",
    changes: [
      {
        file: exchanges,
        take: "if (this.#cutting.first === undefined) settled(null);",
        put: "if (this.#cuts >= 0) settled(null);",
      },
    ],
    within: 10,
  },
};
