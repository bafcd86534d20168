/** Sampled decisions: how long a permitted request takes while a process does other work. */
import { setTimeout as delay } from "node:timers/promises";
import { Visitor } from "../../test/support/visitor.ts";
import type { Cardea } from "./cardea.ts";
import { percentile } from "./histogram.ts";

const sampleEveryMs = 10;

/** `times`: milliseconds of each request. */
export type Sampled = Readonly<{ ms: number; cpuMs: number; times: readonly number[] }>;

/** Runs a job while a signed-in person requests a route at a steady pace. */
export async function sampled({ port, headers, pinned }: Cardea, job: () => Promise<void>): Promise<Sampled> {
  const person = new Visitor();
  const cookie = headers.find((line) => line.startsWith("Cookie: "))?.slice("Cookie: ".length) ?? "";
  const times: number[] = [];
  let isOver = false;
  async function sample(): Promise<void> {
    while (!isOver) {
      const at = performance.now();
      const { status } = await person.request(`http://app.localhost:${port}/`, { headers: { cookie } });
      if (status !== 200) throw new Error(`a permitted request got ${status}`);
      times.push(performance.now() - at);
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
  return { ms, cpuMs, times };
}

export function printTimes(what: string, times: readonly number[]): void {
  const [p50, p99, most] = [50, 99, 100].map((p) => percentile(times, p).toFixed(1));
  console.log(`${what}: p50 ${p50} ms, p99 ${p99} ms, max ${most} ms (${times.length})`);
}
