/** Support for the tests of proofs: boots whose records are sealed in a log, in a few milliseconds. */

import { toLine } from "../../../src/audit/index.ts";
import { openEvidence, type SealEvidence, SealIndex } from "../../../src/audit/proof/index.ts";
import { BootTree } from "../../../src/audit/seal/boot-tree.ts";
import { recordLeafOf } from "../../../src/audit/seal/index.ts";
import { gapRecordOf } from "../../../src/audit/spool/index.ts";
import { auditSealCodesFrom } from "../../../src/events/index.ts";
import { encodeAuditSeal } from "../../../src/replication/wire/index.ts";
import { type SealLog, signerOfNode, type TestSigner } from "../seal/seal-support.ts";
import { decision } from "../support.ts";

export type SealedBoot = Readonly<{ signer: TestSigner; lines: string[]; tree: BootTree }>;

export type BootPlan = Readonly<{
  node?: string;
  /** Records in each segment. */
  segments: readonly number[];
  /** Numbers without a record, each range inside a segment. */
  lost?: readonly (readonly [number, number])[];
  /** Numbers whose records were given up before they were hashed, each range inside a segment. */
  unhashed?: readonly (readonly [number, number])[];
  /** Records after the last seal. */
  unsealed?: number;
  final?: boolean;
  /** Every third record is of this user, the others of user-8. */
  userId?: string | undefined;
}>;

/** Records a boot, and seals it. */
export function sealBoot(log: SealLog, plan: BootPlan): SealedBoot {
  const signer = signerOfNode(plan.node);
  const { node, boot } = signer;
  const tree = new BootTree(boot);
  const lines: string[] = [];
  const add = (): void => {
    const seq = tree.size + 1;
    const range = plan.lost?.find(([first]) => first === seq);
    if (range !== undefined) {
      const [first, last] = range;
      tree.appendLost(last);
      const gap = gapRecordOf({ node, boot, first, last, reason: "ring_full", fromMs: 1, toMs: 2 });
      lines.push(JSON.stringify(gap));
      return;
    }
    const more = { node, boot, requestId: `request-${seq}`, userAgent: "curl/8" };
    if (plan.userId !== undefined) Object.assign(more, { userId: seq % 3 === 0 ? plan.userId : "user-8" });
    const line = toLine({ kind: "decision", seq, ...decision(`/people/${seq}`, more) }).trimEnd();
    const leaf = recordLeafOf(Buffer.from(line));
    if (plan.unhashed?.some(([first, last]) => first <= seq && seq <= last)) tree.appendUnhashed(seq);
    else if (leaf !== "not-a-record") tree.append(leaf.leaf);
    lines.push(line);
  };
  for (const [at, count] of plan.segments.entries()) {
    const end = tree.size + count;
    while (tree.size < end) add();
    const final = plan.final === true && at === plan.segments.length - 1;
    seal(log, { signer, lines, tree }, { final });
  }
  for (let n = 0; n < (plan.unsealed ?? 0); n++) add();
  return { signer, lines, tree };
}

export function seal(log: SealLog, { signer, tree }: SealedBoot, { final }: Readonly<{ final: boolean }>): void {
  const coded = log.projection.level >= auditSealCodesFrom;
  const type = log.submit(signer.sign(encodeAuditSeal(tree.seal(signer.node, { atMs: 1, final, coded }))));
  if (type !== "done") throw new Error(log.refusals.at(-1));
}

export function evidenceOf(log: SealLog): readonly SealEvidence[] {
  return log.seals.map((entry) => ({ ...entry, receipt: null }));
}

export function indexOf(evidence: readonly SealEvidence[]): SealIndex {
  const index = new SealIndex();
  for (const one of evidence) {
    const opened = openEvidence(one);
    if (typeof opened === "string") throw new Error(opened);
    index.add(opened);
  }
  return index;
}
