/**
 * Kept denials: the newest final denials that this node has applied, as its disk remembers them over a restart.
 *
 * A log that was restored from a backup, or failed over while the node was down, may not hold them any more. Until it is known whether
 * it does, they are in force here, whatever the projection is made from: a snapshot, or the log from its beginning. Known it is when
 * the head of a grant has been reached: a leader's clean commit proves what the log is. What the log does not hold is lost: it stays
 * denied and is handed back. Pure.
 */
import {
  type Epoch,
  type Hash,
  type LostTightening,
  lostSession,
  lostTightening,
  type Projection,
  parseStream,
  type Recorded,
  type SessionId,
  type Stream,
  sessionStream,
  type UserId,
} from "../../events/index.ts";
import { isDenied, type Lost } from "./tightenings.ts";
import { type EpochMark, sharesPlace, type Trail } from "./trail.ts";

export type KeptDenial = LostTightening &
  Readonly<{
    /** The epoch it was written in, as its history had it; null: not known. */
    since: EpochMark | null;
    /** The sessions that a word about their person has ended: a log that has lost them too must not take them once more. */
    sessions?: readonly SessionId[];
  }>;

/** What a node's own disk says. */
export type KeptOnDisk = Readonly<{
  /** Facts that only this node denies: of a lost suffix, and not in the log again when it was written. */
  sticky: readonly Stream[];
  /** Oldest first. */
  denials: readonly KeptDenial[];
}>;

/** As many of the newest as a disk is asked to remember. */
export const keptDenialsMax = 4_096;
/** And of the sessions in them, the newest words first. */
export const keptSessionsMax = 16_384;

/** `lifted`: of a suspension that an operator has lifted since, only the end of the sessions is left. */
type Folded = { readonly recorded: Recorded; readonly sessions: readonly SessionId[]; lifted: boolean };

export class KeptDenials {
  /** All that the disk had. */
  #carried: readonly KeptDenial[] = [];
  #newest: Folded[] = [];
  #count = 0;
  /** In `#newest`. */
  #sessions = 0;
  readonly #open = new Map<Hash, KeptDenial>();
  readonly #denied = new Map<Stream, number>();

  /** Whether some of them have still to be looked for in the log. */
  get open(): boolean {
    return this.#open.size > 0;
  }
  /** Grows with every final denial that is folded in. */
  get count(): number {
    return this.#count;
  }

