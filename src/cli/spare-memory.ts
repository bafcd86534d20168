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

export function giveBackSpareMemory(): void {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("globalThis.gc");
  setFlagsFromString("--no-expose-gc");
  if (typeof collect === "function") collect({ type: "major", execution: "sync", flavor: "last-resort" });
}
