/**
 * Heap tuning: frees the memory that starting needed, once, and then bounds how far the heap grows between collections.
 *
 * Loading 1,000 files grows V8's young generation to its maximum, and an idle process would keep 35 MB of it. A
 * last-resort collection takes a tenth of a second, so it runs before the process is ready. Afterwards V8 allows some 5
 * MB, which are promoted within two seconds of full load.
 *
 * @see Node's manual, `--expose-gc`: a context created while the flag is set has `gc`; without it nothing happens
 */
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/**
 * The heap may grow by this, or by a quarter of its size if that is more: a share alone is too little for a small heap.
 */
const growthBytes = 24 * 1024 * 1024;
const growthPercentMin = 25;
const adjustEveryMs = 1_000;

export function tuneHeap(): void {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("globalThis.gc");
  setFlagsFromString("--no-expose-gc");
  let percent = 0;
  const setGrowth = (): void => {
    const wanted = growthPercentOf(oldGenerationBytes());
    if (wanted === percent) return;
    percent = wanted;
    setFlagsFromString(`--heap-growing-percent=${percent}`);
  };
  setGrowth();
  setInterval(setGrowth, adjustEveryMs).unref();
  if (typeof collect === "function") collect({ type: "major", execution: "sync", flavor: "last-resort" });
}

/** Bytes used in the old generation, garbage included. */
function oldGenerationBytes(): number {
  return getHeapSpaceStatistics()
    .filter(({ space_name: name }) => !name.startsWith("new_"))
    .reduce((sum, { space_used_size: bytes }) => sum + bytes, 0);
}

/** In steps of 10, so that the flag is seldom set. @param usedBytes used in the old generation */
export function growthPercentOf(usedBytes: number): number {
  const steps = Math.floor((10 * growthBytes) / Math.max(usedBytes, 1));
  return Math.min(100, Math.max(growthPercentMin, 10 * steps));
}
