/**
 * Budgets: each result of a bench beside its limit. `npm run bench` puts those of all benches into one table.
 */

export type Budget = Readonly<{
  what: string;
  /** As text for a person: `1.63 ×`, `241,000/s`. */
  result: string;
  /** `≥ 0.5 ×` */
  budget: string;
  /** null: nothing is promised; the figure is informative */
  met: boolean | null;
}>;

export function reportBudgets(budgets: readonly Budget[]): void {
  console.log(budgetTable(budgets));
  process.send?.(budgets);
}

export function budgetTable(budgets: readonly Budget[]): string {
  const rows = budgets.map(({ what, result, budget, met }) => [
    what,
    result,
    budget,
    met === null ? "" : met ? "met" : "NOT MET",
  ]);
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("   ")
        .trimEnd(),
    )
    .join("\n");
}

/** @returns the budgets in a bench's message; none for another message */
export function budgetsIn(message: unknown): readonly Budget[] {
  return Array.isArray(message) && message.every((each) => typeof each === "object" && "budget" in each) ? message : [];
}

export function whole(figure: number): string {
  return Math.round(figure).toLocaleString("en");
}
