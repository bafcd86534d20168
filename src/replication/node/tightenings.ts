/**
 * Tightenings: which final denials this copy has applied, so that those of a lost suffix stay in force here and are handed
 * back to the brokers (reliability.md §2.3). Lost loosening events are dropped: someone signs in again. A revocation is
 * never undone.
 *
 * Bounded: the newest are remembered one by one. When a loss reaches back further than that, everything that the old
 * projection denies is kept denied, which may deny too much, never too little. Pure.
 */
import {
  type DeviceId,
  deviceStream,
  type Epoch,
  type Hash,
  type LostTightening,
  lostTightening,
  type Position,
  type Projection,
  parseStream,
  type Recorded,
  type ServiceAccountId,
  type SessionId,
  type Stream,
  serviceAccountStream,
  sessionStream,
  type UserId,
  userStream,
} from "../../events/index.ts";

/** What the new history does not hold. */
export type Lost = Readonly<{
  /** Oldest first; those that are forgotten one by one are not among them. */
  events: readonly LostTightening[];
  /** The facts that stay denied. */
  denied: ReadonlySet<Stream>;
}>;

/** Two generations: at least one of them is always remembered. */
const generationMax = 8_192;

export class Tightenings {
  #young: Recorded[] = [];
  #old: readonly Recorded[] = [];
  /** Up to here not every one is remembered; 0: they all are. */
  #forgottenTo = 0;
  /** Of the history that is being left, by hash, and not found in the new one so far. */
  #suspects = new Map<Hash, Recorded>();
  /** Suspects that an operator's later word in the new history has lifted: it may be lost itself before that is read to its head. */
  #lifted: Recorded[] = [];
  /** In the new history so far, and when. */
  readonly #restored = new Map<UserId, Epoch>();
  /** The new history goes through the old one up to here, at least. */
  #survivedTo = 0;
  #suspectsForgottenTo = 0;

  /** An event is folded in. */
  remember(recorded: Recorded): void {
    if (recorded.effect !== "tightens") return;
    if (this.#suspects.size > 0 && this.#suspects.delete(recorded.hash)) this.#survived(recorded);
    this.#keep(recorded);
  }

  /** The projection up to a position has been given to us whole: what it denies is not known event by event. */
  forget(upTo: Position): void {
    this.#forgottenTo = Math.max(this.#forgottenTo, upTo);
  }

  /** The history is being left: whatever the new one does not hold is lost. So is what only a new one held that is left itself. */
  suspect(): void {
    for (const known of [this.#lifted, this.#old, this.#young])
      for (const remembered of known) this.#suspects.set(remembered.hash, remembered);
    this.#suspectsForgottenTo = Math.max(this.#suspectsForgottenTo, this.#forgottenTo);
    this.#beginAnew();
    this.#young = [];
    this.#old = [];
    this.#forgottenTo = 0;
  }

  /** An operator's later word about a person, in the history that survived: it stands. */
  restored(userId: UserId, epoch: Epoch): void {
    if (this.#suspectsForgottenTo > 0) this.#restored.set(userId, epoch);
    for (const [hash, suspect] of this.#suspects) {
      const { event, epoch: before } = suspect;
      if (event.type !== "UserSuspended" || event.userId !== userId || before >= epoch) continue;
      this.#suspects.delete(hash);
      this.#lifted.push(suspect);
    }
  }

  /** Events that the new history surely holds, though they will not be folded in one by one. */
  spare(held: (suspect: Recorded) => boolean): void {
    for (const [hash, suspect] of this.#suspects) {
      if (!held(suspect)) continue;
      this.#suspects.delete(hash);
      this.#survived(suspect);
      this.#keep(suspect); // known still, should the new history be left in its turn
    }
  }

  /**
   * The new history is read to its head.
   * @param old the projection that applied what is lost
   * @param next the one that takes its place
   * @param options.nothingLost the new history goes through the place where the old projection stands
   */
  settle(old: Projection, next: Projection, options: Readonly<{ nothingLost: boolean }>): Lost {
    const suspects = options.nothingLost ? [] : [...this.#suspects.values()];
    const events = suspects.map(named).filter((suspect) => !isHeld(suspect, old, next));
    const denied = new Set<Stream>();
    for (const { stream, type } of events) {
      const { kind, id } = parseStream(stream);
      // A cut of all sessions denies those that existed, not the person: they may sign in again.
      if (type !== "UserSessionsRevoked") denied.add(stream);
      if (kind !== "user") continue;
      for (const session of deniedSessions(old, id as UserId)) if (!isDenied(next, session)) denied.add(session);
    }
    if (this.#suspectsForgottenTo > this.#survivedTo && !options.nothingLost)
      for (const stream of everythingDenied(old))
        if (!isDenied(next, stream) && !this.#isRestored(stream, old.applied.epoch)) denied.add(stream);
    this.#suspects = new Map();
    this.#suspectsForgottenTo = 0;
    this.#beginAnew();
    return { events, denied };
  }

  #beginAnew(): void {
    this.#survivedTo = 0;
    this.#lifted = [];
    this.#restored.clear();
  }

  #isRestored(stream: Stream, after: Epoch): boolean {
    const { kind, id } = parseStream(stream);
    return kind === "user" && (this.#restored.get(id as UserId) ?? 0) > after;
  }

  #keep(recorded: Recorded): void {
    if (this.#young.length >= generationMax) {
      this.forget(this.#old.at(-1)?.position ?? (0 as Position));
      this.#old = this.#young;
      this.#young = [];
    }
    this.#young.push(recorded);
  }

  #survived({ position }: Recorded): void {
    this.#survivedTo = Math.max(this.#survivedTo, position);
  }
}

/** Whether a projection denies a fact for good, by its own log. */
export function isDenied(projection: Projection, stream: Stream): boolean {
  const { kind, id } = parseStream(stream);
  switch (kind) {
    case "session":
      return projection.standing(id as SessionId).standing === "revoked";
    case "user": {
      const user = projection.user(id as UserId);
      return user !== undefined && user.status !== "active";
    }
    case "device":
      return projection.device(id as DeviceId)?.removed === true;
    case "service-account":
      return projection.serviceAccount(id as ServiceAccountId)?.revoked === true;
    default:
      return false;
  }
}

/** A reassertion that is lost itself stands for what it had brought back. */
function named(recorded: Recorded): LostTightening {
  const lost = lostTightening(recorded);
  const { event } = recorded;
  return event.type === "TighteningReasserted" ? { ...lost, stream: event.subject, type: event.of } : lost;
}

/** Whether the new history holds the same fact by another event. */
function isHeld({ stream, type }: LostTightening, old: Projection, next: Projection): boolean {
  const { id } = parseStream(stream);
  if (type === "UserErased") return next.user(id as UserId)?.status === "erased";
  if (type !== "UserSessionsRevoked") return isDenied(next, stream);
  return deniedSessions(old, id as UserId).every((session) => isDenied(next, session));
}

function deniedSessions(old: Projection, userId: UserId): Stream[] {
  return old
    .sessionsOf(userId)
    .map(sessionStream)
    .filter((stream) => isDenied(old, stream));
}

function* everythingDenied(old: Projection): Generator<Stream> {
  for (const session of old.sessions()) {
    const stream = sessionStream(session.sessionId);
    if (isDenied(old, stream)) yield stream;
  }
  for (const user of old.users()) if (user.status !== "active") yield userStream(user.userId);
  for (const device of old.devices()) if (device.removed) yield deviceStream(device.deviceId);
  for (const account of old.serviceAccounts())
    if (account.revoked) yield serviceAccountStream(account.serviceAccountId);
}
