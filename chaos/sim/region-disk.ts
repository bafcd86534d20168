/**
 * Region disk: what outlives a boot of a simulated regional broker: its copy of the log, snapshots, denials, the name
 * of its last boot and the age mark. Its faults: it is full, its newest events are lost, or another disk is in its
 * place.
 */
import type { DenialsOnDisk, NodeKey } from "../../src/replication/index.ts";
import type { Saved } from "./saved-projection.ts";
import { SimCopyStore } from "./sim-copy-store.ts";

/** `power`: the machine lost power. `lost`: an empty disk. */
export type RegionDiskFault = "power" | "lost";

const unforcedEvents = 12;
const savesMax = 2;
const nothingKept: DenialsOnDisk = { retained: [], denials: [] };

export class RegionDisk {
  readonly rows = new SimCopyStore();
  /** Newest last. */
  saves: readonly Saved[] = [];
  /** What the replica denies by itself, as in the product's file of denials. */
  kept: DenialsOnDisk = nothingKept;
  lastBoot: NodeKey | null = null;
  mark: "none" | "on the disk" = "none";
  /** How long it takes to force the age mark to the disk. */
  markMs = 2;
  #next: RegionDiskFault | null = null;

  /** The disk takes no more: neither events nor the age mark. */
  set isFull(isFull: boolean) {
    this.rows.isFull = isFull;
  }
  get isFull(): boolean {
    return this.rows.isFull;
  }

  /** Before the next boot. */
  fail(how: RegionDiskFault): void {
    this.#next = how;
  }

  /** A boot begins. */
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
