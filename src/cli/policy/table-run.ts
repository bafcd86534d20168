/** Table run: evaluates the cases of tables, and counts the rules that they meet. Pure. */
import { evaluatePolicy, type PolicyAnswer } from "./evaluate-policy.ts";
import { formatLocation } from "./findings.ts";
import { CaseError, readCase } from "./policy-case.ts";
import { type PolicyTarget, routeLabel } from "./policy-document.ts";
import type { Difference, TableCase } from "./policy-table.ts";

export type TableResult = Readonly<{ one: TableCase; answer: PolicyAnswer; found: readonly Difference[] }>;
type Rule = {
  readonly route: string | null;
  readonly called: string | null;
  readonly rule: string;
  readonly at: string;
  met: boolean;
};

/** The results of all tables so far. */
export class TestRun {
  readonly results: TableResult[] = [];
  readonly #rules = new Map<string, Rule>();

  /** Registers every rule, so that rules without a case are reported. */
  begin({ policies, config }: PolicyTarget): void {
    for (const { routeId, conditionals } of policies.values()) {
      for (const { rule, place } of conditionals) {
        const at = formatLocation(place);
        const key = JSON.stringify([routeId, rule, at]);
        const route = config === null ? null : routeId;
        const called = config === null ? null : routeLabel(config, routeId);
        if (!this.#rules.has(key)) this.#rules.set(key, { route, called, rule, at, met: false });
      }
    }
  }

  add(result: TableResult, routeId: string | null): void {
    this.results.push(result);
    for (const { rule, at, met } of result.answer.trace) {
      const known = this.#rules.get(JSON.stringify([routeId, rule, at]));
      if (known !== undefined && met) known.met = true;
    }
  }

  unmet(): readonly Rule[] {
    return [...this.#rules.values()].filter(({ met }) => !met);
  }
  coverage(): Readonly<{ rules: number; met: number; percent: number }> {
    const rules = this.#rules.size;
    const met = rules - this.unmet().length;
    return { rules, met, percent: rules === 0 ? 100 : Math.floor((100 * met) / rules) };
  }
  report(): object {
    const cases = this.results.map(({ one, answer, found }) => ({
      name: one.name,
      at: formatLocation(one.place),
      ok: found.length === 0,
      differences: found,
      answer,
    }));
    const passed = cases.filter(({ ok }) => ok).length;
    const unmet = this.unmet().map(({ route, rule, at }) => ({ route, rule, at }));
    return { passed, failed: cases.length - passed, cases, coverage: { ...this.coverage(), unmet } };
  }
}

/** @throws CaseError */
export function evaluateCase(
  one: TableCase,
  target: PolicyTarget,
  warn: (problem: string) => void,
): ReturnType<typeof evaluatePolicy> {
  const named =
    one.route === null ? null : target.config?.routes.find(({ id, name }) => id === one.route || name === one.route);
  if (one.route !== null && named === undefined)
    throw new CaseError("route", `there is no route ${JSON.stringify(one.route)}`);
  const route = named === undefined || named === null ? target.route : { id: named.id, route: named };
  const defaults = { scheme: "https", authority: named?.from.host ?? "localhost" } as const;
  return evaluatePolicy(
    { ...target, route },
    readCase({ ...one.value, request: { url: "/", ...requestOf(one) } }, defaults, warn),
    Date.now,
  );
}

function requestOf({ value }: TableCase): object {
  const request = value["request"];
  return typeof request === "object" && request !== null ? request : {};
}
