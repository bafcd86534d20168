/**
 * People: the record that the workload's clients keep of users and their sessions. Pure except for its own state.
 *
 * - A client knows a session from its sign-in's answer on, together with the link of its cookie.
 * - A client keeps revoked sessions and tries them again.
 */
import {
  type GroupId,
  type NeededLink,
  type Profile,
  parseGroupId,
  parseSessionId,
  parseUserId,
  type SessionId,
  type UserId,
} from "../../src/events/index.ts";

export type HeldSession = {
  readonly sessionId: SessionId;
  readonly userId: UserId;
  /** The link in the cookie. */
  token: NeededLink;
  /** A client requested its revocation. */
  over: boolean;
  /** The session at the identity provider in which it began; null: none was named. */
  readonly providerSession: SessionId | null;
};

const heldMax = 400;

export class People {
  readonly users: readonly UserId[];
  readonly groups: readonly GroupId[];
  readonly #live: HeldSession[] = [];
  readonly #over: HeldSession[] = [];

  constructor(users: number, groups: readonly string[]) {
    this.users = Array.from({ length: users }, (_, index) => parseUserId(`user-${index + 1}`));
    this.groups = groups.map((name) => parseGroupId(name));
  }

  user(by: number): UserId {
    return at(this.users, by) ?? parseUserId("user-1");
  }

  group(by: number): GroupId {
    return at(this.groups, by) ?? parseGroupId("board");
  }

  hold(session: HeldSession): void {
    this.#live.push(session);
    if (this.#live.length > heldMax) this.#live.shift();
  }

  /** Picks a live session; above 0.85, `much` picks an ended one if there is any. Favors a few hot sessions. */
  session(by: number, much: number): HeldSession | undefined {
    // Favors the sessions that ended last: a user who has just lost access retries at once.
    if (much > 0.85 && this.#over.length > 0) return at(this.#over, by ** 4);
    return at(this.#live, by * by);
  }

  /** The live sessions, newest last. */
  all(): readonly HeldSession[] {
    return [...this.#live];
  }

  live(by: number): HeldSession | undefined {
    return at(this.#live, by);
  }

  some(by: number, count: number): readonly HeldSession[] {
    const first = Math.floor(by * this.#live.length);
    return this.#live.slice(first, first + count);
  }

  /** Marks sessions as revoked on request. Clients try them from now on to check that access has ended. */
  end(which: (session: HeldSession) => boolean): void {
    for (let i = this.#live.length - 1; i >= 0; i -= 1) {
      const session = this.#live[i];
      if (session === undefined || !which(session)) continue;
      session.over = true;
      this.#live.splice(i, 1);
      this.#over.unshift(session); // newest first: clients try them most
    }
    if (this.#over.length > heldMax) this.#over.length = heldMax;
  }
}

export function sessionIdOf(bytes: Uint8Array): SessionId {
  return parseSessionId(`s-${Buffer.from(bytes).toString("hex")}`);
}

export function profileOf(userId: UserId, round: number): Profile {
  return {
    issuer: "https://idp.example",
    subject: userId,
    email: `${userId}@example.com`,
    emailVerified: true,
    name: userId,
    claims: { round: [round] },
  };
}

function at<T>(list: readonly T[], by: number): T | undefined {
  return list[Math.floor(by * list.length)];
}
