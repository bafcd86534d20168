/**
 * Heap tuning: bounds how far the heap grows between collections, and ends the hurry of a start (scripts/program.mjs).
 *
 * The memory that only starting needed, some 35 MB, is V8's to free: up to a minute later, in small steps, when the
 * process is idle. A collection of our own at the end of a start took a fifth of its processor time.
 */
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";

/**
 * The heap may grow by this, or by a quarter of its size if that is more: a share alone is too little for a small heap.
 */
const growthBytes = 24 * 1024 * 1024;
const growthPercentMin = 25;
const adjustEveryMs = 1_000;
/** V8's own. */
const usualGrowthFactor = 2;

export function tuneHeap(): void {
  setFlagsFromString(`--semi-space-growth-factor=${usualGrowthFactor}`);
  let percent = 0;
  const setGrowth = (): void => {
    const wanted = growthPercentOf(oldGenerationBytes());
    if (wanted === percent) return;
    percent = wanted;
    setFlagsFromString(`--heap-growing-percent=${percent}`);
  };
  setGrowth();
  setInterval(setGrowth, adjustEveryMs).unref();
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
