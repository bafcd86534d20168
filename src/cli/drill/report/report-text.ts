/** Words and figures of the report page. Pure. */
import type { Quantity, RunFault, RunRecord, Verdict } from "../run-record.ts";

/** A longer text is cut, so that no record makes the page too large. */
const textCharsMax = 400;

export function shortText(text: string, charsMax = textCharsMax): string {
  return text.length <= charsMax ? text : `${text.slice(0, charsMax - 1)}…`;
}

/** `840 ms`, `3.2 s`, `2 min 5 s`, `1 h 2 min`. */
export function formatMs(ms: number): string {
  if (ms < 10 && ms > 0) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 99_950) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 === 0 ? `${minutes} min` : `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A time of the run: `12.4 s`, `3:05 min`. */
export function formatAt(ms: number): string {
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.floor(ms / 1_000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} min`;
}

export function formatCount(value: number): string {
  return Number.isInteger(value) ? value.toLocaleString("en-GB") : value.toFixed(value < 10 ? 1 : 0);
}

/** `unknown` for null. */
export function formatQuantity(quantity: Quantity | null): string {
  if (quantity === null) return "–";
  const { value, unit } = quantity;
  if (unit === "ms") return formatMs(value);
  return unit === "" ? formatCount(value) : `${formatCount(value)} ${shortText(unit, 40)}`;
}

export function formatShare(part: number, whole: number): string {
  if (whole === 0) return "–";
  const percent = (100 * part) / whole;
  if (part > 0 && percent < 0.01) return "< 0.01 %";
  return `${percent.toFixed(percent > 0 && percent < 1 ? 2 : 1)} %`;
}

export function faultName({ name, target }: RunFault): string {
  return shortText(target === "" ? name : `${name} ${target}`, 120);
}

/** The first line of the page: what the verdicts say together. */
export function formatOutcome(verdicts: RunRecord["verdicts"]): Readonly<{ tone: Tone; text: string }> {
  const count = (result: Verdict["result"]): number => verdicts.filter((each) => each.result === result).length;
  const [broken, open, held] = [count("broken"), count("not-measured"), count("held")];
  const promises = (n: number): string => `${n} ${n === 1 ? "promise" : "promises"}`;
  const rest = open === 0 ? "" : `; ${promises(open)} could not be measured`;
  if (broken > 0)
    return {
      tone: "bad",
      text: `${promises(broken)} of ${verdicts.length} ${broken === 1 ? "was" : "were"} broken${rest}`,
    };
  if (held === 0) return { tone: "warn", text: "No promise could be measured" };
  return open === 0
    ? { tone: "good", text: held === 1 ? "The promise held" : `All ${promises(held)} held` }
    : { tone: "warn", text: `${promises(held)} held${rest}` };
}

export type Tone = "good" | "warn" | "bad" | "info" | "off";

export const verdictWords: Readonly<Record<Verdict["result"], Readonly<{ tone: Tone; word: string }>>> = {
  held: { tone: "good", word: "Held" },
  broken: { tone: "bad", word: "Broken" },
  "not-measured": { tone: "off", word: "Not measured" },
};
