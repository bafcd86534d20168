/**
 * Postgres statements: the calls of the Postgres log to its functions (migrations/postgres-migrations.ts), and the
 * parsing of their refusals. Pure.
 *
 * The bytes of all events of a batch are sent as one block: as an array they would be written out in hexadecimal twice.
 */
import type { DatabaseError } from "pg";
import {
  type CommandId,
  configBodiesMax,
  type Link,
  parseEpoch,
  parseHash,
  parsePosition,
  type StoredConfiguration,
  type Stream,
} from "../../../events/index.ts";
import { joinBytes } from "../byte-list.ts";
import type {
  AdmittedNode,
  AppendBatch,
  AppendOutcome,
  BeatOutcome,
  BeatRequest,
  Lessee,
  LogEntry,
  NodeName,
  OpenEpochRequest,
} from "../log.ts";
import { encodeBigints, encodeIntegers, encodeTexts, encodeUuids } from "./array.ts";
import type { PostgresRow, Statement } from "./connection.ts";

/** An append that is ready to send, except for the durable link at that time. */
export type LaidOutAppend = Readonly<{
  before: readonly unknown[];
  after: readonly unknown[];
  /** Arguments of `put_configurations`; null: no configurations, the usual case. */
  configurations: readonly unknown[] | null;
  /** Arguments of `note_nodes`; null: none, the usual case. */
  nodes: readonly unknown[] | null;
}>;

export function layOutAppend(batch: AppendBatch, asynchronous: "refuse" | "accept"): LaidOutAppend {
  const recorded = batch.entries.map((entry) => entry.recorded);
  const { block, lengths } = joinBytes(batch.entries.map((entry) => entry.bytes));
  let at = 1;
  const offsets = lengths.map((length) => {
    at += length;
    return at - length;
  });
  const vault = [
    ...new Map([...batch.vault].sort((a, b) => a.version - b.version).map((v) => [v.sessionId, v])).values(),
  ];
  const before = [asynchronous === "accept", batch.epoch, batch.incarnation, ...linkValues(batch.previous)];
  const after = [
    block,
    encodeIntegers(offsets),
    encodeIntegers(lengths),
    Buffer.from(recorded.map((r) => r.hash).join(""), "hex"),
    encodeUuids(recorded.map((r) => r.eventId)),
    encodeTexts(recorded.map((r) => r.stream)),
    encodeBigints(recorded.map((r) => r.version)),
    encodeTexts(recorded.map((r) => r.type)),
    encodeIntegers(recorded.map((r) => r.schemaVersion)),
    encodeTexts(recorded.map((r) => r.effect)),
    encodeBigints(recorded.map((r) => r.recordedAt)),
    encodeTexts(recorded.map((r) => r.actor)),
    encodeUuids(recorded.map((r) => r.cause)),
    encodeUuids(batch.commands.map((c) => c.commandId)),
    encodeBigints(batch.commands.map((c) => c.first)),
    encodeIntegers(batch.commands.map((c) => c.count)),
    encodeTexts(batch.streams.map((s) => s.stream)),
    encodeBigints(batch.streams.map((s) => s.expected)),
    encodeBigints(batch.streams.map((s) => s.next)),
    batch.newKeys.map((k) => k.userId),
    batch.newKeys.map((k) => k.keyId),
    batch.newKeys.map((k) => k.wrapped),
    [...new Set(batch.erasedKeys)],
    vault.map((v) => v.sessionId),
    encodeBigints(vault.map((v) => v.version)),
    vault.map((v) => v.sealed),
    batch.vaultRemoved,
  ];
  const { configurations, retired = [] } = batch;
  return {
    before,
    after,
    configurations: configurations.length === 0 ? null : configurationValues(configurations),
    nodes: nodeValues(retired, []),
  };
}

/** The arguments of `put_configurations`. */
export function configurationValues(configurations: readonly StoredConfiguration[]): readonly unknown[] {
  return [
    encodeTexts(configurations.map((c) => c.configHash)),
    encodeBigints(configurations.map((c) => c.recordedAt)),
    configurations.map((c) => c.body),
    configBodiesMax,
  ];
}

/** @param durable the link known to be covered by a clean commit of the epoch of the batch */
export function appendStatement(schema: string, append: LaidOutAppend, durable: Link): Statement {
  const { before, after, configurations, nodes } = append;
  const values = [...before, ...durableValues(durable), ...after];
  return callBeside(schema, { name: "append", values }, { put_configurations: configurations, note_nodes: nodes });
}

/** Calls functions in one statement, and so in one commit. @param beside null: not called */
function callBeside(
  schema: string,
  first: Readonly<{ name: string; values: readonly unknown[] }>,
  beside: Readonly<Record<string, readonly unknown[] | null>>,
): Statement {
  const values = [...first.values];
  const calls = [call(schema, first.name, values.length)];
  for (const [name, more] of Object.entries(beside)) {
    if (more === null) continue;
    calls.push(`"${schema}".${name}(${more.map((_, i) => `$${values.length + i + 1}`).join(", ")})`);
    values.push(...more);
  }
  const text = `${calls.join(", ")}, ${waits}`;
  return calls.length === 1 ? { name: `cardea ${first.name}`, text, values } : { text, values };
}

