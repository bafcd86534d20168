/**
 * Copied nodes: boots of one node that live side by side, as after a disk was cloned.
 *
 * A boot that another one replaced has ended. One that speaks again shows that it has not: it gets back what was known
 * of it, and no boot replaces it again. Two boots of one node that both go on renewing are a pair for the operator to
 * part. Pure; bounded.
 */
import type { BootId, NodeId } from "../../events/index.ts";

export type BootOfNode = Readonly<{ node: NodeId; boot: BootId }>;
/** `older` goes on although `younger` has renewed since. */
export type CopiedNode = Readonly<{ node: NodeId; older: BootId; younger: BootId }>;

type OverlappingBoot = { readonly younger: BootOfNode; renews: number };

/** Renews that were on their way when the younger boot began are not counted against the older one. */
const renewsMin = 3;
const knownMax = 100_000;

export class CopiedNodes<Known> {
  readonly #replaced = new Map<string, Known | null>();
  readonly #alive = new Set<string>();
  readonly #overlaps = new Map<string, OverlappingBoot>();
  readonly #pairs = new Map<string, CopiedNode>();
  #newPairs: CopiedNode[] = [];

  /**
   * A boot names the one before it.
   * @param known what is known of that one, should it speak again; null: nothing
   * @returns false: it is alive, and stays
   */
  replace(replaced: BootOfNode, known: Known | null): boolean {
    const key = keyOf(replaced);
    if (this.#alive.has(key)) return false;
    this.#replaced.set(key, known);
    dropOldest(this.#replaced);
    return true;
  }

  /**
   * A boot speaks.
   * @param isNew whether what it says is newer than what was known of it: a repetition does not show that it is alive
   * @returns what was known of it when it was replaced; undefined: it was not replaced
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

  /** A boot has said goodbye: it is not expected to speak again. */
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

  /** Pairs that were found since this was last asked. */
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
