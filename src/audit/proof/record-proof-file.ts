/**
 * Proofs of audit records: that one is in a sealed tree, and that one sealed tree continues another (RFC 9162 §2.1.3,
 * §2.1.4). A file of JSON that is checked with public keys alone. Pure.
 *
 * - Building one needs the records between two seals, not the whole boot: a seal has the peaks of its tree.
 * - Sizes and lengths are checked before anything is hashed.
 */
import {
  type BootId,
  CodedError,
  ConsistencyBuilder,
  InclusionBuilder,
  type NodeId,
  treeHashBytes,
  verifyConsistency,
  verifyInclusion,
} from "../../events/index.ts";
import { withoutEnvelope } from "../audit-record.ts";
import { lostLeaf, recordLeafOf } from "../seal/index.ts";
import {
  type EvidenceLine,
  formatEvidence,
  type OpenedEvidence,
  openEvidence,
  parseEvidence,
  type SealEvidence,
} from "./seal-evidence.ts";
import { presentParts, unhashedNumbersOf, unhashedParts } from "./seal-index.ts";

export const proofType = "cardea-audit-proof";
export const consistencyType = "cardea-audit-consistency";

export type InclusionProof = Readonly<{
  type: typeof proofType;
  version: 1;
  /** `<boot>:<number>` */
  id: string;
  /** The record's line, perhaps erased. Null: the leaf is proven without it. */
  record: string | null;
  leaf: string;
  index: number;
  size: number;
  path: readonly string[];
  seal: EvidenceLine;
}>;

export type ConsistencyProof = Readonly<{
  type: typeof consistencyType;
  version: 1;
  node: string;
  boot: string;
  first: EvidenceLine;
  second: EvidenceLine;
  proof: readonly string[];
}>;

export class CannotProveError extends CodedError<"ERR_AUDIT_CANNOT_PROVE"> {
  override readonly code = "ERR_AUDIT_CANNOT_PROVE";
}

/** A seal with the bytes that it was read from. */
export type KeptSeal = Readonly<{ opened: OpenedEvidence; evidence: SealEvidence }>;

type Leaf = Readonly<{ leaf: Buffer; count: number; line: string | null }>;

/**
 * The leaves of a boot in order, each number once, as far as a source has them.
 * @throws CannotProveError if a record is missing that was sealed
 */
async function* leavesOf(
  lines: AsyncIterable<string> | Iterable<string>,
  of: Readonly<{ node: NodeId; boot: BootId; from: number; to: number; seals: readonly OpenedEvidence[] }>,
): AsyncGenerator<Leaf> {
  let at = of.from;
  const isUnhashed = unhashedNumbersOf(of.seals);
  const lost = (last: number): Leaf => {
    const hashed = unhashedParts(of.seals, { first: at, last }).filter(({ unhashed }) => !unhashed);
    const parts = hashed.flatMap((part) => presentParts(of.seals, part).parts);
    const [missing] = parts;
    if (missing !== undefined)
      throw new CannotProveError(
        `the records ${missing.first} to ${missing.last} of ${of.boot} are not in this source; they were sealed`,
      );
    return { leaf: lostLeaf, count: last - at + 1, line: null };
  };
  for await (const line of lines) {
    if (!line.includes(of.boot)) continue;
    const record = recordIn(line);
    if (record === undefined || record.node !== of.node || record.boot !== of.boot || record.seq < at) continue;
    const { kind, seq } = record;
    const last = Math.min(kind === "gap" ? seq : seq - 1, of.to);
    if (last >= at) {
      yield lost(last);
      at = last + 1;
    }
    if (at > of.to) return;
    if (kind === "gap") continue;
    const leaf = recordLeafOf(Buffer.from(record.text));
    if (leaf === "not-a-record") throw new CannotProveError(`the record ${seq} of ${of.boot} was changed`);
    if (isUnhashed(seq)) yield { leaf: lostLeaf, count: 1, line: null };
    else yield { leaf: leaf.leaf, count: 1, line: record.text };
    at = seq + 1;
    if (at > of.to) return;
  }
  if (at <= of.to) yield lost(of.to);
}

type StoredRecord = Readonly<{ kind: unknown; node: unknown; boot: unknown; seq: number; text: string }>;

