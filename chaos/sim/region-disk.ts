/**
 * Region disk: the state of a simulated regional broker that survives its boots: its copy of the log, snapshots,
 * denials, local revocations, the name of its last boot and the age mark.
 *
 * Its faults: the disk is full, its newest events are lost, or another disk replaces it.
 */
import type { StoredRevocations } from "../../src/broker/region/revocation-store.ts";
import type { DenialsOnDisk } from "../../src/replication/node/index.ts";
import type { NodeKey } from "../../src/replication/wire/index.ts";
import type { RevocationStep } from "./actors.ts";
import type { Saved } from "./saved-projection.ts";
import { SimCopyStore } from "./sim-copy-store.ts";

/** `power`: the machine lost power. `lost`: the disk is replaced by an empty one. */
export type RegionDiskFault = "power" | "lost";

const unforcedEvents = 12;
const savesMax = 2;
const nothingKept: DenialsOnDisk = { retained: [], denials: [] };

export class RegionDisk {
  readonly rows = new SimCopyStore();
  /** Snapshots, newest last. */
  saves: readonly Saved[] = [];
  /** The replica's own denials, as in the product's denials file. */
  kept: DenialsOnDisk = nothingKept;
  lastBoot: NodeKey | null = null;
  mark: "none" | "on the disk" = "none";
  /** Forced to the disk. Null: this disk has no file of them. */
  revocations: StoredRevocations | null = null;
  /** Time (ms) to force the age mark to the disk. */
  markMs = 2;
  /** The step of a local revocation at which this broker's process ends next. Null: none. */
  crash: Readonly<{ step: RevocationStep; how: "process" | "power" }> | null = null;
  #next: RegionDiskFault | null = null;

  /** A full disk rejects events and the age mark. */
  set isFull(isFull: boolean) {
    this.rows.isFull = isFull;
  }
  get isFull(): boolean {
    return this.rows.isFull;
  }

  /** Schedules a fault, which takes effect at the next boot. */
  fail(how: RegionDiskFault): void {
    this.#next = how;
  }

  /** Applies the scheduled fault at the start of a boot. @returns the fault */
  turn(): RegionDiskFault | null {
    const fault = this.#next;
    if (this.#next === "power") this.rows.loseNewest(unforcedEvents);
    if (this.#next === "lost") {
      this.rows.empty();
      this.saves = [];
      this.kept = nothingKept;
      this.lastBoot = null;
      this.mark = "none";
      this.revocations = null;
    }
    this.#next = null;
    return fault;
  }

  save(saved: Saved): void {
    if (!this.isFull) this.saves = [...this.saves, saved].slice(-savesMax);
  }
}
