/**
 * Compile cache: shares compiled criteria, rules and policies between the routes of one configuration.
 *
 * - Ten thousand routes with a hundred distinct policies cost as much memory as a hundred routes.
 * - It exists only while a configuration is compiled.
 * - A criterion with a problem is not shared, because a problem names a location in one file.
 */
import type { CompiledCriterion, PolicyTest } from "./criteria/criterion-parts.ts";
import type { Criterion, ReportPolicyProblem } from "./ppl-parser.ts";

/** Longer lists are rarely equal, and their keys would cost more than sharing saves. */
const partsMax = 256;

export class CompileCache {
  readonly #criteria = new Map<string, CompiledCriterion>();
  readonly #values = new Map<string, unknown>();
  readonly #ids = new Map<PolicyTest, number>();

  criterion(
    criterion: Criterion,
    report: ReportPolicyProblem,
    compile: (report: ReportPolicyProblem) => CompiledCriterion | undefined,
  ): CompiledCriterion | undefined {
    const key = cacheKeyOf(criterion);
    const known = key === undefined ? undefined : this.#criteria.get(key);
    if (known !== undefined) return known;
    let complaints = 0;
    const made = compile((...words) => {
      complaints += 1;
      report(...words);
    });
    if (key !== undefined && made !== undefined && complaints === 0) this.#criteria.set(key, made);
    return made;
  }

  /** Returns the value for these tests in this order, or creates it. Each kind has its own values. */
  getOrCreate<Made>(kind: string, tests: readonly PolicyTest[], make: () => Made): Made {
    if (tests.length > partsMax) return make();
    const key = `${kind}:${tests.map((test) => this.#idOf(test)).join()}`;
    const known = this.#values.get(key) as Made | undefined; // each kind makes one type
    if (known !== undefined) return known;
    const made = make();
    this.#values.set(key, made);
    return made;
  }

  #idOf(test: PolicyTest): number {
    const known = this.#ids.get(test) ?? this.#ids.size;
    this.#ids.set(test, known);
    return known;
  }
}

/** Undefined: its data cannot be written as JSON. */
function cacheKeyOf({ name, subPath, data }: Criterion): string | undefined {
  try {
    return JSON.stringify([name, subPath, data], (_key, value: unknown) => {
      if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError("no text");
      if (value === undefined) throw new TypeError("no text");
      return value;
    });
  } catch {
    return undefined;
  }
}
