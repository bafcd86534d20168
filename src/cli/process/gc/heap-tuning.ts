/**
 * Heap tuning: bounds how far the heap grows between collections, shortens the pause that ends a full collection, and
 * ends the hurry of a start (scripts/program.mjs).
 *
 * V8 has no minor collections while it marks. If the main thread marks alone, requests allocate tens of megabytes
 * meanwhile, and copying what is in use of them was most of the pause. A page stays where it is and becomes old if
 * enough of it is in use. Helper threads mark in so short a time that there is little to copy.
 *
 * The memory that only starting needed, some 35 MB, is V8's to free: up to a minute later, in small steps, when the
 * process is idle. A collection of our own at the end of a start took a fifth of its processor time.
 */
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { gcThreadsOf } from "./gc-threads.ts";

/**
 * The heap may grow by this, or by a quarter of its size if that is more: a share alone is too little for a small heap.
 */
const growthBytes = 24 * 1024 * 1024;
const growthPercentMin = 25;
const adjustEveryMs = 1_000;
/** V8's own. */
const usualGrowthFactor = 2;
/** Share of a young page in use from which it becomes old as a whole. V8's own is 70. */
const pagePromotionPercent = 40;

export function tuneHeap(): void {
  setFlagsFromString(`--semi-space-growth-factor=${usualGrowthFactor}`);
  if (gcThreadsOf(process.execArgv) === "main thread")
    setFlagsFromString(`--page-promotion-threshold=${pagePromotionPercent}`);
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
