/**
 * Snapshot manifest: the link and the chunk hashes of a snapshot, signed by the broker that led when it was taken.
 *
 * A snapshot is trusted because a broker of this cluster signed its manifest, and a chunk because its hash is in the
 * manifest. Only the log shows whether the link is in the log, when the events after it are read. Pure.
 */

import { hash as digestOf } from "node:crypto";
import {
  CodedError,
  decode,
  type Epoch,
  encode,
  type Hash,
  InvalidIdError,
  type Link,
  MalformedSnapshotError,
  parseEpoch,
  parseHash,
  parseIncarnation,
  parsePosition,
  parseUnixMs,
  readsLevel,
  type SnapshotCounts,
  type UnixMs,
} from "../../events/index.ts";
import type { EpochMark } from "../lease/chain-history.ts";
import type { EnvelopeOpener } from "../wire/broker-opener.ts";
import { type Signer, sealEnvelope } from "../wire/envelope.ts";
import { type ChunkRef, projectorVersion } from "./builder.ts";

/** Format of the manifest; chunks have their own (`chunkFormat`). */
const manifestFormat = 2;
export const chunksMax = 1_024;
/** Upper bound of one unpacked chunk. */
export const chunkBytesMax = 256 * 1024 * 1024;
export const manifestBytesMax = 1024 * 1024;

export type SnapshotManifest = Readonly<{
  cluster: string;
  link: Link;
  digest: string;
  counts: SnapshotCounts;
  /** The level of the cluster at the link. A build that reads only lower levels cannot continue from the snapshot. */
  level: number;
  projectorVersion: number;
  /** Every epoch up to the link, oldest first. */
  epochs: readonly EpochMark[];
  takenAt: UnixMs;
  chunks: readonly ChunkRef[];
}>;

/** A manifest with its signed envelope. `id`: the hash by which the log names it. */
export type SignedManifest = Readonly<{
  id: Hash;
  envelope: Uint8Array;
  manifest: SnapshotManifest;
  signer: Readonly<{ brokerId: string; epoch: Epoch }>;
}>;

/**
 * The manifest is not of this cluster, not signed by one of its brokers, or of a format that this build does not know.
 */
export class SnapshotRefusedError extends CodedError<"ERR_REPLICATION_SNAPSHOT_REFUSED"> {
  override readonly code = "ERR_REPLICATION_SNAPSHOT_REFUSED";
  constructor(problem: string, options?: ErrorOptions) {
    super(`a snapshot is refused: ${problem}`, options);
  }
}

export function sealManifest(speaker: Signer, manifest: SnapshotManifest): SignedManifest {
  const payload = encodeManifest(manifest);
  const { name, epoch } = speaker.certificate;
  return {
    id: idOf(payload),
    envelope: Uint8Array.from(sealEnvelope(speaker, "snapshot", payload)),
    manifest,
    signer: { brokerId: name, epoch },
  };
}

/**
 * @param open accepts only envelopes of brokers of this cluster
 * @throws SnapshotRefusedError
 */
export function openManifest(envelope: Uint8Array, open: EnvelopeOpener): SignedManifest {
  const opened = open(envelope);
  if ("refused" in opened) throw new SnapshotRefusedError(opened.refused);
  if (opened.kind !== "snapshot") throw new SnapshotRefusedError(`a ${opened.kind} is not a snapshot`);
  const manifest = parseManifest(opened.payload);
  const { cluster, role, epoch, name } = opened.from;
  if (manifest.cluster !== cluster) throw new SnapshotRefusedError("another cluster");
  if (role !== "broker" || epoch === 0 || epoch < manifest.link.epoch)
    throw new SnapshotRefusedError("its signer did not lead when it was taken");
  return { id: idOf(opened.payload), envelope, manifest, signer: { brokerId: name, epoch } };
}

/** True when two manifests have the same content, whatever their signatures. */
export function sameContent(a: SnapshotManifest, b: SnapshotManifest): boolean {
  const content = ({ link, digest, chunks }: SnapshotManifest) => JSON.stringify([link, digest, chunks]);
  return content(a) === content(b);
}

