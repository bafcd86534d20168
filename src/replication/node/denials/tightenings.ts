/**
 * Tightenings: the final denials that this copy has applied, so that those of a lost suffix stay in force here and are
 * handed back to the brokers (docs/protocol.md §4.3).
 *
 * - Lost loosening events are dropped: the person signs in again. A revocation is never undone.
 * - A denial of a person ended sessions that the new history may not contain. Each of them is handed back by itself, or
 *   the new history could create it again after the denial.
 * - Bounded: only the newest denials are remembered one by one. When a loss reaches back further, everything that the
 *   old projection denies stays denied. That may deny too much, never too little.
 *
 * Pure.
 */
import {
  deviceStream,
  type Epoch,
  type Hash,
  isSuspendedUntil,
  type LostTightening,
  noPosition,
  type Position,
  type Projection,
  parseStream,
  type Recorded,
  type SessionId,
  type Stream,
  serviceAccountStream,
  sessionStream,
  toLostSession,
  toLostTightening,
  type UnixMs,
  type UserId,
  userStream,
} from "../../../events/index.ts";

/** The denials that the new history does not contain. */
export type LostDenials = Readonly<{
  /**
   * Oldest first, then the sessions that they had ended. Denials that are no longer remembered one by one are missing.
   */
  events: readonly LostTightening[];
  /** The facts that stay denied. */
  denied: ReadonlySet<Stream>;
}>;

/** The size of a generation. Two are kept, so at least the newest `generationMax` denials are remembered. */
const generationMax = 8_192;
/** The number of lost and then lifted suspensions that are remembered. */
const liftedMax = 1_024;
/** Ended sessions of one person that are remembered from a history that was never visible here. */
const endedMax = 1_024;

/** Whether the new history contains the link of the old projection. */
export type HistoryLoss = "nothing lost" | "lost";

type EventPosition = Readonly<{ epoch: Epoch; position: Position }>;
type LiftedSuspect = Readonly<{ suspect: Recorded; by: EventPosition }>;

export class Tightenings {
  #young: Recorded[] = [];
  #old: readonly Recorded[] = [];
  /** Denials up to this position may be forgotten; 0: all are remembered. */
  #forgottenTo = 0;
  /** Denials of the old history, by hash, that the new one has not shown yet. */
  #suspects = new Map<Hash, Recorded>();
  /**
   * Suspects that an operator lifted in the new history, with the position of that event, which may be lost in its
   * turn.
   */
  #lifted = new Map<Hash, LiftedSuspect>();
  /** For each suspect, the event that had lifted it in the old history. */
  #liftedThere = new Map<Hash, EventPosition>();
  /** People restored in the new history so far, with the epoch of the event. */
  readonly #restored = new Map<UserId, Epoch>();
  /** The new history contains the old one at least up to this position. */
  #survivedTo = 0;
  #suspectsForgottenTo = 0;
  /** Sessions ended in histories that were left before they became visible. */
  readonly #ended = new Map<UserId, Set<Stream>>();

