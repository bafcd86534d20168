/** Summary: the combined result of many seeds, and its one-line form. Pure. */
import { type Coverage, formatCoverage } from "./coverage.ts";
import { observations, TotalObservations } from "./monitors/index.ts";
import type { SeedReport } from "./seed-report.ts";
import { Reached, type Situation, situations } from "./sometimes.ts";

export class Summary {
  readonly reached = new Reached();
  readonly observations = new TotalObservations();
  readonly failed: SeedReport[] = [];
  /** Null until the coverage worker has reported. */
  coverage: Coverage | null = null;
  seeds = 0;
  simulatedMs = 0;
  faults = 0;
  commands = 0;
  requests = 0;
  rightful = 0;
  permitted = 0;
  violations = 0;
  /** Per broken invariant: the first seed that broke it, and the number of such seeds. */
  readonly broken = new Map<string, { first: number; seeds: number }>();
  /** Seeds whose second run differed from the first. */
  readonly different: number[] = [];

  add(report: SeedReport): void {
    this.seeds += 1;
    this.simulatedMs += report.simulatedMs;
    this.faults += report.faults;
    this.commands += report.commands;
    this.requests += report.requests;
    this.rightful += report.rightful;
    this.permitted += report.permitted;
    this.reached.add(report.situations);
    this.observations.add(report.observations);
    if (report.counts.length > 0) this.failed.push(report);
    for (const [invariant, count] of report.counts) {
      this.violations += count;
      const known = this.broken.get(invariant);
      if (known === undefined) this.broken.set(invariant, { first: report.seed, seeds: 1 });
      else {
        known.seeds += 1;
        known.first = Math.min(known.first, report.seed);
      }
    }
  }

  get isGood(): boolean {
    return this.failed.length === 0 && this.different.length === 0 && this.#isSignificant;
  }

  /** True if the run covered enough for the absence of violations to be significant. */
  get #isSignificant(): boolean {
    return this.missing().length === 0 && this.observations.missing().length === 0;
  }

  missing(): readonly Situation[] {
    return this.reached.missing();
  }

  /** The last line of the report. */
  line(seconds: number): string {
    const hours = this.simulatedMs / 3_600_000;
    const share = this.rightful === 0 ? "no" : `${((this.permitted * 100) / this.rightful).toFixed(1)} % of`;
    return [
      `simulate: ${this.seeds} seeds`,
      `${hours.toFixed(1)} simulated hours at ${(hours / Math.max(seconds, 0.001)).toFixed(3)} h/s`,
      `${this.faults} faults`,
      `${this.commands} commands`,
      `${this.requests} requests (${share} rightful ones permitted in quiet times)`,
      `${this.violations} violations${this.failed.length > 0 ? ` in ${this.failed.length} seeds` : ""}`,
      ...(this.missing().length > 0 ? [`${this.missing().length} situations never reached`] : []),
      ...(this.observations.missing().length > 0
        ? [`${this.observations.missing().length} things that monitors saw too little of`]
        : []),
      ...(this.different.length > 0 ? [`${this.different.length} seeds that did not repeat`] : []),
      ...(this.coverage === null ? [] : [`ran ${formatCoverage(this.coverage)}`]),
    ].join(", ");
  }

  /** The lines before the last one. */
  details(): readonly string[] {
    const lines = [...this.broken].map(
      ([invariant, { first, seeds }]) => `  invariant ${invariant}: broken in ${seeds} seeds, first in seed ${first}`,
    );
    for (const situation of this.missing()) lines.push(`  never reached: ${situation} (${situations[situation].what})`);
    for (const observation of this.observations.missing()) {
      const count = this.observations.counts.get(observation) ?? 0;
      lines.push(
        `  seen too little: ${observations[observation].what} (${count}, of invariant ${observations[observation].of}: ${observation})`,
      );
    }
    for (const seed of this.different) lines.push(`  seed ${seed} did not run twice alike`);
    return lines;
  }
}