/** The arguments of `note_nodes`; null: nothing to note. */
function nodeValues(departed: readonly NodeName[], admitted: readonly AdmittedNode[]): readonly unknown[] | null {
  if (departed.length + admitted.length === 0) return null;
  const each = [...new Map(admitted.map((n) => [JSON.stringify([n.node, n.role]), n])).values()];
  return [
    departed.map((n) => n.node),
    departed.map((n) => n.role),
    each.map((n) => n.node),
    each.map((n) => n.role),
    each.map((n) => n.region),
    each.map((n) => n.boot),
    encodeBigints(each.map((n) => n.heardAt)),
    encodeBigints(each.map((n) => n.applied)),
  ];
}

export function beatStatement(
  schema: string,
  beat: BeatRequest,
  durable: Link,
  asynchronous: "refuse" | "accept",
): Statement {
  const lessees = new Map<string, Lessee>();
  for (const lessee of beat.lessees) {
    const key = JSON.stringify([lessee.node, lessee.boot]);
    lessees.set(key, { ...lessee, windowMs: Math.max(lessee.windowMs, lessees.get(key)?.windowMs ?? 0) });
  }
  const each = [...lessees.values()];
  const values = [
    asynchronous === "accept",
    beat.epoch,
    beat.incarnation,
    ...linkValues(beat.head),
    ...durableValues(durable),
    each.map((l) => l.node),
    each.map((l) => l.boot),
    each.map((l) => l.region),
    each.map((l) => l.role),
    encodeBigints(each.map((l) => l.windowMs)),
    beat.left.map((l) => l.node),
    beat.left.map((l) => l.boot),
  ];
  const nodes = nodeValues(beat.departed ?? [], beat.admitted ?? []);
  return callBeside(schema, { name: "beat", values }, { note_nodes: nodes });
}

export function openEpochStatement(
  schema: string,
  request: OpenEpochRequest,
  { recorded, bytes }: LogEntry,
  previous: Link,
  asynchronous: "refuse" | "accept",
): Statement {
  const values = [
    asynchronous === "accept",
    request.expected,
    ...linkValues(previous),
    recorded.epoch,
    request.incarnation,
    request.brokerId,
    request.brokerUrl,
    Buffer.from(recorded.hash, "hex"),
    bytes,
    recorded.eventId,
    recorded.stream,
    recorded.version,
    recorded.type,
    recorded.schemaVersion,
    recorded.effect,
    recorded.recordedAt,
    recorded.actor,
    recorded.cause,
  ];
  return { text: call(schema, "open_epoch", values.length), values };
}

/** Parses the refusals that the functions raise. For any other refusal, the server certainly wrote nothing. */
export function readRefusal(error: DatabaseError): Exclude<AppendOutcome, { type: "appended" | "indeterminate" }> {
  const facts = error.detail === undefined ? undefined : parseJson(error.detail);
  switch (error.code) {
    case "BL001":
      return { type: "fenced", epoch: parseEpoch(field(facts, "epoch")) };
    case "BL002":
      return { type: "head-moved", head: linkFrom(field(facts, "epoch"), field(facts, "pos"), field(facts, "hash")) };
    case "BL003":
      return {
        type: "version-conflict",
        streams: (facts as { stream: Stream; actual: number }[]).map(({ stream, actual }) => ({ stream, actual })),
      };
    case "BL004":
      return {
        type: "duplicate-command",
        commandId: field(facts, "commandId") as CommandId,
        first: parsePosition(field(facts, "first")),
        count: Number(field(facts, "count")),
      };
    default:
      return { type: "unavailable", cause: error };
  }
}

export function readBeatRefusal(error: DatabaseError): Exclude<BeatOutcome, { type: "beaten" | "indeterminate" }> {
  const refusal = readRefusal(error);
  if (refusal.type === "fenced" || refusal.type === "head-moved") return refusal;
  return { type: "unavailable", cause: error };
}

/** Parses a link from columns, in which integers are text and hashes are bytes. */
export function linkFrom(epoch: unknown, position: unknown, hash: unknown): Link {
  return {
    epoch: parseEpoch(Number(epoch)),
    position: parsePosition(Number(position)),
    hash: parseHash(hash instanceof Uint8Array ? Buffer.from(hash).toString("hex") : hash),
  };
}

/**
 * @returns whether the commit of an append or a beat had to wait for standbys. It proves nothing: the wait may have
 * ended early
 */
export function hasToWait(rows: readonly PostgresRow[]): boolean {
  return rows[0]?.["waits"] === true;
}

/** The settings of the session when the statement began. A session reads new ones between statements. */
const waits = `current_setting('synchronous_standby_names') <> '' and current_setting('max_wal_senders') <> '0'
  and current_setting('synchronous_commit') in ('on', 'remote_apply') as waits`;

function call(schema: string, name: string, count: number): string {
  return `select "${schema}".${name}(${Array.from({ length: count }, (_, i) => `$${i + 1}`).join(", ")})`;
}
function linkValues({ position, hash }: Link): readonly unknown[] {
  return [position, Buffer.from(hash, "hex")];
}
function durableValues({ position, epoch, hash }: Link): readonly unknown[] {
  return [position, epoch, Buffer.from(hash, "hex")];
}
function parseJson(text: string): unknown {
  return JSON.parse(text);
}
function field(facts: unknown, name: string): unknown {
  return typeof facts === "object" && facts !== null ? (facts as Readonly<Record<string, unknown>>)[name] : undefined;
}
