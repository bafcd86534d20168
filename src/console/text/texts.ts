/** Texts: the languages of the pages, and which one a reader gets. Pure. */
import type { ConditionalRequirement, RouteRequirements } from "../../auth/index.ts";
import { en } from "./en.ts";

type Widened<T> = T extends string
  ? string
  : T extends (...values: infer Values) => infer Result
    ? (...values: Values) => Widened<Result>
    : { readonly [Key in keyof T]: Widened<T[Key]> };

/** All words of the pages in one language. A translation is a file with a value of this type. */
export type PageText = Widened<Omit<typeof en, "direction">> & Readonly<{ direction: "ltr" | "rtl" }>;

/** The first is the one for readers of any other language. */
export const texts: readonly [PageText, ...PageText[]] = [en];

const headerCharsMax = 500;

/** @param accepted the reader's `Accept-Language`; empty: unknown */
export function textFor(accepted: string, known = texts): PageText {
  const wanted = accepted
    .slice(0, headerCharsMax)
    .split(",")
    .flatMap((range) => {
      const [tag = "", ...parameters] = range.split(";").map((part) => part.trim().toLowerCase());
      const weight = Number(parameters.find((parameter) => parameter.startsWith("q="))?.slice(2) ?? "1");
      return tag === "" || !(weight > 0) ? [] : [{ tag, weight }];
    })
    .sort((a, b) => b.weight - a.weight);
  for (const { tag } of wanted) {
    const found =
      known.find(({ language }) => language === tag) ?? known.find(({ language }) => language === tag.split("-", 1)[0]);
    if (found !== undefined) return found;
  }
  return known[0];
}

/** A sentence for each reason that has one. Codes of met conditions have none. */
export function describeReasons(reasons: readonly string[], text: PageText = en): readonly string[] {
  const sentences: Readonly<Record<string, string>> = text.reasons;
  return [...new Set(reasons.flatMap((reason) => (Object.hasOwn(sentences, reason) ? (sentences[reason] ?? []) : [])))];
}

/** What a route requires, in the words of the list for programs. */
export function describeRoute(requirements: RouteRequirements): readonly string[] {
  return en.requirements.ofRoute(requirements, (value) => value);
}

/** What a rule requires, in the words of the operator API. */
export function describeRule(requirement: ConditionalRequirement): string {
  return en.requirements.ofRule(requirement, (value) => value);
}
