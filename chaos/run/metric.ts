/** Metric: reads one value from a page of Prometheus metrics. Pure. */

/**
 * @param labels those that the line must have
 * @returns undefined when there is no such line
 */
export function metricIn(
  page: string,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  for (const line of page.split("\n")) {
    const [, found, has = "", value = ""] = /^([^\s{]+)(\{[^}]*\})?\s+(\S+)/.exec(line) ?? [];
    if (found !== name || !Object.entries(labels).every(([key, each]) => has.includes(`${key}="${each}"`))) continue;
    return Number(value.replace("Inf", "Infinity"));
  }
  return undefined;
}

/** The sum over all labels; 0 when there is no such line. */
export function sumIn(page: string, name: string): number {
  const lines = page.split("\n").filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}
