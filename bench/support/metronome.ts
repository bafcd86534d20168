/** Metronome: a thread that wakes its parent at a fixed pace, finer than the millisecond of an event loop's timers. */
import { parentPort, workerData } from "node:worker_threads";

/**
 * `state[0]` is 1 from a tick until the parent has handled it, so that ticks never queue. `state[1]` is only waited on.
 */
export type MetronomeSetup = Readonly<{ state: Int32Array<SharedArrayBuffer>; everyMs: number }>;

const { state, everyMs } = workerData as MetronomeSetup;
for (let next = performance.now() + everyMs; ; next += everyMs) {
  Atomics.wait(state, 1, 0, Math.max(0, next - performance.now()));
  if (Atomics.compareExchange(state, 0, 0, 1) === 0) parentPort?.postMessage(null);
}
