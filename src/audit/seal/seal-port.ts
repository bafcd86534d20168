/** Seal port: what the sealer needs of the node and of the log. Only types. */
import type { BootId } from "../../events/index.ts";
import type { TreeHead } from "./sealed-heads.ts";

/** `refused`: the log does not accept it now. `unavailable`: it may have been recorded or not. */
export type SubmittedSeal = "done" | "refused" | "unavailable";

export type SealPort = Readonly<{
  /** Signs what a seal says with the key of this boot. @returns the envelope */
  sign: (payload: Uint8Array) => Uint8Array;
  /** The newest seal of a boot of this node in the log, as far as this node knows; undefined: none. */
  headOf: (boot: BootId) => (TreeHead & Readonly<{ final: boolean }>) | undefined;
  /** Whether every reader of the log understands seals of version 2 (level 7). */
  isCoded: () => boolean;
  /** Whether seals may be recorded now: the cluster has the level, and this node knows the newest state. */
  isReady: () => boolean;
  /** Sends a seal. The command id follows from the envelope, so a repetition does no harm. Does not reject. */
  submit: (envelope: Uint8Array) => Promise<SubmittedSeal>;
}>;
