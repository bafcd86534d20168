/**
 * Audit seal: what a node signs of the audit records of one boot: the root of the hash tree over them. Pure.
 *
 * - The tree has a leaf for each number of the boot, from 1. A seal is an envelope of the kind `audit-seal`. It names
 *   the boot's previous seal, and its own peaks, so that records can be checked from any seal on.
 * - A later boot of the same node seals what an earlier one left in the spool.
 * - The last seal of a boot may add no number: it says that the boot has ended.
 * - `marks` are short digests of a bounded number of blocks of leaves, and `code` the sums of an error-locating code
 *   over the leaves. They prove nothing; they say which record was altered.
 * - Version 1 has no `code`, and fewer marks. It is written below level 7.
 * - Checks run from cheap to expensive: size, shape, signatures, content. Why: docs/adr/0057
 */
import { verify } from "node:crypto";
import {
  type BootId,
  decode,
  emptyRoot,
  encode,
  type NodeId,
  parseBootId,
  parseNodeId,
  peakCount,
  rootOfPeaks,
  treeHashBytes,
  treeSizeMax,
} from "../../events/index.ts";
import type { EnvelopeOpener } from "./broker-opener.ts";
import { enrolmentRoot, publicKeyFromRaw, type Role } from "./cluster-keys.ts";
import { type Certificate, createEnvelopeOpener, envelopeParts, type Opened } from "./envelope.ts";
import { MalformedMessageError } from "./messages.ts";

/** Numbers of lost records, both included. */
export type SealedRange = Readonly<{ first: number; last: number }>;

export type AuditSeal = Readonly<{
  node: NodeId;
  boot: BootId;
  /** The boot's seal before this one; size 0: none. */
  previous: Readonly<{ size: number; root: Buffer }>;
  /** The newest number, which is also the number of leaves. */
  size: number;
  root: Buffer;
  /** The roots of the perfect subtrees, largest first. */
  peaks: readonly Buffer[];
  /** The boot has ended, and has no later number. */
  final: boolean;
  /** When it was signed; milliseconds since 1970. */
  atMs: number;
  /** Numbers since the previous seal that have no record, in order. */
  lost: readonly SealedRange[];
  /** There are more of them. */
  lostMore: boolean;
  /**
   * Numbers since the previous seal that the spool gave up before the node could hash them, in order. Sinks may have
   * their records; in the tree they are like numbers without a record. Of version 1 they are in `lost`.
   */
  unhashed: readonly SealedRange[];
  /** `leaves`: how many leaves each mark covers, a power of two, from the previous seal on. Empty: no marks. */
  marks: Readonly<{ leaves: number; bytes: Buffer }>;
  /**
   * `leaves`: how many each block covers, a power of two, from the previous seal on. Empty: each leaf has a mark, or
   * nothing is known of single ones. Null: of version 1.
   */
  code: Readonly<{ leaves: number; bytes: Buffer }> | null;
}>;

export const lostRangesMax = 64;
export const marksMax = 256;
export const markBytes = 4;
/** Up to so many leaves of a seal have a mark each, from version 2 on. */
export const leafMarksMax = 1_024;
export const codeBlocksMax = 16;
/** Two codes of 64 sums of 16 bits. */
export const codeBlockBytes = 256;
/** A seal of more leaves has no code. */
export const codeLeavesMax = 524_288;
/** A seal is usually at most about 7 KB. */
export const auditSealBytesMax = 10_240;

const titles = ["cardea audit seal 1", "cardea audit seal 2"] as const;
/** The roles of processes that record. */
const signers: readonly Role[] = ["proxy", "authorize", "authenticate", "broker"];

export function encodeAuditSeal(seal: AuditSeal): Uint8Array {
  return encode([
    titles[seal.code === null ? 0 : 1],
    seal.node,
    seal.boot,
    seal.previous.size,
    seal.previous.root,
    seal.size,
    seal.root,
    Buffer.concat(seal.peaks),
    seal.final,
    Math.trunc(seal.atMs),
    seal.lost.flatMap(numbersOf),
    seal.lostMore,
    seal.marks.leaves,
    seal.marks.bytes,
    ...(seal.code === null ? [] : [seal.code.leaves, seal.code.bytes, seal.unhashed.flatMap(numbersOf)]),
  ]);
}

