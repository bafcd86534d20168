/**
 * Record proof: the signature of a message of decision records. It proves the origin and integrity of the message.
 * Pure.
 *
 * - Each message has one Ed25519 signature with the node's enrolled key, which also signs its renews. The proof is in a
 *   header, so the message itself stays JSON lines.
 * - The proof covers the subject, the first and last number, the time of signing and the SHA-256 of the message. Its
 *   certificate names cluster, node and boot. Every record in the message must name the same node and boot.
 * - A later boot of the node may publish what an earlier one left. The proof then names the earlier boot, too.
 * - Checks run from cheap to expensive: size, tag, repetition, signature, digest, and only then the JSON lines.
 * - A node signs anew at each attempt to publish, so an old proof on a new message of the stream is a replay.
 */
import { createHmac, hash as digestOf } from "node:crypto";
import { LRUCache } from "lru-cache";
import { decode, encode, MalformedEventError } from "../events/index.ts";
import { checkDeliveryTag, createDeliveryTag, deliveryTagKey } from "../replication/fanout/index.ts";
import { type Certificate, createEnvelopeOpener, enrolmentRoot, type Role } from "../replication/wire/index.ts";
import { type AuditRecord, parseLine } from "./audit-record.ts";
import { auditSubject } from "./audit-subject.ts";

/** Names of the two headers. */
export const proofHeader = "Cardea-Proof";
export const proofTagHeader = "Cardea-Tag";

/** A message is at most 512 KiB, or a single larger record. The default limit of NATS is 1 MB. */
export const recordMessageBytesMax = 1024 * 1024;
/** Subject, reply subject and headers; a proof is about 900 characters. */
const overheadBytesMax = 4_096;
/** Tolerance for clock differences between nodes and NATS servers, and for the duration of a publication. */
const clockMsMax = 120_000;
/** Most numbers that may be missing between two records; a larger jump is a false number, not a loss. */
const jumpMax = 10_000_000;
const bootsMax = 10_000;
const bootCharsMax = 128;
const signaturesMax = 16_384;

export const recordRefusals = [
  "too-large",
  "unsigned",
  "repeated",
  "not-authentic",
  "altered",
  "foreign",
  "outdated",
  "far-ahead",
  "malformed",
] as const;
export type RecordRefusal = (typeof recordRefusals)[number];

export type RecordSigner = Readonly<{
  /** Seals a payload with the node's enrolled key, in an envelope of the kind `audit`. */
  seal: (payload: Uint8Array) => Uint8Array;
  /** The shared secret, from which the key of tags is derived. */
  secret: Uint8Array;
}>;

export type RecordMessage = Readonly<{
  subject: string;
  first: number;
  last: number;
  bytes: Uint8Array;
  /** An earlier boot of the same node, whose records the signing boot found in the spool. Absent: the signing boot. */
  boot?: string;
}>;

/** @returns the headers of the message, by name */
export function proveRecords(
  { subject, first, last, bytes, boot }: RecordMessage,
  signer: RecordSigner,
  atMs: number,
): Readonly<Record<string, string>> {
  const digest = digestOf("sha256", bytes, "buffer");
  const claims = [subject, first, last, Math.trunc(atMs), digest];
  const envelope = signer.seal(encode(boot === undefined ? claims : [...claims, boot]));
  return {
    [proofHeader]: Buffer.from(envelope).toString("base64url"),
    [proofTagHeader]: createDeliveryTag(envelope, deliveryTagKey(signer.secret), atMs),
  };
}

/**
 * The message id, by which JetStream drops repetitions: equal for equal records of a boot. It is keyed, because a
 * stranger who publishes first under a guessed id could make the stream drop the genuine message.
 */
export function recordMessageId({ first, last }: RecordMessage, boot: string, secret: Uint8Array): string {
  return createHmac("sha256", deliveryTagKey(secret))
    .update(encode([boot, first, last]))
    .digest("base64url");
}

