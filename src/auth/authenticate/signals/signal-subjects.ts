/**
 * Signal subjects: this node's index of the people that records of signals concern, over the projection. Nothing in
 * it is a source of truth.
 *
 * - A record that a transmitter has disabled, or whose sessions it has ended, concerns everyone whose profile matches.
 *   Sessions that it denies are ended here: those of people that only an e-mail identifies, and those that began
 *   while the signal was recorded. The log has the record, so any node completes what another has begun.
 * - Changes of the log mark people; they are read in small steps, so that requests are not held up.
 */
import {
  isSignalRecord,
  parseStream,
  parseTransmitterRecord,
  type Sealed,
  type SessionId,
  type User,
  type UserId,
} from "../../../events/index.ts";
import type { Replica } from "../../../replication/index.ts";
import type { SignalRecordsFor } from "./signal-plan.ts";

/** Sessions of a person that a record denies. */
export type DeniedSessions = Readonly<{ recordId: UserId; userId: UserId; sessionIds: readonly SessionId[] }>;

const stepPeople = 200;

export class SignalSubjects {
  readonly #replica: Replica;
  readonly #recordsFor: SignalRecordsFor;
  readonly #pause: () => Promise<void>;
  readonly #onDenied: (denied: DeniedSessions) => void;
  readonly #onError: (userId: UserId, error: unknown) => void;
  readonly #records = new Map<UserId, readonly UserId[]>();
  readonly #people = new Map<UserId, Set<UserId>>();
  /** The profile that was read last. */
  readonly #profiles = new Map<UserId, Sealed>();
  readonly #changed = new Set<UserId>();
  #draining: Promise<void> | undefined;
  #stop: (() => void) | undefined;

  constructor(
    parts: Readonly<{
      replica: Replica;
      recordsFor: SignalRecordsFor;
      /** Lets other work go first. */
      pause: () => Promise<void>;
      onDenied: (denied: DeniedSessions) => void;
      /** A person could not be read; the others are. */
      onError: (userId: UserId, error: unknown) => void;
    }>,
  ) {
    this.#replica = parts.replica;
    this.#recordsFor = parts.recordsFor;
    this.#pause = parts.pause;
    this.#onDenied = parts.onDenied;
    this.#onError = parts.onError;
  }

  start(): void {
    this.#markAll();
    this.#stop = this.#replica.onChange(({ touched, rebuilt }) => {
      if (rebuilt) this.#markAll();
      else for (const stream of touched) this.#mark(stream);
      void this.settled();
    });
    void this.settled();
  }

  close(): void {
    this.#stop?.();
    this.#stop = undefined;
    this.#changed.clear();
  }

  /** Every applied change is in the index. */
  settled(): Promise<void> {
    if (this.#changed.size === 0) return this.#draining ?? Promise.resolve();
    this.#draining ??= this.#drain().finally(() => {
      this.#draining = undefined;
    });
    return this.#draining;
  }

  /** The people that a record concerns, as far as this node has read. */
  peopleOf(recordId: UserId): readonly UserId[] {
    return [...(this.#people.get(recordId) ?? [])];
  }

  /** The sessions of a person that records deny. */
  deniedOf(userId: UserId): readonly DeniedSessions[] {
    const { projection } = this.#replica;
    const denied: DeniedSessions[] = [];
    const seen = new Set<SessionId>();
    for (const recordId of this.#records.get(userId) ?? []) {
      const record = projection.user(recordId);
      if (record === undefined) continue;
      let endedUpTo: number | undefined;
      const sessionIds = projection.sessionsOf(userId).filter((id) => {
        const at = projection.sessionStatus(id);
        if (at.status !== "active" || seen.has(id)) return false;
        if (record.status !== "active") return true;
        if (at.session.createdAt >= record.sessionsRevokedBelow) return false;
        endedUpTo ??= this.#endedUpTo(record);
        return at.session.issuedAt <= endedUpTo;
      });
      for (const id of sessionIds) seen.add(id);
      if (sessionIds.length > 0) denied.push({ recordId, userId, sessionIds });
    }
    return denied;
  }

  /** The time up to which the sessions below the cut have ended. A record that cannot be read ends all of them. */
  #endedUpTo({ userId, profile }: User): number {
    const record = profile === null ? undefined : parseTransmitterRecord(this.#replica.open(profile, userId));
    return record?.kind === "subject" && record.endedUpTo !== null ? record.endedUpTo : Number.POSITIVE_INFINITY;
  }

  #markAll(): void {
    this.#profiles.clear();
    for (const userId of this.#records.keys()) this.#changed.add(userId);
    for (const { userId } of this.#replica.projection.users()) if (!isSignalRecord(userId)) this.#changed.add(userId);
  }

  #mark(stream: Parameters<typeof parseStream>[0]): void {
    const parsed = parseStream(stream);
    if (parsed.kind === "user") {
      if (!isSignalRecord(parsed.id)) this.#changed.add(parsed.id);
      else for (const person of this.#people.get(parsed.id) ?? []) this.#changed.add(person);
    } else if (parsed.kind === "session") {
      const session = this.#replica.projection.session(parsed.id);
      if (session?.status === "active") this.#changed.add(session.userId);
    }
  }

  async #drain(): Promise<void> {
    while (this.#changed.size > 0) {
      const some: UserId[] = [];
      for (const userId of this.#changed) {
        some.push(userId);
        if (some.length >= stepPeople) break;
      }
      for (const userId of some) {
        this.#changed.delete(userId);
        try {
          this.#read(userId);
        } catch (error) {
          this.#onError(userId, error);
        }
      }
      if (this.#changed.size > 0) await this.#pause();
    }
  }

  #read(userId: UserId): void {
    const sealed = this.#replica.projection.user(userId)?.profile ?? undefined;
    if (sealed === undefined || this.#profiles.get(userId) !== sealed) this.#readProfile(userId, sealed);
    for (const denied of this.deniedOf(userId)) this.#onDenied(denied);
  }

  #readProfile(userId: UserId, sealed: Sealed | undefined): void {
    const profile = sealed === undefined ? undefined : this.#replica.open(sealed, userId);
    for (const recordId of this.#records.get(userId) ?? []) this.#forget(recordId, userId);
    this.#records.delete(userId);
    this.#profiles.delete(userId); // the key may arrive later than the profile
    if (profile === undefined || sealed === undefined) return;
    this.#profiles.set(userId, sealed);
    const records = this.#recordsFor(profile);
    if (records.length === 0) return;
    this.#records.set(userId, records);
    for (const recordId of records) {
      const people = this.#people.get(recordId) ?? new Set<UserId>();
      this.#people.set(recordId, people.add(userId));
    }
  }

  #forget(recordId: UserId, userId: UserId): void {
    const people = this.#people.get(recordId);
    people?.delete(userId);
    if (people?.size === 0) this.#people.delete(recordId);
  }
}
