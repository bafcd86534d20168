/**
 * Audit seals: up to where the audit records of each boot are sealed, and the hash tree over all seals. Pure.
 *
 * - The leader accepts a seal only if it continues the boot's previous one. A boot that sealed nothing for longest
 *   leaves when there are too many, by the event that adds another.
 * - The tree has a leaf for each seal of the log, in its order. Its peaks outlive the events that retention drops.
 */
import type { AuditSegmentSealed } from "../cluster-events.ts";
import { copyString } from "../codec/copy-string.ts";
import { leafHash, MerkleTree } from "../codec/merkle-tree.ts";
import type { BootId, Hash, NodeId } from "../ids.ts";

export type AuditSealHead = Readonly<{
  nodeId: NodeId;
  bootId: BootId;
  /** The newest sealed number. */
  last: number;
  root: Hash;
  /** The boot has ended: no number follows. */
  final: boolean;
}>;

/** One row of a snapshot. */
export type AuditSealRow =
  | readonly ["head", string, string, number, string, boolean]
  | readonly ["tree", number, readonly Uint8Array[]];

type Replace = (kind: string, before: object | undefined, after: object | undefined) => void;
type TreeForm = Readonly<{ size: number; root: string }>;

export const auditSealHeadsMax = 4_096;

/** Neither id contains a line feed. */
const keyOf = (nodeId: string, bootId: string): string => `${nodeId}\n${bootId}`;

export class AuditSeals {
  readonly #replace: Replace;
  /** The boot whose newest seal is oldest comes first. */
  readonly #heads = new Map<string, AuditSealHead>();
  #tree = new MerkleTree();

  /** @param replace changes the digest */
  constructor(replace: Replace) {
    this.#replace = replace;
  }

  /** Number of boots. */
  get count(): number {
    return this.#heads.size;
  }
  /** Undefined: nothing of the boot is sealed, or it was silent for too long. */
  head(nodeId: NodeId, bootId: BootId): AuditSealHead | undefined {
    return this.#heads.get(keyOf(nodeId, bootId));
  }
  /** The tree over all seals. Do not change it. */
  get tree(): Pick<MerkleTree, "size" | "peaks" | "root"> {
    return this.#tree;
  }

  evolve({ nodeId, bootId, last, root, final = false, seal }: AuditSegmentSealed): void {
    if (seal === undefined) return; // of a version that no build has written
    const key = keyOf(nodeId, bootId);
    const before = this.#heads.get(key);
    const head: AuditSealHead = {
      nodeId: copyString(nodeId),
      bootId: copyString(bootId),
      last,
      root: copyString(root),
      final,
    };
    this.#replace("audit-seal", before, head);
    this.#heads.delete(key);
    this.#heads.set(copyString(key), head);
    const [oldest] = this.#heads;
    if (this.#heads.size > auditSealHeadsMax && oldest !== undefined) {
      this.#replace("audit-seal", oldest[1], undefined);
      this.#heads.delete(oldest[0]);
    }
    const grown = this.#form();
    this.#tree.append(leafHash(seal));
    this.#replace("audit-seal-tree", grown, this.#form());
  }

  /** For snapshots: everything, in the order of the map. */
  *rows(): Generator<AuditSealRow> {
    if (this.#tree.size > 0) yield ["tree", this.#tree.size, this.#tree.peaks];
    for (const { nodeId, bootId, last, root, final } of this.#heads.values())
      yield ["head", nodeId, bootId, last, root, final];
  }
  /** For `recomputedDigest`. */
  *forms(): Generator<readonly [kind: string, form: object]> {
    const tree = this.#form();
    if (tree !== undefined) yield ["audit-seal-tree", tree];
    for (const head of this.#heads.values()) yield ["audit-seal", head];
  }
  /** A row of a snapshot; the digest of the snapshot has it already. */
  load(row: AuditSealRow): void {
    if (row[0] === "tree") {
      this.#tree = MerkleTree.from({ size: row[1], peaks: row[2] });
      return;
    }
    const [, nodeId, bootId, last, root, final] = row;
    this.#heads.set(keyOf(nodeId, bootId), {
      nodeId: nodeId as NodeId,
      bootId: bootId as BootId,
      last,
      root: root as Hash,
      final,
    });
  }

  #form(): TreeForm | undefined {
    const { size } = this.#tree;
    return size === 0 ? undefined : { size, root: this.#tree.root.toString("hex") };
  }
}