/** A message as received from the stream. */
export type ReceivedRecords = Readonly<{
  subject: string;
  bytes: Uint8Array;
  /** Length of subjects and headers. */
  overheadBytes: number;
  /** Called only if the sizes are acceptable, because parsing headers takes time. */
  header: (name: string) => string | undefined;
  /** Time of storage by the NATS server's clock, in milliseconds since 1970. */
  storedAtMs: number;
}>;

export type OpenedRecords = Readonly<{
  /** The records not seen before, in order. `index`: line number in the message, from 0. */
  records: readonly Readonly<{ record: AuditRecord; index: number; bytes: number }>[];
}>;

export type RecordVerifierCounts = Readonly<{
  /** Refused messages by reason. */
  refused: Readonly<Record<RecordRefusal, number>>;
  /** Numbers that neither arrived nor are declared lost: removed from the stream, or lost unnoticed. */
  missing: number;
}>;

export type RecordVerifier = Readonly<{
  open: (message: ReceivedRecords) => OpenedRecords | Readonly<{ refused: RecordRefusal }>;
  counts: () => RecordVerifierCounts;
}>;

/** The roles of processes that make decisions, sign people in, or serve operators. */
const signingRoles: readonly Role[] = ["proxy", "authorize", "authenticate"];
/** A process of this role decides nothing, so it signs acts and gaps only. */
const actsOnly: Role = "authenticate";

type Claims = Readonly<{
  subject: string;
  first: number;
  last: number;
  signedAtMs: number;
  digest: Uint8Array;
  /** Null: the boot of the certificate. */
  boot: string | null;
}>;

export type VerifierOptions = Readonly<{
  cluster: string;
  /** The shared secret, and the previous one during a rotation. */
  secrets: readonly Uint8Array[];
  /** Messages signed more than two minutes before this time are refused as not wanted. Milliseconds since 1970. */
  fromMs: number;
}>;

export function createRecordVerifier(options: VerifierOptions): RecordVerifier {
  const tagKeys = options.secrets.map(deliveryTagKey);
  const openers = options.secrets.map((secret) => {
    const roots = new Map(signingRoles.map((role) => [role, enrolmentRoot(secret, role).publicKey]));
    return createEnvelopeOpener({ cluster: options.cluster, rootOf: (role) => roots.get(role) });
  });
  /** The newest number of each node's boot. */
  const newest = new LRUCache<string, number>({ max: bootsMax });
  const signatures = new LRUCache<string, true>({ max: signaturesMax });
  const refused: Record<RecordRefusal, number> = {
    "too-large": 0,
    unsigned: 0,
    repeated: 0,
    "not-authentic": 0,
    altered: 0,
    foreign: 0,
    outdated: 0,
    "far-ahead": 0,
    malformed: 0,
  };
  let missing = 0;

  function open(message: ReceivedRecords): OpenedRecords | RecordRefusal {
    const { bytes, overheadBytes, storedAtMs } = message;
    if (bytes.length > recordMessageBytesMax || overheadBytes > overheadBytesMax) return "too-large";
    const envelope = Buffer.from(message.header(proofHeader) ?? "", "base64url");
    if (checkDeliveryTag(message.header(proofTagHeader), envelope, tagKeys) === undefined) return "unsigned";
    const signature = envelope.subarray(-64).toString("latin1");
    if (signatures.has(signature)) return "repeated";
    const opened = openers.map((one) => one(envelope)).find((one) => !("refused" in one));
    if (opened === undefined || "refused" in opened || opened.kind !== "audit") return "not-authentic";
    const claims = claimsIn(opened.payload);
    if (claims === undefined) return "not-authentic";
    if (claims.subject !== message.subject) return "foreign";
    if (Buffer.compare(claims.digest, digestOf("sha256", bytes, "buffer")) !== 0) return "altered";
    if (claims.signedAtMs > storedAtMs + clockMsMax) return "far-ahead";
    if (claims.signedAtMs < Math.max(storedAtMs, options.fromMs) - clockMsMax) return "outdated";
    signatures.set(signature, true);
    return acceptRecords(message, claims, opened.from);
  }

  function acceptRecords(message: ReceivedRecords, claims: Claims, from: Certificate): OpenedRecords | RecordRefusal {
    const entries = entriesIn(message.bytes);
    if (entries === undefined) return "malformed";
    if (from.role === actsOnly && entries.some(({ record }) => record.kind === "decision")) return "not-authentic";
    const recordBoot = claims.boot ?? from.boot;
    const isForeign = entries.some(
      ({ record }) =>
        record.node !== from.name ||
        record.boot !== recordBoot ||
        auditSubject({ cluster: options.cluster, node: record.node, region: regionIn(message.subject) }) !==
          message.subject,
    );
    if (isForeign) return "foreign";
    if (!isDense(entries, claims)) return "malformed";
    if (entries.some(({ record }) => record.at > message.storedAtMs + clockMsMax)) return "far-ahead";
    const boot = JSON.stringify([from.name, recordBoot]);
    const before = newest.get(boot);
    const fresh = before === undefined ? entries : entries.filter(({ record }) => record.seq > before);
    const [first] = fresh;
    if (first === undefined) return "repeated";
    const next = (before ?? 0) + 1;
    const begins = first.record.kind === "gap" ? first.record.first : first.record.seq;
    if (before !== undefined && begins - next > jumpMax) return "far-ahead";
    if (before !== undefined) missing += Math.max(0, begins - next);
    newest.set(boot, claims.last);
    return { records: fresh };
  }

  return {
    open(message) {
      const opened = open(message);
      if (typeof opened !== "string") return opened;
      refused[opened] += 1;
      return { refused: opened };
    },
    counts: () => ({ refused: { ...refused }, missing }),
  };
}

