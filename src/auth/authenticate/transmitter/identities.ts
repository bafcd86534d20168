/**
 * Identities: the names of the people whose signals are sent next. Pure; they are opened by the caller's function.
 *
 * - At most `identitiesMax` are kept, and only as long as their signals are next.
 * - A name counts only while the person still has the profile that it was opened from: an erased person has none.
 */
import type { Projection, Sealed, UserId } from "../../../events/index.ts";
import type { Identity } from "./pending-signals.ts";

export type OpenIdentities = (users: readonly UserId[]) => Promise<ReadonlyMap<UserId, Identity>>;

/** The people of the signals that are looked at when some are sent. */
export const identitiesMax = 64;
/** Names are opened many at once, when one of so many next people is unknown: each time costs a call of the store. */
const soonMax = 16;

export class Identities {
  readonly #known = new Map<UserId, Readonly<{ sealed: Sealed; identity: Identity | undefined }>>();
  readonly #projection: Pick<Projection, "user">;
  readonly #keepsClaims: boolean;

  constructor(projection: Pick<Projection, "user">, { keepsClaims }: Readonly<{ keepsClaims: boolean }>) {
    this.#projection = projection;
    this.#keepsClaims = keepsClaims;
  }

  /** Opens the names of the first people, and drops all others. */
  async prepare(users: Iterable<UserId | null>, open: OpenIdentities): Promise<void> {
    const next = new Set<UserId>();
    for (const userId of users) {
      if (userId !== null) next.add(userId);
      if (next.size >= identitiesMax) break;
    }
    for (const userId of this.#known.keys())
      if (!next.has(userId) || this.#entry(userId) === undefined) this.#known.delete(userId);
    const isUnknown = (userId: UserId): boolean => !this.#known.has(userId);
    const people = [...next];
    if (people.slice(0, soonMax).some(isUnknown)) await this.#open(people.filter(isUnknown), open);
  }

  /** Opens the name of a person who is not among the first. */
  async ensure(userId: UserId, open: OpenIdentities): Promise<void> {
    if (this.#entry(userId) === undefined) await this.#open([userId], open);
  }

  identityOf(userId: UserId): Identity | undefined {
    return this.#entry(userId)?.identity;
  }

  get size(): number {
    return this.#known.size;
  }

  async #open(users: readonly UserId[], open: OpenIdentities): Promise<void> {
    const sealed = new Map<UserId, Sealed>();
    for (const userId of users) {
      const profile = this.#projection.user(userId)?.profile;
      if (profile !== undefined && profile !== null) sealed.set(userId, profile);
    }
    if (sealed.size === 0) return;
    const opened = await open([...sealed.keys()]);
    for (const [userId, profile] of sealed) {
      const found = opened.get(userId);
      // The claims may be long, and name no one.
      const identity = found === undefined || this.#keepsClaims ? found : { ...found, claims: {} };
      this.#known.set(userId, { sealed: profile, identity });
    }
  }

  #entry(userId: UserId): Readonly<{ identity: Identity | undefined }> | undefined {
    const known = this.#known.get(userId);
    return known?.sealed === this.#projection.user(userId)?.profile ? known : undefined;
  }
}