  /** What a disk should remember, oldest first. @param epochs of the chain that is followed */
  newest(epochs: readonly EpochMark[]): readonly KeptDenial[] {
    const all = new Map(this.#carried.map((denial) => [denial.link.hash, denial]));
    for (const { recorded, sessions, lifted } of this.#newest.slice(-keptDenialsMax)) {
      const since = epochs.find(({ epoch }) => epoch === recorded.epoch) ?? null;
      const denial = { ...lostTightening(recorded), since, ...named(sessions) };
      for (const each of lifted ? ended(denial) : [denial]) all.set(each.link.hash, each);
    }
    return withinSessionsMax([...all.values()].slice(-keptDenialsMax), (denial, sessions) => ({
      ...withoutSessions(denial),
      ...named(sessions),
    }));
  }

  /** An event is folded in. @param sessions those that it has ended */
  remember(recorded: Recorded, sessions: readonly SessionId[]): void {
    if (recorded.effect !== "tightens") return;
    this.#count += 1;
    this.#sessions += sessions.length;
    const count = this.#newest.push({ recorded, sessions, lifted: false });
    if (count < 2 * keptDenialsMax && this.#sessions < 2 * keptSessionsMax) return;
    this.#newest = withinSessionsMax(this.#newest.slice(-keptDenialsMax), (each, some) => ({
      ...each,
      sessions: some,
    }));
    this.#sessions = this.#newest.reduce((sum, each) => sum + each.sessions.length, 0);
  }

  recall(denials: readonly KeptDenial[]): void {
    this.#carried = denials;
    for (const denial of denials) {
      this.#recallOne(withoutSessions(denial));
      for (const each of ended(denial)) this.#recallOne(each);
    }
  }

  #recallOne(denial: KeptDenial): void {
    if (this.#open.has(denial.link.hash)) return;
    this.#open.set(denial.link.hash, denial);
    this.#denied.set(denial.stream, (this.#denied.get(denial.stream) ?? 0) + 1);
  }

  /** Of a cut of all sessions the whole person is denied, until it is known which sessions there are. */
  denies(stream: Stream): boolean {
    return this.#denied.has(stream);
  }

  /** An operator's later word about a person: it stands. @returns whether it lifts one of these */
  restored(userId: UserId, epoch: Epoch): boolean {
    const isLifted = ({ type, link, stream }: KeptDenial): boolean =>
      type === "UserSuspended" && link.epoch < epoch && parseStream(stream).id === userId;
    let lifted = false;
    for (const denial of [...this.#open.values()]) {
      if (!isLifted(denial)) continue;
      this.#close(denial);
      lifted = true;
    }
    // Nor is it for the next boot to deny the person once more.
    if (this.#carried.some(isLifted))
      this.#carried = this.#carried.flatMap((denial) => (isLifted(denial) ? ended(denial) : [denial]));
    for (const each of this.#newest) {
      const { event, epoch: before } = each.recorded;
      if (event.type === "UserSuspended" && event.userId === userId && before < epoch) each.lifted = true;
    }
    return lifted;
  }

  /** The head of a grant has been reached. What lies ahead in the epoch of that grant is still waited for. */
  settle(trail: Trail, projection: Projection): Lost {
    const events: LostTightening[] = [];
    const denied = new Set<Stream>();
    for (const denial of [...this.#open.values()]) {
      const { link, since } = denial;
      const there = sharesPlace(trail.epochs, link, since === null ? [] : [since]);
      if (there && link.position > trail.applied.position) continue;
      this.#close(denial);
      const facts = there ? [] : factsOf(denial, projection).filter((fact) => !isDenied(projection, fact));
      if (facts.length === 0) continue;
      const { since: _, ...event } = denial;
      events.push(event);
      for (const fact of facts) denied.add(fact);
    }
    return { events, denied };
  }

  #close({ link, stream }: KeptDenial): void {
    this.#open.delete(link.hash);
    const others = (this.#denied.get(stream) ?? 1) - 1;
    if (others > 0) this.#denied.set(stream, others);
    else this.#denied.delete(stream);
  }
}

/** Each by itself: what lifts a suspension does not bring its sessions back. */
function ended(denial: KeptDenial): KeptDenial[] {
  const userId = parseStream(denial.stream).id as UserId;
  return (denial.sessions ?? []).map((sessionId) => ({
    ...lostSession(denial, { sessionId, userId }),
    since: denial.since,
  }));
}

function named(sessions: readonly SessionId[]): Pick<KeptDenial, "sessions"> {
  return sessions.length === 0 ? {} : { sessions };
}

function withoutSessions({ sessions: _, ...denial }: KeptDenial): KeptDenial {
  return denial;
}

/** The newest keep theirs, up to so many in all. @param list oldest first */
function withinSessionsMax<Item extends Readonly<{ sessions?: readonly SessionId[] }>>(
  list: readonly Item[],
  keep: (item: Item, sessions: readonly SessionId[]) => Item,
): Item[] {
  let room = keptSessionsMax;
  return list
    .toReversed()
    .map((item) => {
      const sessions = item.sessions ?? [];
      const kept = sessions.slice(Math.max(0, sessions.length - room));
      room -= kept.length;
      return kept.length === sessions.length ? item : keep(item, kept);
    })
    .toReversed();
}

/** Which sessions a cut or a suspension ended is not known any more: all that there are, so that people sign in again. */
function factsOf({ stream, type }: KeptDenial, projection: Projection): Stream[] {
  const { kind, id } = parseStream(stream);
  if (kind !== "user") return [stream];
  const sessions = projection.sessionsOf(id as UserId).map(sessionStream);
  return type === "UserSessionsRevoked" ? sessions : [stream, ...sessions];
}