export function hashOfChunk(bytes: Uint8Array): Hash {
  return digestOf("sha256", bytes, "hex") as Hash;
}

function idOf(payload: Uint8Array): Hash {
  return digestOf("sha256", payload, "hex") as Hash;
}

function encodeManifest(m: SnapshotManifest): Uint8Array {
  return encode([
    "cardea snapshot",
    manifestFormat,
    m.cluster,
    [m.link.epoch, m.link.position, m.link.hash],
    m.digest,
    [m.counts.sessions, m.counts.users, m.counts.groups],
    m.level,
    m.projectorVersion,
    m.epochs.map(({ epoch, start, incarnation }) => [epoch, start, incarnation]),
    m.takenAt,
    m.chunks.map(({ hash, bytes }) => [hash, bytes]),
  ]);
}

/** @throws SnapshotRefusedError */
function parseManifest(payload: Uint8Array): SnapshotManifest {
  let fields: unknown;
  try {
    fields = decode(payload);
  } catch (cause) {
    throw new SnapshotRefusedError("its manifest cannot be read", { cause });
  }
  if (!Array.isArray(fields) || fields[0] !== "cardea snapshot") throw new SnapshotRefusedError("not a manifest");
  const format: unknown = fields[1];
  if (format !== manifestFormat)
    throw new SnapshotRefusedError(`it is of format ${String(format)}, and this build reads format ${manifestFormat}`);
  try {
    return checked(fields);
  } catch (cause) {
    if (cause instanceof SnapshotRefusedError) throw cause;
    const problem = cause instanceof InvalidIdError || cause instanceof MalformedSnapshotError ? cause.message : "odd";
    throw new SnapshotRefusedError(`its manifest is malformed: ${problem}`, { cause });
  }
}

function checked(fields: readonly unknown[]): SnapshotManifest {
  const [, , cluster, link, digest, counts, level, projector, epochs, takenAt, chunks] = list(fields, 11);
  const [epoch, position, hash] = list(link, 3);
  const [sessions, users, groups] = list(counts, 3);
  if (parsePosition(level) > readsLevel)
    throw new SnapshotRefusedError(
      `the cluster has finalized level ${String(level)}, and this build reads level ${readsLevel}: start a newer one`,
    );
  if (projector !== projectorVersion)
    throw new SnapshotRefusedError(
      `it was built by projector version ${String(projector)}, not by ${projectorVersion}`,
    );
  const refs = list(chunks).map((chunk) => {
    const [chunkHash, bytes] = list(chunk, 2);
    return { hash: parseHash(chunkHash), bytes: parsePosition(bytes) as number };
  });
  if (refs.length === 0 || refs.length > chunksMax || refs.some(({ bytes }) => bytes > chunkBytesMax))
    throw new SnapshotRefusedError("it has too many chunks, or chunks that are too large");
  return {
    cluster: text(cluster),
    link: { epoch: parseEpoch(epoch), position: parsePosition(position), hash: parseHash(hash) },
    digest: parseHash(digest),
    counts: { sessions: parsePosition(sessions), users: parsePosition(users), groups: parsePosition(groups) },
    level: parsePosition(level) as number,
    projectorVersion,
    epochs: list(epochs).map((mark) => {
      const [of, start, incarnation] = list(mark, 3);
      return {
        epoch: parseEpoch(of),
        start: parsePosition(start),
        incarnation: incarnation === null ? null : parseIncarnation(incarnation),
      };
    }),
    takenAt: parseUnixMs(takenAt),
    chunks: refs,
  };
}

function list(value: unknown, count?: number): readonly unknown[] {
  if (Array.isArray(value) && (count === undefined || value.length === count)) return value;
  throw new MalformedSnapshotError("expected a list");
}

function text(value: unknown): string {
  if (typeof value === "string") return value;
  throw new MalformedSnapshotError("expected a string");
}
