/** Alert rules: the files of deploy/prometheus, their alerts, and the metrics that these read. */
import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { parse } from "yaml";

const folder = join(import.meta.dirname, "../../deploy/prometheus");

/** Of the Prometheus that scrapes the home brokers, of one that scrapes regional brokers, and of one for all others. */
export const alertFiles = { home: "home.rules.yaml", region: "region.rules.yaml", audit: "audit.rules.yaml" } as const;

type Rule = Readonly<{ alert: string; expr: string }>;

export function alertRulesText(file: keyof typeof alertFiles): string {
  return readFileSync(join(folder, alertFiles[file]), "utf8");
}

export function alertRules(file: keyof typeof alertFiles): readonly Rule[] {
  const { groups }: { groups: readonly Readonly<{ rules: readonly Rule[] }>[] } = parse(alertRulesText(file));
  return groups.flatMap(({ rules }) => rules);
}

export function alertMetrics(file: keyof typeof alertFiles): readonly string[] {
  return [...new Set(alertRules(file).flatMap(({ expr }) => expr.match(/cardea_\w+/g) ?? []))].sort();
}

/** The program of Prometheus that tests rules; undefined: it is not installed. */
export function findPromtool(): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/bin", "/usr/local/bin"];
  return folders.map((path) => join(path, "promtool")).find((path) => existsSync(path));
}
