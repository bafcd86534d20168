/**
 * Mutants of the live cut: what is registered, what a change or a configuration re-decides, what is cut and waited for.
 * Pure data.
 */
import type { Mutant } from "./mutant.ts";

const exchanges = "src/proxy/enforce/exchanges.ts";
const authorize = "src/proxy/request/authorize.ts";
const decide = "src/auth/authorize/decide.ts";
const projection = "src/events/projection/projection.ts";

export const liveMutants: Readonly<Record<string, Mutant>> = {
  "no-second-check": {
    meaning: "a permitted request is not checked again before the first byte",
    changes: [
      {
        file: "chaos/sim/exchanges.ts",
        take: "    if (!exchange.mayCarry()) {",
        put: '    if (exchange.cutReason === "lifetime") {',
      },
    ],
    within: 40,
  },
  "bytes-unchecked": {
    meaning: "a stream continues though the lease has expired",
    changes: [
      {
        file: exchanges,
        take: 'if (freshness.overdueMs(now, wall) > this.#graceMs) return this.#refuse("stale");',
        put: "void freshness;",
      },
    ],
    within: 10,
  },
  "stale-admitted": {
    meaning: "a new request is admitted though the lease has expired",
    changes: [
      {
        file: authorize,
        take: "return freshness.overdueMs(monotonic, wall) > staleGraceMs;",
        put: "return freshness.overdueMs(monotonic, wall) === Number.NaN && staleGraceMs < 0;",
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
  "any-cut-settles": {
    meaning: "the first finished cut completes every waiting change, whichever cuts those wait for",
    changes: [
      {
        file: exchanges,
        take: "while (this.#waiters[0] !== undefined && this.#waiters[0].upTo < oldest) {",
        put: "while (this.#waiters[0] !== undefined && oldest > 0) {",
      },
    ],
    within: 20,
  },
  "change-not-redecided": {
    meaning: "a change is enforced without a new decision about the exchanges that read what it touched",
    changes: [
      {
        file: exchanges,
        take: "else this.#redecide(this.#byFact.readersOf(change.touched), settled);",
        put: "else settled(null);",
      },
    ],
    within: 10,
  },
  "refusal-ignored": {
    meaning: "an exchange continues though its new decision denies it",
    changes: [
      {
        file: exchanges,
        take: 'case "refused":\n        return this.#refuse(verdict.reason);',
        put: 'case "refused":\n        return true;',
      },
    ],
    within: 10,
  },
  "session-not-registered": {
    meaning: "an exchange is not registered under its session",
    changes: [
      {
        file: decide,
        take: "streamsOf(caller.principal) : noFactKeys;",
        put: "streamsOf(caller.principal).slice(1) : noFactKeys;",
      },
    ],
    within: 10,
  },
  "person-not-registered": {
    meaning: "an exchange is not registered under its person, on whose suspension and groups it depends",
    changes: [
      {
        file: decide,
        take: "streamsOf(caller.principal) : noFactKeys;",
        put: "streamsOf(caller.principal).slice(0, 1) : noFactKeys;",
      },
    ],
    within: 10,
  },
  "members-untouched": {
    meaning: "a change of a group's members touches the group, and not the people it adds or removes",
    changes: [
      {
        file: projection,
        take: "return [groupStream(groupId), ...[...added, ...removed].map(userStream)];",
        put: "return [groupStream(groupId)];",
      },
    ],
    within: 30,
  },
  "deny-ignored": {
    meaning: "a deny rule excludes no caller that another rule admits",
    changes: [{ file: decide, take: "if (deny.met) return denyResult(deny.reasons.words, outcomes);", put: "" }],
    within: 10,
  },
};
