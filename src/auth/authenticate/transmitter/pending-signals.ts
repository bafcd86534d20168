/**
 * Pending signals: the part of the log after a stream's cursor, as the signals that the stream still has to deliver.
 * Pure; the log is read through `SignalSource`.
 *
 * - Order is that of the log, and each signal has the same identity whenever and wherever it is read.
 * - At most `windowMax` signals are held. What follows stays in the log until there is room.
 * - An event is read only once the projection has folded it: the projection then knows its people.
 * - No name of a person is kept while a signal waits: it is opened when the token is made, and an erasure leaves none.
 */
import type { SentSignal } from "../../../config/index.ts";
import {
  decodeEvents,
  isProvisioned,
  isSignalRecord,
  type Link,
  type Position,
  type Profile,
  type Recorded,
  type SessionId,
  type Stream,
  type UserId,
} from "../../../events/index.ts";
import type { PageOutcome } from "../../../replication/index.ts";
import { includesUser, type SubjectRules } from "./signal-subjects.ts";
import { type Signal, signalsOf } from "./signals.ts";
import { type Cursor, isBefore, jtiOf, type SignalStream, windowMax } from "./stream-record.ts";

/** What names a person. */
export type Identity = Pick<Profile, "issuer" | "subject" | "email" | "emailVerified" | "name" | "claims">;

export type SignalSource = Readonly<{
  read: (after: Link, limit: number) => Promise<PageOutcome>;
  /** The position up to which the projection has folded the log. */
  applied: () => Position;
  /** What names each person; erased and unknown people are absent. */
  identities: (users: readonly UserId[]) => Promise<ReadonlyMap<UserId, Identity>>;
  /** Those of restored people who are still barred by something else. */
  stillBarred: (users: readonly UserId[], identities: ReadonlyMap<UserId, Identity>) => Promise<ReadonlySet<UserId>>;
  /** The person of a session, if the projection knows the session. */
  userOf: (sessionId: SessionId) => UserId | null;
}>;

export type PendingSignal = Readonly<{
  jti: string;
  txn: string;
  signal: Signal;
  recorded: Pick<Recorded, "position" | "recordedAt">;
  /** Signals with one key are delivered in order. */
  key: string;
  /** Everything before it. */
  at: Cursor;
}>;

/** What a stream includes. */
export type StreamFilter = Readonly<{
  streamId: string;
  salt: string;
  events: ReadonlySet<SentSignal>;
  /** Null: every group. */
  groups: ReadonlySet<string> | null;
  /** Claims of which changes are sent. */
  claims: readonly string[];
  mode: SubjectRules["subjects"];
  listed: ReadonlySet<string>;
}>;

/** `changed`: the log has a newer version of the record here; what follows depends on it. */
export type ScanOutcome = "more" | "head" | "full" | "changed" | "forked" | "truncated";

export type KnownRecord = Readonly<{ stream: Stream; version: number }>;

const eventsAtOnce = 500;
/** A page is read only for so many signals at once: one freed place must not cost a page. */
const roomMin = 64;
type Candidate = Omit<PendingSignal, "key">;
type Entry = { readonly pending: PendingSignal; done: boolean };

export class PendingSignals {
  readonly #filter: StreamFilter;
  /** Done according to the record, and not met in the log yet. */
  readonly #knownDone: Set<string>;
  readonly #entries: Entry[] = [];
  readonly #byJti = new Map<string, Entry>();
  readonly #start: Cursor;
  #scanned: Cursor;

  constructor(filter: StreamFilter, { cursor, done }: Pick<SignalStream, "cursor" | "done">) {
    this.#filter = filter;
    this.#knownDone = new Set(done);
    this.#scanned = cursor;
    this.#start = cursor;
  }

  get filter(): StreamFilter {
    return this.#filter;
  }

  /** Everything before it is done. */
  get cursor(): Cursor {
    return this.#entries[0]?.pending.at ?? this.#scanned;
  }

  /** The position below which everything has been looked at. */
  get scanned(): Position {
    return this.#scanned.after.position;
  }

