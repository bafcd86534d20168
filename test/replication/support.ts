/** Test support: histories of a log, and signers for brokers of this cluster and for strangers. */
import { createHash, randomUUID } from "node:crypto";
import {
  type BootId,
  type BrokerId,
  type CardeaEvent,
  decodeEvent,
  type Effect,
  type Epoch,
  encode,
  genesis,
  type Incarnation,
  type Link,
  linkOf,
  type NodeId,
  type Position,
  type Recorded,
  type SessionId,
  type Stream,
  streamOf,
  type UnixMs,
  type UserId,
  type WrappedKey,
} from "../../src/events/index.ts";
import type { Logger } from "../../src/replication/index.ts";
import type { LogEntry, LogPage, ReadOutcome } from "../../src/replication/log/index.ts";
import {
  type Batch,
  type Certificate,
  encodeMessage,
  enrolKey,
  enrolmentRoot,
  type MessageKind,
  type Role,
  type Signer,
  sealEnvelope,
  signingPairFromSeed,
} from "../../src/replication/wire/index.ts";
import { entryAt } from "../support/log-writer.ts";

export const cluster = "test";
export const secret = bytesOf("the shared secret");
export const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} };

export function bytesOf(seed: string): Uint8Array {
  return Uint8Array.from(createHash("sha256").update(seed).digest());
}

/**
 * One history of a log. `add` appends an event in the epoch of the head; `fork` starts another history at a position.
 */
export class History {
  readonly entries: LogEntry[];
  readonly #versions = new Map<Stream, number>();

  constructor(entries: readonly LogEntry[] = []) {
    this.entries = [...entries];
    for (const { recorded } of entries) this.#versions.set(recorded.stream, recorded.version);
  }

  get head(): Link {
    const last = this.entries.at(-1);
    return last === undefined ? genesis : linkOf(last.recorded);
  }

  open(epoch: number, incarnation = `incarnation-${epoch}`): this {
    const brokerId = "broker-1" as BrokerId;
    return this.add(
      { type: "EpochOpened", epoch: epoch as Epoch, incarnation: incarnation as Incarnation, brokerId, publicKey: "" },
      epoch,
    );
  }