const numbersOf = ({ first, last }: SealedRange): readonly number[] => [first, last];

/** Opens envelopes of every process that may record. @param secrets the shared secret, then the previous one */
export function sealSignersOpener(cluster: string, secrets: readonly Uint8Array[]): EnvelopeOpener {
  const openers = secrets.map((secret) => {
    const roots = new Map(signers.map((role) => [role, enrolmentRoot(secret, role).publicKey]));
    return createEnvelopeOpener({ cluster, rootOf: (role) => roots.get(role), certificatesMax: 1_024 });
  });
  return (bytes) => {
    const answers = openers.map((open) => open(bytes));
    return answers.find((answer) => !("refused" in answer)) ?? answers[0] ?? { refused: "no secret to check it with" };
  };
}

/** Checks signatures, signer and content. @returns the reason why it is refused as text */
export function openAuditSeal(envelope: Uint8Array, open: EnvelopeOpener): AuditSeal | string {
  if (envelope.length > auditSealBytesMax) return "it is too large";
  const opened = open(envelope);
  if ("refused" in opened) return opened.refused;
  return sealBy(opened);
}

/** The content of an envelope whose signatures were checked when it arrived. @throws MalformedMessageError */
export function readAuditSeal(envelope: Uint8Array): AuditSeal {
  if (envelope.length > auditSealBytesMax) throw new MalformedMessageError("a seal is too large");
  const parts = envelopeParts(envelope);
  if (parts === undefined || parts.kind !== "audit-seal")
    throw new MalformedMessageError("not a seal of audit records");
  return parseSeal(parts.payload);
}

/**
 * A seal as it can be checked without any key. `own`: the boot's own key has signed it, which its id names. Otherwise a
 * later boot of the node has, and only its certificate says so; the broker that recorded it has checked that.
 */
export type OfflineSeal = Readonly<{ seal: AuditSeal; signer: Certificate; own: boolean }>;

/**
 * Checks a seal without any key: the boot id of the signer commits to its key (node-key.ts). The caller trusts the
 * boot id, or the log that has the seal. @returns the reason why it is refused as text
 */
export function checkAuditSeal(envelope: Uint8Array): OfflineSeal | string {
  if (envelope.length > auditSealBytesMax) return "it is too large";
  const parts = envelopeParts(envelope);
  if (parts === undefined) return "not an envelope";
  const { kind, payload, certificate: signer } = parts;
  if (!parts.commitsToKey) return "its signer's boot id names no key";
  if (!verify(null, parts.signed, publicKeyFromRaw(signer.publicKey), parts.signature)) return "bad signature";
  const seal = sealBy({ kind, from: signer, payload });
  return typeof seal === "string" ? seal : { seal, signer, own: seal.boot === signer.boot };
}

function sealBy({ kind, from, payload }: Opened): AuditSeal | string {
  if (kind !== "audit-seal") return `a ${kind} is not a seal of audit records`;
  try {
    const seal = parseSeal(payload);
    if (from.name !== seal.node) return "another node signed it than the one that it names";
    return signers.includes(from.role) ? seal : `the role ${from.role} seals no audit records`;
  } catch (error) {
    return error instanceof Error ? error.message : "not a seal of audit records";
  }
}

