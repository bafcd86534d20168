/**
 * Spare memory: what starting has used and serving does not need is given back, once, when everything is loaded.
 *
 * While 1,000 files are loaded V8's young generation grows to its most, and by itself it gives nothing back for as long as nobody asks
 * for anything: an idle process would keep 35 MB of it. A collection of last resort, as V8 calls it, takes a tenth of a second, so it
 * is for a process that is not ready yet.
 *
 * @see Node's manual, `--expose-gc`: a context made while the flag is set has `gc`; without it nothing happens
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/**
 * How much the heap may grow before its old part is collected again. After a collection of last resort V8 allows some 5 MB, which are
 * promoted within two seconds of full load. More than this would be seen in what 10,000 idle WebSockets take.
 */
const growthPercent = 25;

export function giveBackSpareMemory(): void {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("globalThis.gc");
  setFlagsFromString("--no-expose-gc");
  setFlagsFromString(`--heap-growing-percent=${growthPercent}`);
  if (typeof collect === "function") collect({ type: "major", execution: "sync", flavor: "last-resort" });
}
