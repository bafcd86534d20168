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
import { ChangedPeople } from "../people/changed-people.ts";
import { PeopleIndex } from "../people/people-index.ts";
import type { SignalRecordsFor } from "./signal-plan.ts";

/** Sessions of a person that a record denies. */
export type DeniedSessions = Readonly<{ recordId: UserId; userId: UserId; sessionIds: readonly SessionId[] }>;

export class SignalSubjects {
  readonly #replica: Replica;
  readonly #recordsFor: SignalRecordsFor;
  readonly #onDenied: (denied: DeniedSessions) => void;
  readonly #people = new PeopleIndex();
  readonly #changed: ChangedPeople;
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
    this.#onDenied = parts.onDenied;
    this.#changed = new ChangedPeople({ ...parts, read: (userId) => this.#read(userId) });
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
    return this.#changed.settled();
  }

  /** The people that a record concerns, as far as this node has read. */
  peopleOf(recordId: UserId): readonly UserId[] {
    return [...this.#people.peopleNaming(recordId)];
  }

  /** The sessions of a person that records deny. */
  deniedOf(userId: UserId): readonly DeniedSessions[] {
    const { projection } = this.#replica;
    const denied: DeniedSessions[] = [];
    const seen = new Set<SessionId>();
    for (const recordId of this.#people.namedBy(userId) ?? []) {
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
    this.#people.forgetReads();
    for (const userId of this.#people.knownPeople()) this.#changed.mark(userId);
    for (const { userId } of this.#replica.projection.users()) if (!isSignalRecord(userId)) this.#changed.mark(userId);
  }

  #mark(stream: Parameters<typeof parseStream>[0]): void {
    const parsed = parseStream(stream);
    if (parsed.kind === "user") {
      if (!isSignalRecord(parsed.id)) this.#changed.mark(parsed.id);
      else for (const person of this.#people.peopleNaming(parsed.id)) this.#changed.mark(person);
    } else if (parsed.kind === "session") {
      const session = this.#replica.projection.session(parsed.id);
      if (session?.status === "active") this.#changed.mark(session.userId);
    }
  }

  #read(userId: UserId): void {
    const sealed = this.#replica.projection.user(userId)?.profile ?? undefined;
    if (!this.#people.hasRead(userId, sealed)) this.#readProfile(userId, sealed);
    for (const denied of this.deniedOf(userId)) this.#onDenied(denied);
  }

  #readProfile(userId: UserId, sealed: Sealed | undefined): void {
    const profile = sealed === undefined ? undefined : this.#replica.open(sealed, userId);
    this.#people.removeNamed(userId);
    this.#people.forgetRead(userId); // the key may arrive later than the profile
    if (profile === undefined || sealed === undefined) return;
    this.#people.recordRead(userId, sealed);
    const records = this.#recordsFor(profile);
    if (records.length > 0) this.#people.setNamed(userId, records);
  }
}