  /** Tokens beyond the cursor that are done. */
  get done(): readonly string[] {
    if (this.#entries.length === 0 && this.#scanned !== this.#start) return [];
    const beyond = this.#entries.filter(({ done }) => done).map(({ pending }) => pending.jti);
    return [...this.#knownDone, ...beyond].slice(0, windowMax);
  }

  /** Oldest first. */
  get pending(): readonly PendingSignal[] {
    return this.#entries.filter(({ done }) => !done).map(({ pending }) => pending);
  }

  find(jti: string): PendingSignal | undefined {
    const found = this.#byJti.get(jti);
    return found === undefined || found.done ? undefined : found.pending;
  }

  /** @returns false: the token is not one that waits */
  markDone(jti: string): boolean {
    const entry = this.#byJti.get(jti);
    if (entry === undefined || entry.done) return false;
    entry.done = true;
    this.#dropDone();
    return true;
  }

  /** Whether the window can follow a record that another process has written: it is not behind what is held here. */
  follows(cursor: Cursor): boolean {
    return !isBefore(cursor, this.#start) && !isBefore(this.#scanned, cursor);
  }

  /** Drops what another process has delivered. */
  skipTo({ cursor, done }: Pick<SignalStream, "cursor" | "done">): void {
    const known = new Set(done);
    for (const entry of this.#entries)
      if (isBefore(entry.pending.at, cursor) || known.has(entry.pending.jti)) entry.done = true;
    this.#dropDone();
  }

  /**
   * Reads one page. `more`: there may be more to read; `full`: there is no room.
   * @param record the record that the caller knows: the scan stops behind the first newer version of it. Null: any
   */
  async scan(source: SignalSource, record: KnownRecord | null): Promise<ScanOutcome> {
    const room = windowMax - this.#entries.length;
    if (room < roomMin) return "full";
    const { after, index: first } = this.#scanned;
    const outcome = await source.read(after, Math.min(eventsAtOnce, 2 * room));
    if (outcome.type !== "page") return outcome.type;
    const { entries, previous } = outcome.page;
    const applied = source.applied();
    const events = decodeEvents(entries, previous).filter(({ position }) => position <= applied);
    const found: Candidate[] = [];
    let scanned: Cursor = this.#scanned;
    let before = after;
    let isChanged = false;
    for (const [nth, recorded] of events.entries()) {
      const next = this.#candidatesOf(recorded, { before, first: nth === 0 ? first : 0, room: room - found.length });
      found.push(...next.candidates);
      scanned = next.end;
      if (next.end.after === before) break; // no room for the rest of this event
      before = next.end.after;
      isChanged = recorded.stream === record?.stream && recorded.version > record.version;
      if (isChanged) break;
    }
    await this.#add(found, source);
    this.#scanned = scanned;
    if (isChanged) return "changed";
    if (this.#entries.length >= windowMax) return "full";
    return events.length > 0 && events.length === entries.length ? "more" : "head";
  }

  /** The wanted signals of one event, from one index on, and the cursor behind them. */
  #candidatesOf(
    recorded: Recorded,
    { before, first, room }: Readonly<{ before: Link; first: number; room: number }>,
  ): Readonly<{ candidates: readonly Candidate[]; end: Cursor }> {
    const { epoch, position, hash, recordedAt, cause } = recorded;
    const { streamId } = this.#filter;
    const candidates: Candidate[] = [];
    const signals = signalsOf(recorded);
    for (let index = first; index < signals.length; index++) {
      const signal = signals[index];
      if (signal === undefined || !this.#isWanted(signal)) continue;
      if (candidates.length >= room) return { candidates, end: { after: before, index } };
      candidates.push({
        jti: jtiOf(streamId, hash, index),
        txn: jtiOf(streamId, "txn", cause ?? hash),
        signal,
        recorded: { position, recordedAt },
        at: { after: before, index },
      });
    }
    return { candidates, end: { after: { epoch, position, hash }, index: 0 } };
  }

  /** What other transmitters have said of a subject is a user of the log, but no person. */
  #isWanted({ name, userId, groupId, isAboutClaims }: Signal): boolean {
    if (userId !== null && isSignalRecord(userId)) return false;
    const { events, groups, claims } = this.#filter;
    if (isAboutClaims === true && claims.length === 0) return false;
    return events.has(name) && (groups === null || groupId === null || groups.has(groupId));
  }

  async #add(found: readonly Candidate[], source: SignalSource): Promise<void> {
    const candidates = found.map((candidate) => withUser(candidate, source));
    const users = new Set(candidates.map(({ signal }) => signal.userId).filter((userId) => userId !== null));
    const identities = users.size === 0 ? new Map<UserId, Identity>() : await source.identities([...users]);
    const restored = candidates.flatMap(({ signal: { name, userId } }) =>
      name === "account-enabled" && userId !== null ? [userId] : [],
    );
    const barred = restored.length === 0 ? new Set<UserId>() : await source.stillBarred(restored, identities);
    const { mode, listed, salt } = this.#filter;
    for (const candidate of candidates) {
      const { name, userId, sessionId, groupId } = candidate.signal;
      if (name === "account-enabled" && userId !== null && barred.has(userId)) continue;
      const identity = userId === null ? undefined : identities.get(userId);
      // A provisioned person has no claims of a provider, and an erased one none at all.
      const hasClaims = identity !== undefined && !isProvisioned(identity);
      if (candidate.signal.isAboutClaims === true && !hasClaims) continue;
      if (!includesUser(userId, identity, { mode, listed, salt })) continue;
      const key = userId ?? sessionId ?? `group ${groupId}`;
      const entry = { pending: { ...candidate, key }, done: this.#knownDone.delete(candidate.jti) };
      this.#entries.push(entry);
      this.#byJti.set(candidate.jti, entry);
    }
    this.#dropDone();
  }

  #dropDone(): void {
    const first = this.#entries.findIndex(({ done }) => !done);
    const dropped = this.#entries.splice(0, first < 0 ? this.#entries.length : first);
    for (const { pending } of dropped) this.#byJti.delete(pending.jti);
  }
}

function withUser(candidate: Candidate, { userOf }: SignalSource): Candidate {
  const { signal } = candidate;
  if (signal.userId !== null || signal.sessionId === null) return candidate;
  return { ...candidate, signal: { ...signal, userId: userOf(signal.sessionId) } };
}

/** The position of everything that a cursor covers. */
export const positionOf = ({ after }: Cursor): Position => after.position;