  add(event: CardeaEvent, epoch: number = this.head.epoch): this {
    const stream = streamOf(event);
    const version = (this.#versions.get(stream) ?? 0) + 1;
    this.#versions.set(stream, version);
    this.entries.push(entryAt(this.head, epoch as Epoch, event, { version }));
    return this;
  }

  /** An event of a type that this build does not know, as a newer one would write it. */
  addUnknown(name: string, parts: Readonly<{ effect: Effect; stream: Stream }>): this {
    const { head } = this;
    const version = (this.#versions.get(parts.stream) ?? 0) + 1;
    this.#versions.set(parts.stream, version);
    const prefix = [head.epoch, head.position + 1, randomUUID(), parts.stream, version];
    const bytes = encode([...prefix, name, 1, parts.effect, 1_000, "system", null, { new: true }]);
    this.entries.push({ recorded: decodeEvent(bytes, head), bytes });
    return this;
  }

  /** Everything up to a position, as the start of another history. */
  fork(position: number): History {
    return new History(this.entries.slice(0, position));
  }

  linkAt(position: number): Link {
    const entry = this.entries[position - 1];
    return entry === undefined ? genesis : linkOf(entry.recorded);
  }

  /** The position at which the epoch of the head starts. */
  get start(): Position {
    const { epoch } = this.head;
    return (this.entries.findIndex(({ recorded }) => recorded.epoch === epoch) + 1) as Position;
  }

  get incarnation(): Incarnation {
    const opening = this.entries[this.start - 1]?.recorded.event;
    return opening?.type === "EpochOpened" ? opening.incarnation : ("" as Incarnation);
  }

  recorded(after: number, upTo: number): Recorded[] {
    return this.entries.slice(after, upTo).map(({ recorded }) => recorded);
  }

  range(after: number, upTo: number): { epoch: Epoch; previous: Link; events: Recorded[]; last: Link } {
    const last = this.linkAt(upTo);
    return { epoch: last.epoch, previous: this.linkAt(after), events: this.recorded(after, upTo), last };
  }

  batch(after: number, upTo: number, keys: readonly WrappedKey[] = []): Batch {
    const last = this.linkAt(upTo);
    const opening = this.entries.find(({ recorded }) => recorded.epoch === last.epoch)?.recorded.event;
    return {
      epoch: last.epoch,
      incarnation: opening?.type === "EpochOpened" ? opening.incarnation : ("" as Incarnation),
      previous: this.linkAt(after),
      entries: this.entries.slice(after, upTo).map(({ bytes }) => bytes),
      last,
      keys,
    };
  }

  /** Reads like a log (src/replication/log/log-rules.ts). */
  read(after: Link, limit: number): ReadOutcome {
    const { head } = this;
    const empty: LogPage = { previous: after, entries: [], last: after, head };
    if (after.position > head.position) {
      return after.epoch < head.epoch ? { type: "forked", head } : { type: "page", page: empty };
    }
    const at = this.linkAt(after.position);
    if (at.hash !== after.hash || at.epoch !== after.epoch) return { type: "forked", head };
    const entries = this.entries.slice(after.position, after.position + limit).map(({ bytes }) => bytes);
    const last = this.linkAt(after.position + entries.length);
    return { type: "page", page: { previous: after, entries, last, head } };
  }
}

export const sessionId = (n: number): SessionId => `session-${n}` as SessionId;
export const userId = (n: number): UserId => `user-${n}` as UserId;

export function created(n: number, user = n % 5, profile = bytesOf(`profile of ${n}`)): CardeaEvent {
  return {
    type: "SessionCreated",
    sessionId: sessionId(n),
    userId: userId(user),
    idpId: "test",
    issuedAt: 1_000 as UnixMs,
    expiresAt: 9_000_000_000_000 as UnixMs,
    profile,
  };
}

export function revoked(n: number, user = n % 5): CardeaEvent {
  return { type: "SessionRevoked", sessionId: sessionId(n), userId: userId(user), reason: "operator" };
}

/** The `n`th event of an endless history. Each `life` gives a different history. */
export function anyEvent(n: number, life = 0): CardeaEvent {
  const id = n * 10 + life;
  if (n % 7 === 3) return revoked(id - 10);
  if (n % 11 === 5) return { type: "UserSuspended", userId: userId(id % 5), reason: "test" };
  if (n % 11 === 6) return { type: "UserRestored", userId: userId((id - 10) % 5) };
  return created(id);
}

/** A history of `count` events, the first of which opens the epoch. */
export function history(count: number, epoch = 1, life = 0): History {
  const log = new History().open(epoch);
  while (log.entries.length < count) log.add(anyEvent(log.entries.length, life));
  return log;
}

type SignerParts = Partial<Omit<Certificate, "publicKey">> & Readonly<{ rootSecret?: Uint8Array; rootRole?: Role }>;

/** The signer of a broker that leads epoch 1, unless `parts` say otherwise. */
export function newSigner(parts: SignerParts = {}): Signer {
  const { rootSecret = secret, rootRole, ...identity } = parts;
  const certificate = {
    cluster,
    role: "broker" as Role,
    name: "broker-1",
    boot: "broker-boot" as BootId,
    epoch: 1 as Epoch,
    incarnation: "incarnation-1" as Incarnation,
    ...identity,
  };
  const pair = signingPairFromSeed(bytesOf(JSON.stringify(certificate)));
  return enrolKey(certificate, pair, enrolmentRoot(rootSecret, rootRole ?? certificate.role));
}

export function leaderOf(epoch: number, incarnation = `incarnation-${epoch}`): Signer {
  return newSigner({ epoch: epoch as Epoch, incarnation: incarnation as Incarnation });
}

export function sealMessage(
  signer: Signer,
  kind: MessageKind,
  message: Parameters<typeof encodeMessage>[0],
): Uint8Array {
  return sealEnvelope(signer, kind, encodeMessage(message));
}

export const aNode = "node-1" as NodeId;
export const aBoot = "boot-1" as BootId;
