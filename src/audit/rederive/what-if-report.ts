/**
 * What-if report: the recorded decisions that another configuration would answer otherwise, counted by route and
 * person. Pure, and bounded: what is beyond a bound is counted.
 */
import { createHash } from "node:crypto";
import type { DecisionRecord } from "../../auth/index.ts";
import { canonicalJson } from "../../config/index.ts";
import type { UnixMs, UserId } from "../../events/index.ts";
import { type DecisionEntry, recordIdOf } from "../record-id.ts";
import type { WhatIf } from "./what-if.ts";

/** The first decision of a difference. */
export type WhatIfExample = Readonly<{
  /** `<boot>:<number>`. */
  id: string;
  requestId: string;
  at: UnixMs;
  method: string;
  host: string;
  path: string;
  /** As it was decided. */
  recorded: Readonly<{ status: number; reasons: readonly string[] }>;
  /** As it would be. */
  reasons: readonly string[];
  rule: string | null;
}>;

export type WhatIfDifference = {
  readonly route: string | null;
  /** Null: not signed in. */
  readonly person: UserId | null;
  readonly change: "gains" | "loses";
  count: number;
  /** How many of them the configuration in force would answer so already. */
  already: number;
  readonly example: WhatIfExample;
};

export type WhatIfSummary = Readonly<{
  replayed: number;
  /** By route, change and person. */
  differences: readonly Readonly<WhatIfDifference>[];
  /** Decisions that differ, of routes and people beyond the bound of `differences`. */
  moreDifferences: number;
  notReplayed: readonly Readonly<{ why: string; count: number }>[];
  /** The times of the first and the last decision that was replayed or could not be; null: there was none. */
  firstAt: UnixMs | null;
  lastAt: UnixMs | null;
}>;

const differencesMaxDefault = 2_000;
const whysMax = 100;
const otherReasons = "for other reasons";
const pathCharsMax = 500;
const reasonsMax = 10;

type Answered = Extract<WhatIf, { type: "answered" }>;

export class WhatIfReport {
  readonly #differencesMax: number;
  readonly #differences = new Map<string, WhatIfDifference>();
  readonly #notReplayed = new Map<string, number>();
  #replayed = 0;
  #moreDifferences = 0;
  #firstAt: UnixMs | null = null;
  #lastAt: UnixMs | null = null;

  constructor({ differencesMax = differencesMaxDefault }: Readonly<{ differencesMax?: number }> = {}) {
    this.#differencesMax = differencesMax;
  }

  get replayed(): number {
    return this.#replayed;
  }

  /** @param count decisions; 0 where their number is not known */
  addNotReplayed(why: string, { count = 1, at }: Readonly<{ count?: number; at?: UnixMs }> = {}): void {
    if (at !== undefined) this.#span(at);
    const known = this.#notReplayed.has(why) || this.#notReplayed.size < whysMax ? why : otherReasons;
    this.#notReplayed.set(known, (this.#notReplayed.get(known) ?? 0) + count);
  }

  /** @param isAlready whether the configuration in force answers so too; called only for a difference */
  add(record: DecisionEntry, answer: WhatIf, isAlready: () => boolean): void {
    if (answer.type === "not") {
      this.addNotReplayed(answer.why, { at: record.at });
      return;
    }
    this.#span(record.at);
    this.#replayed += 1;
    if ((record.result === "permit") !== answer.permitted) this.#addDifference(record, answer, isAlready);
  }

  #addDifference(record: DecisionEntry, answer: Answered, isAlready: () => boolean): void {
    const change = answer.permitted ? "gains" : "loses";
    const route = answer.routeId ?? record.routeId;
    const key = JSON.stringify([route, change, record.userId]);
    const known = this.#differences.get(key);
    if (known === undefined && this.#differences.size >= this.#differencesMax) {
      this.#moreDifferences += 1;
      return;
    }
    const already = isAlready() ? 1 : 0;
    if (known !== undefined) {
      known.count += 1;
      known.already += already;
      return;
    }
    const example = exampleOf(record, answer);
    this.#differences.set(key, { route, person: record.userId, change, count: 1, already, example });
  }

  #span(at: UnixMs): void {
    if (this.#firstAt === null || at < this.#firstAt) this.#firstAt = at;
    if (this.#lastAt === null || at > this.#lastAt) this.#lastAt = at;
  }

  summary(): WhatIfSummary {
    const keyed = [...this.#differences].sort(([a], [b]) => (a < b ? -1 : 1));
    const notReplayed = [...this.#notReplayed].map(([why, count]) => ({ why, count }));
    return {
      replayed: this.#replayed,
      differences: keyed.map(([, difference]) => ({ ...difference })),
      moreDifferences: this.#moreDifferences,
      notReplayed: notReplayed.sort((a, b) => b.count - a.count || (a.why < b.why ? -1 : 1)),
      firstAt: this.#firstAt,
      lastAt: this.#lastAt,
    };
  }
}

/**
 * SHA-256 of what was asked and of the answer. Equal digests: the same question about the same decisions got the same
 * answer.
 */
export function digestOf(question: unknown, summary: WhatIfSummary): string {
  return createHash("sha256")
    .update(canonicalJson([question, summary]))
    .digest("hex");
}

function exampleOf(record: DecisionEntry, { reasons, rule }: Answered): WhatIfExample {
  const { requestId, at, method, host, path, status } = record as DecisionRecord;
  return {
    id: recordIdOf(record),
    requestId,
    at,
    method,
    host,
    path: path.length <= pathCharsMax ? path : `${path.slice(0, pathCharsMax)}…`,
    recorded: { status, reasons: record.reasons.slice(0, reasonsMax) },
    reasons: reasons.slice(0, reasonsMax),
    rule: rule(),
  };
}
