/** Sampled decisions: how long a permitted request takes while a process does other work. */
import { setTimeout as delay } from "node:timers/promises";
import { Visitor } from "../../test/support/visitor.ts";
import type { Cardea } from "./cardea.ts";
import { percentile } from "./histogram.ts";

const sampleEveryMs = 10;

/**
 * `times`: milliseconds of each permitted request. `others`: how many got another status, 503 where a busy machine had
 * kept the process from renewing its lease, and 0 where there was no answer.
 */
export type Sampled = Readonly<{
  ms: number;
  cpuMs: number;
  times: readonly number[];
  others: ReadonlyMap<number, number>;
}>;

/** Runs a job while a signed-in person requests a route at a steady pace. */
export async function sampled({ port, headers, pinned }: Cardea, job: () => Promise<void>): Promise<Sampled> {
  const person = new Visitor();
  const cookie = headers.find((line) => line.startsWith("Cookie: "))?.slice("Cookie: ".length) ?? "";
  const times: number[] = [];
  let isOver = false;
  const others = new Map<number, number>();
  const request = async (): Promise<number> => {
    try {
      return (await person.request(`http://app.localhost:${port}/`, { headers: { cookie } })).status;
    } catch (error) {
      throwIfEnded(pinned, error);
      return 0;
    }
  };
  async function sample(): Promise<void> {
    while (!isOver) {
      const at = performance.now();
      const status = await request();
      if (status === 200) times.push(performance.now() - at);
      else others.set(status, (others.get(status) ?? 0) + 1);
      await delay(sampleEveryMs);
    }
  }
  const [from, cpuFrom] = [performance.now(), pinned.cpuMs()];
  const run = async (): Promise<void> => {
    await job().finally(() => {
      isOver = true;
    });
  };
  await Promise.all([sample(), run()]);
  const [ms, cpuMs] = [performance.now() - from, pinned.cpuMs() - cpuFrom];
  await person.close();
  return { ms, cpuMs, times, others };
}

/** A connection that breaks says that the process has ended, or that it closed an idle one just then. */
export function throwIfEnded({ ended }: Cardea["pinned"], cause: unknown): void {
  const problem = ended();
  if (problem !== null) throw new Error(problem, { cause });
}

/** @param sampled where the times are from; absent: every request was permitted */
export function printTimes(
  what: string,
  times: readonly number[],
  { others }: Pick<Sampled, "others"> = { others: new Map() },
): void {
  const [p50, p99, most] = [50, 99, 100].map((p) => percentile(times, p).toFixed(1));
  console.log(`${what}: p50 ${p50} ms, p99 ${p99} ms, max ${most} ms (${times.length})`);
  for (const [status, count] of others)
    console.log(`  besides ${count} ${status === 0 ? "without an answer" : `with status ${status}`}`);
}