  /** Records an applied event. */
  remember(recorded: Recorded): void {
    if (recorded.effect !== "tightens") return;
    if (this.#suspects.size > 0 && this.#suspects.delete(recorded.hash)) this.#survived(recorded);
    this.#keep(recorded);
  }

  /** A snapshot supplied the projection up to a position, so its denials are not known event by event. */
  forgetUpTo(upTo: Position): void {
    this.#forgottenTo = Math.max(this.#forgottenTo, upTo);
  }

  /**
   * The node leaves the current history: denials that the new one does not contain are lost. If a new history is itself
   * left during a rebuild, denials that only it contained are lost too.
   * @param unseen the unfinished projection of such a new history; null: the visible projection's history is left
   */
  leaveHistory(unseen: Projection | null): void {
    if (unseen !== null) this.#rememberEnded(unseen);
    for (const [hash, { suspect, by }] of this.#lifted) {
      this.#suspects.set(hash, suspect);
      this.#liftedThere.set(hash, by);
    }
    for (const known of [this.#old, this.#young])
      for (const remembered of known) this.#suspects.set(remembered.hash, remembered);
    this.#lifted = new Map();
    this.#suspectsForgottenTo = Math.max(this.#suspectsForgottenTo, this.#forgottenTo);
    this.#reset();
    this.#young = [];
    this.#old = [];
    this.#forgottenTo = 0;
  }

  /** An operator restored a person later in the surviving history, which overrides an older suspension. */
  recordUserRestored(userId: UserId, { epoch, position }: EventPosition): void {
    if (this.#suspectsForgottenTo > 0) this.#restored.set(userId, epoch);
    for (const suspect of this.#suspects.values()) {
      const { event, epoch: before } = suspect;
      if (event.type !== "UserSuspended" || event.userId !== userId || before >= epoch) continue;
      this.#lift(suspect, { epoch, position });
    }
  }

  /** Keeps events that the new history surely contains, although they are not applied one by one. */
  keepSurvivors(held: (place: EventPosition) => boolean): void {
    for (const [hash, suspect] of this.#suspects) {
      const by = this.#liftedThere.get(hash);
      if (by !== undefined && held(by)) this.#lift(suspect, by);
      if (!held(suspect)) continue;
      this.#suspects.delete(hash);
      this.#survived(suspect);
      this.#keep(suspect); // still known if the new history is left too
    }
  }

  /**
   * The node has read the new history to its head.
   * @param old the projection that applied the lost events
   * @param next the projection that replaces it
   */
  finishRebuild(old: Projection, next: Projection, settling: HistoryLoss): LostDenials {
    const nothingLost = settling === "nothing lost";
    const suspects = nothingLost ? [] : [...this.#suspects.values()].map(originalTightening);
    // A cut of all sessions denies each session that existed: a position of one history means nothing in another.
    const events = suspects.filter((suspect) => suspect.type !== "UserSessionsRevoked" && !isInHistory(suspect, next));
    const denied = new Set(events.map(({ stream }) => stream));
    const sessions = new Map<Stream, LostTightening>();
    // Includes people whom the new history denies by another event or has restored: neither restores a session.
    const lifted = [...this.#lifted.values()].map(({ suspect }) => originalTightening(suspect));
    for (const said of nothingLost ? [] : [...suspects, ...lifted]) {
      const { kind, id: userId } = parseStream(said.stream);
      if (kind !== "user" || next.user(userId)?.status === "erased") continue;
      for (const stream of [...deniedSessions(old, userId), ...(this.#ended.get(userId) ?? [])]) {
        if (isDenied(next, stream)) continue;
        denied.add(stream);
        const { kind: subject, id: sessionId } = parseStream(stream);
        if (subject === "session" && !sessions.has(stream))
          sessions.set(stream, toLostSession(said, { sessionId, userId }));
      }
    }
    if (this.#suspectsForgottenTo > this.#survivedTo && !nothingLost)
      for (const stream of everythingDenied(old))
        if (!isDenied(next, stream) && !this.#isRestored(stream, old.applied.epoch)) denied.add(stream);
    this.#suspects = new Map();
    this.#liftedThere = new Map();
    this.#suspectsForgottenTo = 0;
    this.#reset();
    this.#ended.clear();
    return { events: [...events, ...sessions.values()], denied };
  }

  #rememberEnded(left: Projection): void {
    for (const recorded of [...this.#old, ...this.#young]) {
      const { kind, id: userId } = parseStream(originalTightening(recorded).stream);
      if (kind !== "user") continue;
      const noted = this.#ended.get(userId) ?? new Set();
      for (const session of deniedSessions(left, userId)) if (noted.size < endedMax) noted.add(session);
      this.#ended.set(userId, noted);
    }
  }

  #reset(): void {
    this.#survivedTo = 0;
    this.#restored.clear();
  }

  #lift(suspect: Recorded, { epoch, position }: EventPosition): void {
    this.#suspects.delete(suspect.hash);
    const oldest = this.#lifted.size >= liftedMax ? this.#lifted.keys().next().value : undefined;
    if (oldest !== undefined) this.#lifted.delete(oldest);
    this.#lifted.set(suspect.hash, { suspect, by: { epoch, position } });
  }

  #isRestored(stream: Stream, after: Epoch): boolean {
    const { kind, id } = parseStream(stream);
    return kind === "user" && (this.#restored.get(id) ?? 0) > after;
  }

  #keep(recorded: Recorded): void {
    if (this.#young.length >= generationMax) {
      this.forgetUpTo(this.#old.at(-1)?.position ?? noPosition);
      this.#old = this.#young;
      this.#young = [];
    }
    this.#young.push(recorded);
  }

  #survived({ position }: Recorded): void {
    this.#survivedTo = Math.max(this.#survivedTo, position);
  }
}

/** Whether a projection permanently denies a fact according to its own log. */
export function isDenied(projection: Projection, stream: Stream): boolean {
  const { kind, id } = parseStream(stream);
  switch (kind) {
    case "session":
      return projection.sessionStatus(id).status === "revoked";
    case "user": {
      const user = projection.user(id);
      return user !== undefined && user.status !== "active";
    }
    case "device":
      return projection.device(id)?.removed === true;
    case "service-account":
      return projection.serviceAccount(id)?.revoked === true;
    default:
      return false;
  }
}

/**
 * Whether a projection denies a fact at least as long as a denial does: a suspension that ends by itself does not stand
 * for one without an end.
 */
export function isDeniedAsLong(projection: Projection, stream: Stream, until: UnixMs | undefined): boolean {
  if (!isDenied(projection, stream)) return false;
  const { kind, id } = parseStream(stream);
  const user = kind === "user" ? projection.user(id) : undefined;
  return user?.status !== "suspended" || isSuspendedUntil(user, until);
}

/** For a lost reassertion, the denial that it had handed back. */
function originalTightening(recorded: Recorded): LostTightening {
  const lost = toLostTightening(recorded);
  const { event } = recorded;
  return event.type === "TighteningReasserted" ? { ...lost, stream: event.subject, type: event.of } : lost;
}

/** Whether the new history contains the same fact through another event. */
function isInHistory({ stream, type, until }: LostTightening, next: Projection): boolean {
  const { kind, id } = parseStream(stream);
  if (type === "UserErased" && kind === "user") return next.user(id)?.status === "erased";
  return isDeniedAsLong(next, stream, until);
}

function deniedSessions(old: Projection, userId: UserId): Stream[] {
  return old
    .sessionsOf(userId)
    .map(sessionStream)
    .filter((stream) => isDenied(old, stream));
}

const none: readonly SessionId[] = [];

/**
 * The active sessions that a final denial of their person would end, oldest first.
 * @param before the projection before the event
 */
export function sessionsEndedBy({ effect, event, stream }: Recorded, before: Projection): readonly SessionId[] {
  if (effect !== "tightens") return none;
  const { kind, id } = parseStream(event.type === "TighteningReasserted" ? event.subject : stream);
  if (kind !== "user") return none;
  return before
    .sessionsOf(id)
    .map((session) => before.sessionStatus(session))
    .flatMap((at) => (at.status === "active" ? [at.session] : []))
    .sort((a, b) => a.createdAt - b.createdAt)
    .map(({ sessionId }) => sessionId);
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
