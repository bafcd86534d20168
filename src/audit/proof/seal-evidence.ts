/**
 * Seal evidence: an event of the log that seals records, as it is checked away from the log. Pure.
 *
 * It has the event's own bytes and the link before it, so its link follows from them; a receipt of that link shows that
 * the log has it (docs/audit-proofs.md). One line of JSON each.
 */
import {
  type BootId,
  chainHash,
  decodeEvent,
  formatLink,
  type Link,
  leafHash,
  linkOf,
  MalformedEventError,
  type NodeId,
  parseLink,
} from "../../events/index.ts";
import { type AuditSeal, auditSealBytesMax, checkAuditSeal } from "../../replication/wire/index.ts";

export type SealEvidence = Readonly<{
  previous: Link;
  bytes: Uint8Array;
  /** A signed receipt of the event's link; null: none. */
  receipt: string | null;
}>;

export type OpenedEvidence = Readonly<{
  seal: AuditSeal;
  /** Of the tree over all seals: the hash of what the node signed, with its signature. */
  leaf: Buffer;
  cluster: string;
  /** The boot itself has signed it, as its id shows. Otherwise a later boot of its node has. */
  own: boolean;
  /** Where it is in the log. */
  link: Link;
  receipt: string | null;
}>;

export type EvidenceLine = Readonly<{
  type: "cardea-audit-seal";
  node: NodeId;
  boot: BootId;
  size: number;
  link: string;
  previous: string;
  event: string;
  receipt?: string;
}>;

const eventBytesMax = auditSealBytesMax + 4_096;
const receiptCharsMax = 4 * 1_024 * 1_024;

/** @throws MalformedEventError if the event is no seal */
export function formatEvidence(evidence: SealEvidence): EvidenceLine {
  const opened = openEvidence(evidence);
  if (typeof opened === "string") throw new MalformedEventError(opened);
  const { seal, link } = opened;
  return {
    type: "cardea-audit-seal",
    node: seal.node,
    boot: seal.boot,
    size: seal.size,
    link: formatLink(link),
    previous: formatLink(evidence.previous),
    event: Buffer.from(evidence.bytes).toString("base64"),
    ...(evidence.receipt === null ? {} : { receipt: evidence.receipt }),
  };
}

/** @returns undefined if the value is no evidence. What it says is not checked */
export function parseEvidence(value: unknown): SealEvidence | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { type, previous, event, receipt = null } = value as Readonly<Record<string, unknown>>;
  if (type !== "cardea-audit-seal" || typeof event !== "string" || event.length > 2 * eventBytesMax) return undefined;
  if (receipt !== null && (typeof receipt !== "string" || receipt.length > receiptCharsMax)) return undefined;
  try {
    return { previous: parseLink(previous), bytes: new Uint8Array(Buffer.from(event, "base64")), receipt };
  } catch {
    return undefined;
  }
}

/** Checks the event, and the signature of the node. @returns the reason why it is refused as text */
export function openEvidence({ previous, bytes, receipt }: SealEvidence): OpenedEvidence | string {
  if (bytes.length > eventBytesMax) return "the event is too large";
  try {
    const recorded = decodeEvent(bytes, previous);
    const { event } = recorded;
    if (event.type !== "AuditSegmentSealed" || event.seal === undefined) return "the event seals no audit records";
    const checked = checkAuditSeal(event.seal);
    if (typeof checked === "string") return checked;
    const { seal, signer, own } = checked;
    const isSame =
      event.nodeId === seal.node &&
      event.bootId === seal.boot &&
      event.first === seal.previous.size + 1 &&
      event.last === seal.size &&
      event.root === seal.root.toString("hex") &&
      (event.final ?? false) === seal.final;
    if (!isSame) return "the event says something else than the node signed";
    if (chainHash(previous.hash, bytes) !== recorded.hash) return "its link does not follow from its bytes";
    return { seal, leaf: leafHash(event.seal), cluster: signer.cluster, own, link: linkOf(recorded), receipt };
  } catch (error) {
    if (error instanceof MalformedEventError) return error.message;
    throw error;
  }
}