function parseSeal(payload: Uint8Array): AuditSeal {
  const fields: unknown = decode(payload);
  if (!Array.isArray(fields)) throw malformed("shape");
  const isFirst = fields[0] === titles[0];
  if (fields.length !== (isFirst ? 14 : 17) || (!isFirst && fields[0] !== titles[1])) throw malformed("shape");
  const [
    ,
    node,
    boot,
    previousSize,
    previousRoot,
    size,
    root,
    peaks,
    final,
    atMs,
    lost,
    lostMore,
    leaves,
    marks,
    ...more
  ] = fields as readonly unknown[];
  if (!isSize(previousSize) || !isSize(size) || size < previousSize) throw malformed("sizes");
  const previous = { size: previousSize, root: hashIn(previousRoot) };
  const addsNone = size === previousSize;
  if (addsNone && !(final === true && size > 0 && previous.root.equals(hashIn(root)))) throw malformed("sizes");
  if (previousSize === 0 && !previous.root.equals(emptyRoot)) throw malformed("previous root");
  if (!(peaks instanceof Uint8Array) || peaks.length !== peakCount(size) * treeHashBytes) throw malformed("peaks");
  const seal: AuditSeal = {
    node: parseNodeId(node),
    boot: parseBootId(boot),
    previous,
    size,
    root: hashIn(root),
    peaks: hashesIn(peaks),
    final: booleanIn(final),
    atMs: timeIn(atMs),
    lost: rangesIn(lost, { after: previousSize, last: size }),
    lostMore: booleanIn(lostMore),
    unhashed: isFirst ? [] : rangesIn(more[2], { after: previousSize, last: size }),
    marks: marksIn({ leaves, bytes: marks }, { count: size - previousSize, isFirst }),
    code: isFirst ? null : codeIn({ leaves: more[0], bytes: more[1] }, size - previousSize),
  };
  if (!rootOfPeaks(seal.peaks).equals(seal.root)) throw malformed("the peaks do not make the root");
  return seal;
}

function rangesIn(value: unknown, { after, last: end }: Readonly<{ after: number; last: number }>): SealedRange[] {
  if (!Array.isArray(value) || value.length % 2 !== 0 || value.length > 2 * lostRangesMax) throw malformed("lost");
  const ranges: SealedRange[] = [];
  let before = after;
  for (let at = 0; at < value.length; at += 2) {
    const [first, last] = [value[at], value[at + 1]] as readonly unknown[];
    if (!isSize(first) || !isSize(last) || first <= before || last < first || last > end) throw malformed("lost");
    ranges.push({ first, last });
    before = last;
  }
  return ranges;
}

type Blocks = Readonly<{ leaves: unknown; bytes: unknown }>;

function marksIn(
  blocks: Blocks,
  { count, isFirst }: Readonly<{ count: number; isFirst: boolean }>,
): AuditSeal["marks"] {
  const max = blocks.leaves === 1 && !isFirst ? leafMarksMax : marksMax;
  return blocksIn(blocks, { count, blockBytes: markBytes, max, what: "marks" });
}
function codeIn(blocks: Blocks, count: number): NonNullable<AuditSeal["code"]> {
  return blocksIn(blocks, { count, blockBytes: codeBlockBytes, max: codeBlocksMax, what: "code" });
}
/** Either no bytes, or those of each block. */
function blocksIn(
  { leaves, bytes }: Blocks,
  of: Readonly<{ count: number; blockBytes: number; max: number; what: string }>,
): Readonly<{ leaves: number; bytes: Buffer }> {
  const { count, blockBytes, max, what } = of;
  if (!(bytes instanceof Uint8Array) || !isSize(leaves) || leaves < 1 || peakCount(leaves) !== 1) throw malformed(what);
  const isWhole = bytes.length === blockBytes * Math.ceil(count / leaves);
  if (bytes.length > blockBytes * max || (bytes.length > 0 && !isWhole)) throw malformed(what);
  return { leaves, bytes: Buffer.from(bytes) };
}

function isSize(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= treeSizeMax;
}
function hashIn(value: unknown): Buffer {
  if (value instanceof Uint8Array && value.length === treeHashBytes) return Buffer.from(value);
  throw malformed("hash");
}
function hashesIn(bytes: Uint8Array): readonly Buffer[] {
  return Array.from({ length: bytes.length / treeHashBytes }, (_, at) =>
    Buffer.from(bytes.subarray(at * treeHashBytes, (at + 1) * treeHashBytes)),
  );
}
function booleanIn(value: unknown): boolean {
  if (typeof value === "boolean") return value;
  throw malformed("flag");
}
function timeIn(value: unknown): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw malformed("time");
}
function malformed(what: string): MalformedMessageError {
  return new MalformedMessageError(`a seal of audit records: ${what}`);
}
