/** A projection of people, sessions and groups for the lists, with the log that made it. */
import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { OperatorApiDeps } from "../../../../src/console/api/operator-route.ts";
import { createListCursors } from "../../../../src/console/index.ts";
import {
  type CardeaEvent,
  FactPositions,
  type GroupId,
  type PersonKey,
  type Profile,
  Projection,
  type Recorded,
  type Sealed,
  type SessionId,
  type Stream,
  seal,
  type UnixMs,
  type UserId,
  userIdOf,
  wrapKey,
} from "../../../../src/events/index.ts";
import type { Change, ChangeListener } from "../../../../src/replication/index.ts";
import { createPersonKeys } from "../../../../src/replication/node/person-keys.ts";
import { personKeyWrap } from "../../../../src/replication/wire/cluster-keys.ts";
import { secret } from "../../../replication/support.ts";
import { entryAt } from "../../../support/log-writer.ts";

export const startedAt = 1_800_000_000_000;

export class ListedWorld {
  readonly projection = new Projection();
  readonly places = new FactPositions(0 as never);
  readonly #listeners = new Set<ChangeListener>();
  readonly #keys = createPersonKeys([secret]);
  readonly #keyOf = new Map<UserId, PersonKey>();
  now = startedAt;
  /** How often the lists let other work go first. */
  pauses = 0;

  get deps(): OperatorApiDeps {
    const { projection, places } = this;
    return {
      replica: {
        projection,
        places,
        get applied() {
          return projection.applied;
        },
        open: (sealed: Sealed, userId: UserId) => this.#keys.open(sealed, userId),
        isDeniedLocally: () => false,
        isDeniedByRegion: () => false,
        onChange: (listener: ChangeListener) => {
          this.#listeners.add(listener);
          return () => void this.#listeners.delete(listener);
        },
      },
      now: () => this.now as UnixMs,
      sleep: async () => {
        this.pauses += 1;
        await delay(0);
      },
      idle: { describe: () => ({ seenAt: null, seenBy: "sign-in", idleAt: null }) },
      providers: { nameOf: () => null, refreshEveryMs: 60_000 },
      cursors: createListCursors([secret], randomBytes),
    } as unknown as OperatorApiDeps;
  }

  apply(...events: readonly CardeaEvent[]): void {
    const touched = new Set<Stream>();
    for (const event of events) {
      const { recorded } = entryAt(this.projection.applied, 1 as never, event, { version: 1 });
      for (const stream of this.projection.apply(recorded as Recorded)) touched.add(stream);
      this.places.record(recorded as Recorded);
      if (event.type === "UserErased") this.#keys.drop(event.userId);
    }
    const change = { link: this.projection.applied, touched, rebuilt: false } as Change;
    for (const listener of this.#listeners) void listener(change);
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  person(parts: Partial<Profile> & Pick<Profile, "subject">): UserId {
    const profile: Profile = { issuer: "https://idp", email: "", emailVerified: true, name: "", claims: {}, ...parts };
    const userId = userIdOf(profile.issuer, profile.subject);
    this.apply({ type: "UserUpserted", userId, profile: this.seal(userId, profile) });
    return userId;
  }

  seal(userId: UserId, profile: Profile): Sealed {
    let key = this.#keyOf.get(userId);
    if (key === undefined) {
      key = { userId, keyId: randomBytes(8), key: randomBytes(32) };
      this.#keyOf.set(userId, key);
      this.#keys.add([wrapKey(key, personKeyWrap(secret), randomBytes(12))]);
    }
    return seal(profile, key, randomBytes(12));
  }

  session(userId: UserId, issuedAt: number, parts: { lifeMs?: number; idpId?: string; id?: string } = {}): SessionId {
    const sessionId = (parts.id ?? randomUUID()) as SessionId;
    const user = this.projection.user(userId);
    this.apply({
      type: "SessionCreated",
      sessionId,
      userId,
      idpId: parts.idpId ?? "demo",
      issuedAt: issuedAt as UnixMs,
      expiresAt: (issuedAt + (parts.lifeMs ?? 86_400_000)) as UnixMs,
      profile: user?.profile ?? new Uint8Array(),
    } as CardeaEvent);
    return sessionId;
  }

  members(groupId: string, added: readonly UserId[], removed: readonly UserId[] = []): void {
    this.apply({
      type: "GroupMembersChanged",
      groupId: groupId as GroupId,
      source: "operator",
      added,
      removed,
    } as never);
  }
}
