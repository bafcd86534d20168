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
