/**
 * Route meters: the counts of each route, in one typed array per route, and their export in Prometheus' text format.
 * Pure.
 *
 * - Counting is arithmetic on existing numbers: it needs no allocation, map lookup or label.
 * - Labels are the route ids of the configuration, `none`, and words of fixed lists. After `metersMax` ids, further
 *   routes are counted as `other`.
 */
import { type FailureReason, failureReasons } from "../reply/failures.ts";

/** Upper bounds of the buckets in seconds; one more bucket follows the last. */
export const durationBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30] as const;
const buckets = durationBounds.length + 1;
const boundsMs = Float64Array.from(durationBounds, (seconds) => seconds * 1_000);

const statusClasses = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"] as const;

/** Index of each number in a meter's array. */
const at = {
  statuses: 0,
  duration: 6,
  durationSum: 6 + buckets,
  upstream: 7 + buckets,
  upstreamSum: 7 + 2 * buckets,
  inFlight: 8 + 2 * buckets,
  sent: 9 + 2 * buckets,
  received: 10 + 2 * buckets,
  failures: 11 + 2 * buckets,
} as const;
const fields = at.failures + failureReasons.length;
const failureIndex = new Map(failureReasons.map((reason, i) => [reason, at.failures + i]));

export class RouteMeter {
  readonly #numbers = new Float64Array(fields);

  /** A request enters this route. */
  enter(): void {
    (this.#numbers[at.inFlight] as number)++;
  }
  leave(): void {
    (this.#numbers[at.inFlight] as number)--;
  }
  answered(status: number): void {
    const index = status < 100 || status > 599 ? 0 : (status / 100) | 0;
    (this.#numbers[at.statuses + index] as number)++;
  }
  /** Time from the head of the request to the last byte of the response. */
  observeDuration(ms: number): void {
    this.#observe(at.duration, at.durationSum, ms);
  }
  /** Time from the first byte sent upstream to the head of the upstream's response. */
  observeUpstreamDuration(ms: number): void {
    this.#observe(at.upstream, at.upstreamSum, ms);
  }
  addBytes(sent: number, received: number): void {
    (this.#numbers[at.sent] as number) += sent;
    (this.#numbers[at.received] as number) += received;
  }
  failed(reason: FailureReason): void {
    (this.#numbers[failureIndex.get(reason) ?? at.failures] as number)++;
  }

  #observe(from: number, sum: number, ms: number): void {
    let bucket = 0;
    while (bucket < boundsMs.length && ms > (boundsMs[bucket] as number)) bucket++;
    (this.#numbers[from + bucket] as number)++;
    (this.#numbers[sum] as number) += ms;
  }

  /** A copy of the numbers, in the order of `at`. */
  read(): Float64Array {
    return this.#numbers.slice();
  }
}

const metersMax = 20_000;

export class RouteMeters {
  readonly #byRoute = new Map<string, RouteMeter>();
  /** The meter of requests without a route. */
  readonly none = this.of("none");

  of(routeId: string): RouteMeter {
    return this.#byRoute.get(routeId) ?? this.#make(routeId);
  }

  #make(routeId: string): RouteMeter {
    if (this.#byRoute.size >= metersMax && routeId !== "other") return this.of("other");
    const meter = new RouteMeter();
    this.#byRoute.set(routeId, meter);
    return meter;
  }

  /** Prometheus' text format, in pieces, so that the reader can do other work in between. */
  *text(): Generator<string> {
    const read = [...this.#byRoute].map(([route, meter]) => ({ route: escapeLabel(route), numbers: meter.read() }));
    for (const family of families) {
      let piece = `# HELP ${family.name} ${family.help}\n# TYPE ${family.name} ${family.type}\n`;
      for (const [i, { route, numbers }] of read.entries()) {
        piece += family.lines(family.name, route, numbers);
        if (i % routesPerPiece !== routesPerPiece - 1) continue;
        yield piece;
        piece = "";
      }
      yield `${piece}\n`;
    }
  }
}

/** Takes about a millisecond. */
const routesPerPiece = 100;

type Family = Readonly<{
  name: string;
  help: string;
  type: "counter" | "gauge" | "histogram";
  lines: (name: string, route: string, numbers: Float64Array) => string;
}>;

const one =
  (index: number): Family["lines"] =>
  (name, route, numbers) =>
    `${name}{route="${route}"} ${numbers[index]}\n`;

/** One line for each word with a count above 0. */
const byWord =
  (label: string, words: readonly string[], from: number): Family["lines"] =>
  (name, route, numbers) => {
    let lines = "";
    for (const [i, word] of words.entries())
      if (numbers[from + i] !== 0) lines += `${name}{route="${route}",${label}="${word}"} ${numbers[from + i]}\n`;
    return lines;
  };

const histogram =
  (from: number, sum: number): Family["lines"] =>
  (name, route, numbers) => {
    let lines = "";
    let count = 0;
    for (let i = 0; i < buckets; i++) {
      count += numbers[from + i] ?? 0;
      lines += `${name}_bucket{route="${route}",le="${durationBounds[i] ?? "+Inf"}"} ${count}\n`;
    }
    if (count === 0) return "";
    const total = (numbers[sum] ?? 0) / 1_000;
    return `${lines}${name}_sum{route="${route}"} ${total}\n${name}_count{route="${route}"} ${count}\n`;
  };

const families: readonly Family[] = [
  {
    name: "cardea_proxy_requests_total",
    help: "Requests completed, by route and status class; 0xx: no response was sent.",
    type: "counter",
    lines: byWord("status", statusClasses, at.statuses),
  },
  {
    name: "cardea_proxy_request_failures_total",
    help: "Requests that did not get a complete upstream response, by route and reason.",
    type: "counter",
    lines: byWord("reason", failureReasons, at.failures),
  },
  {
    name: "cardea_proxy_request_duration_seconds",
    help: "Time from the request's head to the last byte of the response, without upgraded connections and tunnels.",
    type: "histogram",
    lines: histogram(at.duration, at.durationSum),
  },
  {
    name: "cardea_proxy_upstream_duration_seconds",
    help: "Time from the first byte sent to an upstream to the head of its response.",
    type: "histogram",
    lines: histogram(at.upstream, at.upstreamSum),
  },
  {
    name: "cardea_proxy_requests_in_flight",
    help: "Requests, upgraded connections and tunnels in flight.",
    type: "gauge",
    lines: one(at.inFlight),
  },
  {
    name: "cardea_proxy_sent_bytes_total",
    help: "Bytes of responses and tunnels sent to callers, without heads.",
    type: "counter",
    lines: one(at.sent),
  },
  {
    name: "cardea_proxy_received_bytes_total",
    help: "Bytes of requests and tunnels sent to upstreams, without heads.",
    type: "counter",
    lines: one(at.received),
  },
];

function escapeLabel(text: string): string {
  return text.replace(/[\\"\n]/g, (char) => (char === "\n" ? "\\n" : `\\${char}`));
}
