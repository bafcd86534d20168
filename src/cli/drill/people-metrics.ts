/** People's requests: read from the counters of each proxy, without those of the canary's route. Pure. */
export type RequestCounts = Readonly<{
  permitted: number;
  refused: number;
  /** Answered with 5xx. */
  unavailable: number;
  /** No response was sent. Often the caller left, so it is no error of the guard. */
  unanswered: number;
}>;

export const noRequests: RequestCounts = { permitted: 0, refused: 0, unavailable: 0, unanswered: 0 };

/** @param text a page of Prometheus metrics */
export function peopleCounts(text: string, canaryRoute: string): RequestCounts {
  const counts = { permitted: 0, refused: 0, unavailable: 0, unanswered: 0 };
  for (const line of text.split("\n")) {
    const [, labels = "", value = ""] =
      /^cardea_proxy_requests_total\{(.*)\} (\d+(?:\.\d+)?(?:e\+?\d+)?)$/.exec(line) ?? [];
    if (value === "" || labelIn(labels, "route") === escapeLabel(canaryRoute)) continue;
    const number = Number(value);
    switch (labelIn(labels, "status")[0]) {
      case "2":
      case "3":
        counts.permitted += number;
        break;
      case "4":
        counts.refused += number;
        break;
      case "5":
        counts.unavailable += number;
        break;
      case "0":
        counts.unanswered += number;
        break;
    }
  }
  return counts;
}

function labelIn(labels: string, name: string): string {
  return new RegExp(`(?:^|,)${name}="((?:[^"\\\\]|\\\\.)*)"`).exec(labels)?.[1] ?? "";
}

function escapeLabel(text: string): string {
  return text.replace(/[\\"\n]/g, (char) => (char === "\n" ? "\\n" : `\\${char}`));
}

/** What was counted between two readings. A counter that went back began again, because its process restarted. */
export function countsBetween(before: RequestCounts, after: RequestCounts): RequestCounts {
  const restarted = (Object.keys(after) as (keyof RequestCounts)[]).some((key) => after[key] < before[key]);
  if (restarted) return after;
  return {
    permitted: after.permitted - before.permitted,
    refused: after.refused - before.refused,
    unavailable: after.unavailable - before.unavailable,
    unanswered: after.unanswered - before.unanswered,
  };
}
