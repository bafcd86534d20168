/**
 * Spare memory: what starting has used and serving does not need is given back, once, when everything is loaded; and how far the heap
 * may grow from then on before its old part is collected again.
 *
 * While 1,000 files are loaded V8's young generation grows to its most, and by itself it gives nothing back for as long as nobody asks
 * for anything: an idle process would keep 35 MB of it. A collection of last resort, as V8 calls it, takes a tenth of a second, so it
 * is for a process that is not ready yet. Behind it V8 allows some 5 MB, which are promoted within two seconds of full load.
 *
 * @see Node's manual, `--expose-gc`: a context made while the flag is set has `gc`; without it nothing happens
 */
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** A heap may grow by this, or by a quarter of what it has if that is more: a share alone is too little for a small heap. */
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

/** What the old part of the heap holds, whatever of it is garbage by now. */
function oldGenerationBytes(): number {
  return getHeapSpaceStatistics()
    .filter(({ space_name: name }) => !name.startsWith("new_"))
    .reduce((sum, { space_used_size: bytes }) => sum + bytes, 0);
}

/** In steps, so that the flag is seldom set. @param usedBytes of the old part of the heap */
export function growthPercentOf(usedBytes: number): number {
  const steps = Math.floor((10 * growthBytes) / Math.max(usedBytes, 1));
  return Math.min(100, Math.max(growthPercentMin, 10 * steps));
}