function claimsIn(payload: Uint8Array): Claims | undefined {
  let fields: unknown;
  try {
    fields = decode(payload);
  } catch (error) {
    if (error instanceof MalformedEventError) return undefined;
    throw error;
  }
  if (!Array.isArray(fields) || fields.length < 5 || fields.length > 6) return undefined;
  const [subject, first, last, signedAtMs, digest, boot = null] = fields;
  if (typeof subject !== "string" || !(digest instanceof Uint8Array)) return undefined;
  if (![first, last, signedAtMs].every((value) => Number.isSafeInteger(value) && value >= 0)) return undefined;
  if (boot !== null && (typeof boot !== "string" || boot.length > bootCharsMax)) return undefined;
  return { subject, first, last, signedAtMs, digest, boot };
}

type Entry = OpenedRecords["records"][number];

/** @returns undefined if a line is not a record */
function entriesIn(bytes: Uint8Array): readonly Entry[] | undefined {
  const entries: Entry[] = [];
  for (const [index, line] of Buffer.from(bytes).toString("utf8").split("\n").entries()) {
    if (line === "") continue;
    const record = parseLine(line);
    if (record === undefined || !isComplete(record)) return undefined;
    entries.push({ record, index, bytes: line.length });
  }
  return entries;
}

/** Checks the fields that every reader relies on. The signing node is trusted for the rest. */
function isComplete(record: AuditRecord): boolean {
  const { node, boot, at, seq } = record as Partial<AuditRecord>;
  if (typeof node !== "string" || typeof boot !== "string" || !Number.isFinite(at)) return false;
  if (seq === undefined || seq < 1) return false;
  if (record.kind !== "gap") return true;
  return Number.isSafeInteger(record.first) && record.first >= 1 && record.first <= record.seq && record.last === seq;
}

/**
 * Whether the numbers are exactly those of the proof. A gap is alone in its message, under the last number it covers.
 */
function isDense(entries: readonly Entry[], { first, last }: Claims): boolean {
  if (entries.length === 0 || entries.length !== last - first + 1) return false;
  return entries.every(({ record }, index) => record.seq === first + index);
}

function regionIn(subject: string): string {
  return subject.split(".")[2] ?? "";
}
