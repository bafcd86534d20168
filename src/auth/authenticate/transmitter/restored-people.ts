/**
 * Restored people: whether something else still bars a person whose account was restored. `account-enabled` is then not
 * sent.
 *
 * - A person may be suspended as such, as a provisioned person of a SCIM client or a directory, and by a transmitter's
 *   record. Each of these is a user of the log. The last one that is lifted is reported.
 * - A provisioned person names no one who signs in. So those who are suspended are looked at: a hash of each one's keys
 *   is kept, never a name.
 */
import { createHmac } from "node:crypto";
import {
  hasServedSuspension,
  isProvisioned,
  isSignalRecord,
  type Profile,
  type Projection,
  parseProvisioned,
  type Sealed,
  type UnixMs,
  type User,
  type UserId,
} from "../../../events/index.ts";
import type { OpenIdentities } from "./identities.ts";
import type { Identity } from "./pending-signals.ts";

/** The provisioned people and the records of signals that a profile belongs to. */
export type RecordsOf = (profile: Profile) => readonly UserId[];

export type RestoredPeopleParts = Readonly<{
  projection: Pick<Projection, "user" | "users">;
  recordsOf: RecordsOf;
  open: OpenIdentities;
  now: () => UnixMs;
  /** Of this process: keys of people are kept under it. */
  salt: string;
}>;

/** People whose profiles are opened at once. */
const openMax = 1_000;
/** How often a provisioned person may have moved. */
const movesMax = 8;

export class RestoredPeople {
  readonly #parts: RestoredPeopleParts;
  /** Of suspended people, by the profile that was read. */
  readonly #suspended = new Map<UserId, Readonly<{ sealed: Sealed; keys: readonly string[] }>>();

  constructor(parts: RestoredPeopleParts) {
    this.#parts = parts;
  }

  /** Those of the people who are still barred. */
  async stillBarred(users: readonly UserId[], identities: ReadonlyMap<UserId, Identity>): Promise<ReadonlySet<UserId>> {
    const barred = new Set<UserId>();
    for (const userId of users)
      if (this.#isBarred(userId) || (await this.#isBarredByRecord(identities.get(userId)))) barred.add(userId);
    const provisioned = users.filter((userId) => {
      const identity = identities.get(userId);
      return !barred.has(userId) && identity !== undefined && isProvisioned(identity);
    });
    if (provisioned.length === 0) return barred;
    await this.#readSuspended();
    const keys = new Set([...this.#suspended.values()].flatMap((each) => each.keys));
    for (const userId of provisioned) {
      const email = identities.get(userId)?.email ?? "";
      if (keys.has(userId) || (email !== "" && keys.has(this.#keyOf(email)))) barred.add(userId);
    }
    return barred;
  }

  #isBarred(userId: UserId): boolean {
    const user = this.#parts.projection.user(userId);
    return user !== undefined && (user.status === "erased" || isSuspended(user, this.#parts.now()));
  }

  async #isBarredByRecord(identity: Identity | undefined): Promise<boolean> {
    if (identity === undefined) return false;
    const { projection, recordsOf } = this.#parts;
    // What a directory states of an e-mail is as good as verified.
    const profile = isProvisioned(identity) ? { ...identity, emailVerified: identity.email !== "" } : identity;
    let records = recordsOf(profile).filter((id) => projection.user(id) !== undefined);
    for (let moves = 0; records.length > 0 && moves < movesMax; moves++) {
      if (records.some((id) => this.#isBarred(id))) return true;
      const opened = await this.#parts.open(records.filter((id) => !isSignalRecord(id)));
      records = [...opened.values()].flatMap((each) => parseProvisioned(each)?.record.movedTo ?? []);
    }
    return false;
  }

  /** Opens the profiles of suspended people that are new or have changed. */
  async #readSuspended(): Promise<void> {
    const { projection, now } = this.#parts;
    const at = now();
    const changed = new Map<UserId, Sealed>();
    const current = new Set<UserId>();
    for (const user of projection.users()) {
      if (!isSuspended(user, at) || user.profile === null || isSignalRecord(user.userId)) continue;
      current.add(user.userId);
      if (this.#suspended.get(user.userId)?.sealed !== user.profile) changed.set(user.userId, user.profile);
    }
    for (const userId of this.#suspended.keys()) if (!current.has(userId)) this.#suspended.delete(userId);
    const users = [...changed.keys()];
    for (let first = 0; first < users.length; first += openMax) {
      const opened = await this.#parts.open(users.slice(first, first + openMax));
      for (const [userId, identity] of opened) {
        const sealed = changed.get(userId);
        if (sealed !== undefined) this.#suspended.set(userId, { sealed, keys: this.#keysOf(identity) });
      }
    }
  }

  #keysOf(identity: Identity): readonly string[] {
    const { email, emailVerified } = identity;
    const isOwn = isProvisioned(identity);
    const byEmail = email !== "" && (emailVerified || isOwn) ? [this.#keyOf(email)] : [];
    return isOwn ? byEmail : [...byEmail, ...this.#parts.recordsOf(identity)];
  }

  #keyOf(email: string): string {
    return createHmac("sha256", this.#parts.salt).update(email.toLowerCase()).digest("base64url");
  }
}

const isSuspended = (user: User, now: UnixMs): boolean =>
  user.status === "suspended" && !hasServedSuspension(user, now);

/** All records that a profile belongs to, as far as the configuration has any. */
export function recordsOfAll(...each: readonly (((profile: Profile) => readonly UserId[]) | undefined)[]): RecordsOf {
  const known = each.filter((one) => one !== undefined);
  return (profile) => known.flatMap((one) => one(profile));
}
