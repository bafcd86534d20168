/**
 * Shared: what the routes of one generation have in common. A criterion, a rule or a whole policy that is written alike on many routes is
 * compiled once, so that ten thousand routes with a hundred policies cost what a hundred do: in memory, and in what a decision has to fetch of it.
 *
 * It goes when the generation is compiled. Only what was compiled without a word of complaint is shared: complaints have places.
 */
import type { CompiledCriterion, Test } from "./criteria/criterion-parts.ts";
import type { Criterion, Report } from "./ppl-parser.ts";

/** Longer lists are seldom alike, and their keys would cost more than they save. */
const partsMax = 256;

export class Shared {
  readonly #criteria = new Map<string, CompiledCriterion>();
  readonly #whole = new Map<string, unknown>();
  readonly #ids = new Map<Test, number>();

  criterion(
    criterion: Criterion,
    report: Report,
    compile: (report: Report) => CompiledCriterion | undefined,
  ): CompiledCriterion | undefined {
    const key = keyOf(criterion);
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

  /** Something made of tests, by its kind and by which tests, in their order. */
  of<Made>(kind: string, tests: readonly Test[], make: () => Made): Made {
    if (tests.length > partsMax) return make();
    const key = `${kind}:${tests.map((test) => this.#idOf(test)).join()}`;
    const known = this.#whole.get(key) as Made | undefined; // each kind makes one type
    if (known !== undefined) return known;
    const made = make();
    this.#whole.set(key, made);
    return made;
  }

  #idOf(test: Test): number {
    const known = this.#ids.get(test) ?? this.#ids.size;
    this.#ids.set(test, known);
    return known;
  }
}

/** Undefined: it holds what has no text. */
function keyOf({ name, subPath, data }: Criterion): string | undefined {
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
