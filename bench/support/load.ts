/**
 * Load: as many requests as one subject can answer, from wrk on the core of the load. Rounds alternate, so that a
 * machine that grows busy slows all subjects.
 */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { peopleCount } from "./browsers.ts";
import type { Budget } from "./budget.ts";
import type { Pinned } from "./pinned.ts";
import { coreOfLoad } from "./stand.ts";

const run = promisify(execFile);

export type Subject = Readonly<{
  name: string;
  url: string;
  headers: readonly string[];
  pinned: Pinned;
  /** What wrk sends, one thread for each person (`writeBrowserScript`); absent: one request, repeated. */
  script?: string;
}>;
/** Milliseconds; `cpuUs`: microseconds of a core per request, of all processes of the subject. */
export type Figure = Readonly<{ perSecond: number; p50: number; p99: number; errors: number; cpuUs: number }>;
export type How = Readonly<{ connections: number; seconds: number; rounds: number }>;

/** Loads one subject once. */
export type Loader<S> = (subject: S, seconds: number) => Promise<Figure>;

/**
 * The best round of each subject, with the errors of all rounds. Warms up first.
 * @throws when a subject answered with errors, since its figures are invalid
 */
export async function inRounds<S extends Readonly<{ name: string }>>(
  subjects: readonly S[],
  { seconds, rounds }: Pick<How, "seconds" | "rounds">,
  loadOnce: Loader<S>,
): Promise<readonly (Figure & Readonly<{ name: string }>)[]> {
  for (const subject of subjects) await loadOnce(subject, 2);
  const figures = new Map<string, Figure[]>(subjects.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++)
    for (const subject of subjects) figures.get(subject.name)?.push(await loadOnce(subject, seconds));
  const best = subjects.map(({ name }) => ({ name, ...bestOf(figures.get(name) ?? []) }));
  for (const figure of best) console.log(figureText(figure));
  const wrong = best.filter(({ errors }) => errors > 0).map(({ name, errors }) => `${name}: ${errors}`);
  if (wrong.length > 0) throw new Error(`answered with errors, so the figures are invalid: ${wrong.join("; ")}`);
  return best;
}

/** With wrk, HTTP/1.1, plain or over TLS. */
export function byWrk(connections: number): Loader<Subject> {
  return async ({ url, headers, pinned, script }, seconds) => {
    const args = [
      `-t${script === undefined ? 1 : peopleCount}`,
      `-c${connections}`,
      `-d${seconds}s`,
      "--latency",
      "--timeout",
      "20s",
      ...headers.flatMap((h) => ["-H", h]),
    ];
    const more = script === undefined ? [] : ["-s", script];
    const before = pinned.cpuMs();
    const { stdout } = await run("taskset", ["-c", coreOfLoad, "wrk", ...args, ...more, url], {
      timeout: (seconds + 30) * 1_000,
    });
    const requests = Number(/(\d+) requests in/.exec(stdout)?.[1] ?? Number.NaN);
    return {
      cpuUs: ((pinned.cpuMs() - before) * 1_000) / requests,
      perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1] ?? Number.NaN),
      p50: milliseconds(/50%\s+([\d.]+)(us|ms|s)/.exec(stdout)),
      p99: milliseconds(/99%\s+([\d.]+)(us|ms|s)/.exec(stdout)),
      errors: Number(/Non-2xx or 3xx responses: (\d+)/.exec(stdout)?.[1] ?? 0) + socketErrors(stdout),
    };
  };
}

/**
 * The requests per second of one subject beside another, and per second of processor time, which a busy machine does
 * not distort.
 */
export function beside(
  what: string,
  { figure, neighbour, ratioMin }: Readonly<{ figure: Figure; neighbour: Figure; ratioMin: number | null }>,
): Budget {
  const ratio = figure.perSecond / neighbour.perSecond;
  const byCpu = neighbour.cpuUs / figure.cpuUs;
  const budget = ratioMin === null ? "" : `≥ ${ratioMin} ×`;
  return {
    what,
    result: `${ratio.toFixed(2)} × (${byCpu.toFixed(2)} by processor time)`,
    budget,
    met: ratioMin === null ? null : ratio >= ratioMin,
  };
}

function figureText({ name, perSecond, p50, p99, cpuUs, errors }: Figure & Readonly<{ name: string }>): string {
  const rate = Math.round(perSecond).toLocaleString("en").padStart(8);
  const times = Number.isNaN(p50) ? "" : `   p50 ${p50.toFixed(2)} ms   p99 ${p99.toFixed(2)} ms`;
  return `${name.padEnd(34)} ${rate} requests/s${times}   CPU ${cpuUs.toFixed(0)} µs/request   errors ${errors}`;
}

function bestOf(figures: readonly Figure[]): Figure {
  const nothing = { perSecond: Number.NaN, p50: Number.NaN, p99: Number.NaN };
  return {
    ...(figures.toSorted((a, b) => b.perSecond - a.perSecond)[0] ?? nothing),
    errors: figures.reduce((sum, figure) => sum + figure.errors, 0),
    cpuUs: Math.min(...figures.map((figure) => figure.cpuUs)),
  };
}

function socketErrors(text: string): number {
  const match = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text);
  return match === null ? 0 : match.slice(1).reduce((sum, n) => sum + Number(n), 0);
}

function milliseconds(match: RegExpExecArray | null): number {
  const unit = { us: 0.001, ms: 1, s: 1_000 }[match?.[2] ?? "ms"] ?? 1;
  return Number(match?.[1] ?? Number.NaN) * unit;
}