function recordIn(line: string): StoredRecord | undefined {
  try {
    const value: unknown = JSON.parse(line);
    const record = withoutEnvelope(value);
    if (typeof record !== "object" || record === null) return undefined;
    const { kind, node, boot, seq } = record as Readonly<Record<string, unknown>>;
    if (typeof seq !== "number" || !Number.isSafeInteger(seq)) return undefined;
    return { kind, node, boot, seq, text: record === value ? line : JSON.stringify(record) };
  } catch {
    return undefined;
  }
}

/** The seals of a boot, smallest first, without repetitions of a size. */
function bySize(seals: readonly KeptSeal[]): readonly KeptSeal[] {
  const sorted = seals.toSorted((a, b) => a.opened.seal.size - b.opened.seal.size);
  return sorted.filter(({ opened }, at) => sorted[at - 1]?.opened.seal.size !== opened.seal.size);
}

const noTree = { size: 0, peaks: [] } as const;

/** @throws CannotProveError */
export async function proveInclusion(
  lines: AsyncIterable<string> | Iterable<string>,
  of: Readonly<{ node: NodeId; boot: BootId; seq: number; seals: readonly KeptSeal[] }>,
): Promise<InclusionProof> {
  const seals = bySize(of.seals);
  const at = seals.findIndex(({ opened }) => opened.seal.size >= of.seq);
  const sealing = seals[at];
  if (sealing === undefined)
    throw new CannotProveError(`no seal covers the record ${of.seq} of ${of.boot} yet: try again in a few minutes`);
  const start = seals[at - 1]?.opened.seal ?? noTree;
  const { size } = sealing.opened.seal;
  const builder = new InclusionBuilder({ index: of.seq - 1, size, start });
  let number = start.size;
  let record: string | null = null;
  const range = { from: start.size + 1, to: size, seals: seals.map(({ opened }) => opened) };
  for await (const { leaf, count, line } of leavesOf(lines, { ...of, ...range })) {
    builder.append(leaf, count);
    if (number < of.seq && of.seq <= number + count) record = line;
    number += count;
  }
  const path = builder.path();
  const { leaf } = builder;
  if (leaf === undefined) throw new CannotProveError("the source ended too early");
  if (record === null)
    throw new CannotProveError(`the number ${of.seq} of ${of.boot} is sealed as one without a record`);
  const { root } = sealing.opened.seal;
  if (!verifyInclusion({ leaf, index: of.seq - 1, size, path, root }))
    throw new CannotProveError(
      `the records ${start.size + 1} to ${size} of ${of.boot} are not those that were sealed: run cardea audit verify`,
    );
  return {
    type: proofType,
    version: 1,
    id: `${of.boot}:${of.seq}`,
    record,
    leaf: leaf.toString("base64"),
    index: of.seq - 1,
    size,
    path: path.map((hash) => hash.toString("base64")),
    seal: formatEvidence(sealing.evidence),
  };
}

/** @throws CannotProveError */
export async function proveConsistency(
  lines: AsyncIterable<string> | Iterable<string>,
  of: Readonly<{ node: NodeId; boot: BootId; sizes: readonly [number, number]; seals: readonly KeptSeal[] }>,
): Promise<ConsistencyProof> {
  const seals = bySize(of.seals);
  const [first, second] = of.sizes.map((size) => seals.find(({ opened }) => opened.seal.size === size));
  if (first === undefined || second === undefined || of.sizes[0] > of.sizes[1])
    throw new CannotProveError(
      `name two sealed sizes of ${of.boot}, the smaller first: ${seals.map(({ opened }) => opened.seal.size).join(", ")}`,
    );
  const [before, after] = [first.opened.seal, second.opened.seal];
  const builder = new ConsistencyBuilder({ start: before, size: after.size });
  const range = { from: before.size + 1, to: after.size, seals: seals.map(({ opened }) => opened) };
  for await (const { leaf, count } of leavesOf(lines, { ...of, ...range })) builder.append(leaf, count);
  const proof = before.size === after.size ? [] : builder.proof();
  if (!verifyConsistency({ ...before, later: after, proof }))
    throw new CannotProveError(
      `the records ${before.size + 1} to ${after.size} of ${of.boot} are not those that were sealed: run cardea audit verify`,
    );
  return {
    type: consistencyType,
    version: 1,
    node: of.node,
    boot: of.boot,
    first: formatEvidence(first.evidence),
    second: formatEvidence(second.evidence),
    proof: proof.map((hash) => hash.toString("base64")),
  };
}

