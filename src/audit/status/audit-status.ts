/**
 * Audit status: how many records of a node each of its sinks does not have. Pure.
 *
 * - `blind` is one number per node and sink: records that wait in memory or in the spool, that the sink rejected, or
 *   that are lost. The first ends by itself; the others do not, until the process restarts.
 * - In a cluster each node reports its status, signed with its enrolled key. A report proves its node and its time.
 */
import { LRUCache } from "lru-cache";
import { decode, encode, MalformedEventError } from "../../events/index.ts";
import { checkDeliveryTag, createDeliveryTag, deliveryTagKey } from "../../replication/fanout/index.ts";
import { createEnvelopeOpener, enrolmentRoot, type Role } from "../../replication/wire/index.ts";
import type { RecordSigner } from "../record-proof.ts";
import type { RecorderStats } from "../recorder.ts";

export type SinkStatus = Readonly<{
  name: string;
  /** Records that the sink does not have: `waiting`, `lost` and `deadLetters` together. */
  blind: number;
  waiting: number;
  lost: number;
  deadLetters: number;
  lagMs: number;
  failing: boolean;
  /** Records that the sink took since the start, and when last; null: none. Absent: a node of an older version. */
  written?: number;
  writtenAtMs?: number | null;
}>;

export type NodeAuditStatus = Readonly<{
  node: string;
  boot: string;
  region: string;
  /** By the clock of the node, milliseconds since 1970. */
  atMs: number;
  spoolBytes: number;
  spoolBytesMax: number;
  /** Why strict routes answer 503 now; null: they do not. */
  refusal: string | null;
  sinks: readonly SinkStatus[];
}>;

/** A status, and how long ago it was received; 0: of this process. */
export type HeardStatus = NodeAuditStatus & Readonly<{ heardAgoMs: number }>;

export const statusBytesMax = 16 * 1024;
const sinksMax = 32;
const textCharsMax = 200;
const nodesMax = 10_000;
/** Tolerance for the difference of two clocks, and for the way of the message. */
const clockMsMax = 120_000;
const roles: readonly Role[] = ["proxy", "authorize", "authenticate"];

/** What a sink of this process does not have. */
export function blindOf(stats: Pick<RecorderStats, "pending" | "sinks">, name: string): number {
  const sink = stats.sinks.find((one) => one.name === name);
  return sink === undefined ? 0 : stats.pending + sink.queued + sink.lost + sink.deadLetters;
}

export function statusOf(
  stats: Pick<RecorderStats, "pending" | "sinks" | "spoolBytes" | "refusal">,
  node: Pick<NodeAuditStatus, "node" | "boot" | "region" | "atMs" | "spoolBytesMax">,
): NodeAuditStatus {
  const sinks = stats.sinks.slice(0, sinksMax).map(({ name, queued, lost, deadLetters, lagMs, ...sink }) => ({
    name: name.slice(0, textCharsMax),
    blind: blindOf(stats, name),
    waiting: stats.pending + queued,
    lost,
    deadLetters,
    lagMs: Math.round(lagMs),
    failing: sink.failing,
    written: sink.written,
    writtenAtMs: sink.writtenAtMs,
  }));
  return { ...node, spoolBytes: stats.spoolBytes, refusal: stats.refusal, sinks };
}

export type SignedStatus = Readonly<{ envelope: Uint8Array; tag: string }>;

/** The tag costs a reader less to check than the signature, so a stranger cannot keep it busy. */
export function signStatus(status: NodeAuditStatus, signer: RecordSigner): SignedStatus {
  const envelope = signer.seal(encode(["audit status", status]));
  return { envelope, tag: createDeliveryTag(envelope, deliveryTagKey(signer.secret), status.atMs) };
}

export type StatusBoard = Readonly<{
  /** @returns why it is refused; null: accepted */
  accept(
    report: Readonly<{ envelope: Uint8Array; tag: string | undefined }>,
  ): "too-large" | "unsigned" | "not-authentic" | "malformed" | "foreign" | "outdated" | null;
  /** The newest status of each node, by name. */
  list(): readonly HeardStatus[];
}>;

/** The newest status of each node that reports, and of those that have fallen silent. */
export function createStatusBoard(options: {
  cluster: string;
  secrets: readonly Uint8Array[];
  nowMs: () => number;
  monotonicMs: () => number;
}): StatusBoard {
  const openers = options.secrets.map((secret) => {
    const roots = new Map(roles.map((role) => [role, enrolmentRoot(secret, role).publicKey]));
    return createEnvelopeOpener({ cluster: options.cluster, rootOf: (role) => roots.get(role) });
  });
  const tagKeys = options.secrets.map(deliveryTagKey);
  const newest = new LRUCache<string, Readonly<{ status: NodeAuditStatus; heardMs: number }>>({
    maxSize: nodesMax, // with `max`, the whole table would be allocated now
    sizeCalculation: () => 1,
  });
  return {
    accept({ envelope, tag }) {
      if (envelope.length > statusBytesMax) return "too-large";
      if (checkDeliveryTag(tag, envelope, tagKeys) === undefined) return "unsigned";
      const opened = openers.map((open) => open(envelope)).find((one) => !("refused" in one));
      if (opened === undefined || "refused" in opened || opened.kind !== "audit") return "not-authentic";
      const status = parseStatus(opened.payload);
      if (status === undefined) return "malformed";
      if (status.node !== opened.from.name || status.boot !== opened.from.boot) return "foreign";
      const before = newest.peek(status.node)?.status.atMs ?? Number.NEGATIVE_INFINITY;
      if (Math.abs(status.atMs - options.nowMs()) > clockMsMax || status.atMs <= before) return "outdated";
      newest.set(status.node, { status, heardMs: options.monotonicMs() });
      return null;
    },
    list() {
      const now = options.monotonicMs();
      return [...newest.values()]
        .map(({ status, heardMs }) => ({ ...status, heardAgoMs: Math.max(0, Math.round(now - heardMs)) }))
        .sort((a, b) => (a.node < b.node ? -1 : 1));
    },
  };
}

function parseStatus(payload: Uint8Array): NodeAuditStatus | undefined {
  let fields: unknown;
  try {
    fields = decode(payload);
  } catch (error) {
    if (error instanceof MalformedEventError) return undefined;
    throw error;
  }
  const [title, value] = Array.isArray(fields) ? fields : [];
  if (title !== "audit status" || !isObject(value)) return undefined;
  const { node, boot, region, atMs, spoolBytes, spoolBytesMax, refusal, sinks } = value;
  if (![node, boot, region, refusal ?? ""].every(isText)) return undefined;
  if (![atMs, spoolBytes, spoolBytesMax].every(isCount)) return undefined;
  if (!Array.isArray(sinks) || sinks.length > sinksMax || !sinks.every(isSinkStatus)) return undefined;
  return value as NodeAuditStatus;
}

function isSinkStatus(value: unknown): boolean {
  if (!isObject(value)) return false;
  const { name, blind, waiting, lost, deadLetters, lagMs, failing, written = 0, writtenAtMs = null } = value;
  if (!isCount(written) || !(writtenAtMs === null || isCount(writtenAtMs))) return false;
  return isText(name) && typeof failing === "boolean" && [blind, waiting, lost, deadLetters, lagMs].every(isCount);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isText(value: unknown): boolean {
  return typeof value === "string" && value.length <= textCharsMax;
}

function isCount(value: unknown): boolean {
  return typeof value === "number" && Number.isFinite(value) && value >= 0;
}
