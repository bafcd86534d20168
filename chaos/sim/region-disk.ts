/**
 * Region disk: the state of a simulated regional broker that survives its boots: its copy of the log, snapshots,
 * denials, the name of its last boot and the age mark.
 *
 * Its faults: the disk is full, its newest events are lost, or another disk replaces it.
 */
import type { DenialsOnDisk } from "../../src/replication/node/index.ts";
import type { NodeKey } from "../../src/replication/wire/index.ts";
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
  /** Time (ms) to force the age mark to the disk. */
  markMs = 2;
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

  /** Applies the scheduled fault at the start of a boot. */
  turn(): void {
    if (this.#next === "power") this.rows.loseNewest(unforcedEvents);
    if (this.#next === "lost") {
      this.rows.empty();
      this.saves = [];
      this.kept = nothingKept;
      this.lastBoot = null;
      this.mark = "none";
    }
    this.#next = null;
  }

  save(saved: Saved): void {
    if (!this.isFull) this.saves = [...this.saves, saved].slice(-savesMax);
  }
}
