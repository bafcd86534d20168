/**
 * Rounds: many single calls timed for percentiles, then a plain loop for the rate by processor time; the median of
 * several rounds.
 */

/** Nanoseconds, and calls per second of this thread's processor time. */
export type Round = Readonly<{ p50: number; p99: number; perSecond: number }>;

/** A slow call is sampled for this long at most. */
const sampleMsMax = 300;
/** The scheduler counts a thread's time in steps of up to 10 ms. */
const rateMsMin = 100;

export function measure(run: (n: number) => string, { from, calls }: Readonly<{ from: number; calls: number }>): Round {
  const took = new Float64Array(calls);
  const stopAt = performance.now() + sampleMsMax;
  let count = 0;
  while (count < calls && performance.now() < stopAt) {
    const before = process.hrtime.bigint();
    run(from + count);
    took[count++] = Number(process.hrtime.bigint() - before);
  }
  const sorted = took.subarray(0, count).sort();
  return {
    p50: sorted[count >> 1] ?? 0,
    p99: sorted[Math.floor(count * 0.99)] ?? 0,
    perSecond: rate(run, from, count),
  };
}

function rate(run: (n: number) => string, from: number, batch: number): number {
  let length = 0;
  let done = 0;
  let spent = 0;
  const before = process.threadCpuUsage();
  while (spent < rateMsMin) {
    for (let i = 0; i < batch; i++) length += run(from + done++).length;
    const { user, system } = process.threadCpuUsage(before);
    spent = (user + system) / 1_000;
  }
  if (length === 0) throw new Error("nothing was decided");
  return done / (spent / 1_000);
}

/**
 * Calls each in turn, repeatedly, so that other load disturbs all of them alike. The first round is a warm-up and does
 * not count.
 */
export function inTurns<Name extends string>(
  runs: Readonly<Record<Name, (n: number) => string>>,
  { rounds, calls }: Readonly<{ rounds: number; calls: number }>,
): Readonly<Record<Name, Round>> {
  const names = Object.keys(runs) as Name[];
  const results = new Map<Name, Round[]>(names.map((name) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const name of names) {
      const measured = measure(runs[name], { from: round * calls, calls });
      if (round > 0) results.get(name)?.push(measured);
    }
  }
  return Object.fromEntries(names.map((name) => [name, middle(results.get(name) ?? [])])) as Record<Name, Round>;
}

export function middle(rounds: readonly Round[]): Round {
  const median = (what: keyof Round): number =>
    rounds.map((round) => round[what]).sort((a, b) => a - b)[rounds.length >> 1] ?? 0;
  return { p50: median("p50"), p99: median("p99"), perSecond: median("perSecond") };
}

export function roundText(name: string, { p50, p99, perSecond }: Round): string {
  const nanoseconds = (figure: number): string => `${figure.toFixed(0).padStart(7)} ns`;
  const rate = Math.round(perSecond).toLocaleString("en").padStart(11);
  return `${name.padEnd(26)} p50 ${nanoseconds(p50)}   p99 ${nanoseconds(p99)}   ${rate} /s of a core`;
}