export type CheckedProof = Readonly<{
  /** What is proven, in one sentence. */
  says: string;
  /** The seals that it relies on. */
  seals: readonly OpenedEvidence[];
  /** The record; null: there is none, or its line is not in the proof. */
  record: string | null;
  erased: boolean;
}>;

const hashText = /^[A-Za-z0-9+/]{43}=$/;
const pathMax = 48;
const recordCharsMax = 1_048_576;

/** @returns the reason why it is refused as text */
export function checkProof(value: unknown): CheckedProof | string {
  if (typeof value !== "object" || value === null) return "it is not a proof";
  const fields = value as Readonly<Record<string, unknown>>;
  if (fields["version"] !== 1) return "it is of another version";
  if (fields["type"] === proofType) return checkInclusion(fields);
  return fields["type"] === consistencyType ? checkConsistency(fields) : "it is not a proof";
}

function checkInclusion(fields: Readonly<Record<string, unknown>>): CheckedProof | string {
  const { id, record, leaf, index, size } = fields;
  const path = hashesOf(fields["path"]);
  if (typeof leaf !== "string" || !hashText.test(leaf) || path === undefined) return "its hashes are malformed";
  if (typeof index !== "number" || typeof size !== "number") return "its numbers are malformed";
  const opened = openSeal(fields["seal"]);
  if (typeof opened === "string") return opened;
  const { seal } = opened;
  if (seal.size !== size) return "its seal is of another size";
  if (id !== `${seal.boot}:${index + 1}`) return "it is of another record than its seal and index say";
  const bytes = Buffer.from(leaf, "base64");
  if (!verifyInclusion({ leaf: bytes, index, size, path, root: seal.root }))
    return "the path does not lead to the root";
  let erased = false;
  if (record !== null) {
    if (typeof record !== "string" || record.length > recordCharsMax) return "its record is malformed";
    const own = recordLeafOf(Buffer.from(record));
    if (own === "not-a-record" || !own.leaf.equals(bytes)) return "its record is not the one that was sealed";
    const named = recordIn(record);
    if (named?.node !== seal.node || named.boot !== seal.boot || named.seq !== index + 1)
      return "its record names another node, boot or number";
    erased = own.erased;
  }
  const what =
    record === null ? "a record" : erased ? "the record, of which personal parts were erased," : "the record";
  const says = `${what} is number ${index + 1} of the boot ${seal.boot} of ${seal.node}, in the tree of the numbers 1 to ${size}`;
  return { says, seals: [opened], record: record === null ? null : String(record), erased };
}

function checkConsistency(fields: Readonly<Record<string, unknown>>): CheckedProof | string {
  const proof = hashesOf(fields["proof"]);
  if (proof === undefined) return "its hashes are malformed";
  const [first, second] = [openSeal(fields["first"]), openSeal(fields["second"])];
  if (typeof first === "string") return first;
  if (typeof second === "string") return second;
  const [before, after] = [first.seal, second.seal];
  if (before.node !== after.node || before.boot !== after.boot) return "its seals are of different boots";
  if (!verifyConsistency({ ...before, later: after, proof })) return "the second tree does not continue the first";
  const says = `the tree of the numbers 1 to ${after.size} of the boot ${after.boot} of ${after.node} has the numbers 1 to ${before.size} unchanged`;
  return { says, seals: [first, second], record: null, erased: false };
}

function openSeal(value: unknown): OpenedEvidence | string {
  const evidence = parseEvidence(value);
  if (evidence === undefined) return "its seal is malformed";
  const opened = openEvidence(evidence);
  return typeof opened === "string" ? `its seal is refused: ${opened}` : opened;
}

function hashesOf(value: unknown): readonly Buffer[] | undefined {
  if (!Array.isArray(value) || value.length > pathMax) return undefined;
  if (!value.every((text) => typeof text === "string" && hashText.test(text))) return undefined;
  const hashes = value.map((text: string) => Buffer.from(text, "base64"));
  return hashes.every(({ length }) => length === treeHashBytes) ? hashes : undefined;
}
