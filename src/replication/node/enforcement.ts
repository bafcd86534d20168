/**
 * Enforcement: how far changes are not only applied but enforced.
 *
 * - Listeners that hold something open are notified of each change. `enforced` moves past a change once all of them
 *   have answered, in order.
 * - A slow listener holds back every later change. No timeout replaces an answer.
 * - When a rebuilt projection replaces the old one, nothing counts as enforced until the new one is: a link of the
 *   history that was left may be on no chain any more. Then `enforced` moves to the new projection in one step.
 */
import { genesis, type Link } from "../../events/index.ts";

type ChangeGroup = { link: Link; decisive: boolean; open: number };

/** The number of groups of waiting changes; beyond this the newest changes share one group. */
const groupsMax = 1_024;

export class Enforcement {
  readonly #groups: ChangeGroup[] = [];
  readonly #open = new Map<number, ChangeGroup>();
  #enforced: Link;

  constructor(from: Link) {
    this.#enforced = from;
  }

  get enforced(): Link {
    return this.#enforced;
  }
  get waiting(): number {
    return this.#groups.length;
  }

  /**
   * Call this before listeners are notified of a change. `decisive`: it may change a decision. `rebuilt`: the history
   * may be another one from here.
   */
  begin(change: Readonly<{ id: number; link: Link; decisive: boolean; rebuilt: boolean }>): void {
    if (change.rebuilt) this.#enforced = genesis;
    const group = change.rebuilt ? this.#groupOfAll(change) : this.#groupFor(change);
    group.open += 1;
    this.#open.set(change.id, group);
  }

  /**
   * Everything that this change denies has been destroyed.
   * @returns whether `enforced` has moved past changes, and whether one of them could change a decision
   */
  complete(id: number): Readonly<{ moved: boolean; decisive: boolean }> {
    const group = this.#open.get(id);
    if (group === undefined) return { moved: false, decisive: false };
    this.#open.delete(id);
    group.open -= 1;
    let decisive = false;
    let moved = false;
    while (this.#groups[0]?.open === 0) {
      const first = this.#groups.shift();
      if (first === undefined) break;
      this.#enforced = first.link;
      decisive ||= first.decisive;
      moved = true;
    }
    return { moved, decisive };
  }

  /** Earlier open changes still hold this one back, but no longer have a group of their own. */
  #groupOfAll({ link, decisive }: Readonly<{ link: Link; decisive: boolean }>): ChangeGroup {
    const [group, ...others] = this.#groups;
    if (group === undefined) return this.#groupFor({ link, decisive });
    for (const [id, waited] of this.#open) if (waited !== group) this.#open.set(id, group);
    for (const other of others) group.open += other.open;
    this.#groups.length = 1;
    group.link = link;
    group.decisive = true;
    return group;
  }

  #groupFor({ link, decisive }: Readonly<{ link: Link; decisive: boolean }>): ChangeGroup {
    const last = this.#groups.at(-1);
    if (last !== undefined && this.#groups.length >= groupsMax) {
      last.link = link;
      last.decisive ||= decisive;
      return last;
    }
    const group: ChangeGroup = { link, decisive, open: 0 };
    this.#groups.push(group);
    return group;
  }
}
