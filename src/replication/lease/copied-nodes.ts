/**
 * Copied nodes: boots of one node that run side by side, as after a disk was cloned.
 *
 * A boot that another boot replaced has ended. If it sends again, it is alive: it gets its former state back, and no
 * boot replaces it again. Two boots of one node that both continue to renew are a pair, which an operator must
 * separate. Pure; bounded.
 */
import type { BootId, NodeId } from "../../events/index.ts";

export type BootOfNode = Readonly<{ node: NodeId; boot: BootId }>;
/** `older` continues to renew although `younger` has renewed since. */
export type CopiedNode = Readonly<{ node: NodeId; older: BootId; younger: BootId }>;

type OverlappingBoot = { readonly younger: BootOfNode; renews: number };

/** The older boot must renew this often: fewer renews may have been in flight when the younger boot started. */
const renewsMin = 3;
const knownMax = 100_000;

export class CopiedNodes<Known> {
  readonly #replaced = new Map<string, Known | null>();
  readonly #alive = new Set<string>();
  readonly #overlaps = new Map<string, OverlappingBoot>();
  readonly #pairs = new Map<string, CopiedNode>();
  #newPairs: CopiedNode[] = [];

  /**
   * Records that a boot names the boot it replaces.
   * @param known the state of the replaced boot, in case it sends again; null: none
   * @returns false: the replaced boot is alive and stays
   */
  replace(replaced: BootOfNode, known: Known | null): boolean {
    const key = keyOf(replaced);
    if (this.#alive.has(key)) return false;
    this.#replaced.set(key, known);
    dropOldest(this.#replaced);
    return true;
  }

  /**
   * A boot sent a message.
   * @param isNew whether the message is newer than the known state: a repetition does not prove that the boot is alive
   * @returns its state when it was replaced; undefined: it was not replaced
   */
  reviveIfReplaced(boot: BootOfNode, isNew: (known: Known) => boolean): Known | null | undefined {
    const key = keyOf(boot);
    const known = this.#replaced.get(key);
    if (known === undefined || (known !== null && !isNew(known))) return undefined;
    this.#replaced.delete(key);
    this.#alive.add(key);
    if (this.#alive.size > knownMax) this.#alive.delete(this.#alive.values().next().value ?? "");
    return known;
  }

  /** A boot has said goodbye and should not send again. */
  recordGoodbye(boot: BootOfNode): void {
    for (const map of [this.#replaced, this.#overlaps, this.#pairs]) map.delete(keyOf(boot));
  }

  /** A boot renews for the first time here. @param others the other boots of its node that may still be alive */
  recordFirstRenew(younger: BootOfNode, others: readonly BootOfNode[]): void {
    for (const older of others) this.#overlaps.set(keyOf(older), { younger, renews: 0 });
    dropOldest(this.#overlaps);
  }

  /** @param isThere whether a boot may still be alive */
  recordRenew(older: BootOfNode, isThere: (boot: BootOfNode) => boolean): void {
    const key = keyOf(older);
    const beside = this.#overlaps.get(key);
    if (beside === undefined) return;
    if (!isThere(beside.younger)) {
      this.#overlaps.delete(key);
      this.#pairs.delete(key);
      return;
    }
    beside.renews += 1;
    if (beside.renews !== renewsMin) return;
    const pair = { node: older.node, older: older.boot, younger: beside.younger.boot };
    this.#pairs.set(key, pair);
    dropOldest(this.#pairs);
    this.#newPairs.push(pair);
  }

  /** The other boot of each boot that is one of a pair, by node and boot. */
  pairedBoots(): ReadonlyMap<string, BootId> {
    return new Map(
      [...this.#pairs.values()].flatMap(({ node, older, younger }) => [
        [keyOf({ node, boot: older }), younger],
        [keyOf({ node, boot: younger }), older],
      ]),
    );
  }

  /** Returns the pairs found since the last call. */
  drainNewPairs(): readonly CopiedNode[] {
    const found = this.#newPairs;
    this.#newPairs = [];
    return found;
  }
}

function dropOldest(map: Map<string, unknown>): void {
  if (map.size > knownMax) map.delete(map.keys().next().value ?? "");
}

function keyOf({ node, boot }: BootOfNode): string {
  return JSON.stringify([node, boot]);
}
