/**
 * Logouts: people sign in with sessions of their identity provider, and the provider ends some of these before, while
 * and after that, through another broker.
 */
import {
  type CommandResult,
  genesis,
  type NeededLink,
  neededLink,
  parseCommandId,
  providerSessionId,
  type SessionId,
  type UserId,
} from "../../../src/events/index.ts";
import { sessionIdOf } from "../people.ts";
import { signIn } from "../sign-ins.ts";
import type { PlannedAction } from "../workload-plan.ts";
import { type OutsideParts, wallOf } from "./outside-parts.ts";
import { issuer } from "./provisioned-people.ts";

const signInsMax = 3;
const signInMs = 3_000;
const logoutMs = [-1_500, 3_500] as const;
/** Chance that a logout is of a session with which no person signs in. */
const unknownChance = 0.1;
const lastsMs = 300_000;

export class Logouts {
  readonly #parts: OutsideParts;

  constructor(parts: OutsideParts) {
    this.#parts = parts;
  }

  /** A person signs in a few times with one session of the provider, which ends at some time of these. */
  session({ who }: PlannedAction): void {
    const { actors, people, random } = this.#parts;
    const userId = people.user(who);
    const providerSession = providerSessionId(issuer, random.uuid());
    const count = random.chance(unknownChance) ? 0 : random.between(1, signInsMax);
    const begunMs = Math.max(0, -logoutMs[0]);
    for (let n = 0; n < count; n += 1) {
      const [begins, takes] = [random.within(0, signInMs), random.within(0, 800)];
      const sessionId = sessionIdOf(random.bytes(12));
      actors.world.after(begunMs + begins, () => this.#signIn({ sessionId, userId, providerSession }, takes));
    }
    const named = random.chance(0.5) ? userId : null; // a logout token may name the session alone
    actors.world.after(begunMs + random.within(...logoutMs), () => this.#end({ userId: named, providerSession }));
  }

  /** The provider ends all sessions of a person. */
  person({ who }: PlannedAction): void {
    const userId = this.#parts.people.user(who);
    this.#end({ userId, providerSession: null });
  }

  /** @param takes the time (ms) that the person needs at the provider */
  #signIn(of: Readonly<{ sessionId: SessionId; userId: UserId; providerSession: SessionId }>, takes: number): void {
    const { actors, options, people, random, client, submit } = this.#parts;
    const begunLink = this.#seen();
    actors.world.after(takes, () => {
      const { sessionId, userId, providerSession } = of;
      const session = signIn(options, { sessionId, userId, now: wallOf(actors), lastsMs, groupIds: null });
      const commandId = parseCommandId(random.uuid());
      const command = { ...session, providerSession, begunAt: begunLink.position, begunLink };
      submit({ commandId, actor: "service:authenticate", command }, client(random.next()), (result) => {
        if (result.type !== "done") return;
        people.hold({ sessionId, userId, token: neededLink(result), over: false, providerSession });
      });
    });
  }

  /** What an authenticate node has applied. */
  #seen(): NeededLink {
    const { actors, random } = this.#parts;
    return random.pick(actors.nodes).copy()?.appliedLink ?? genesis;
  }

  #end({ userId, providerSession }: Readonly<{ userId: UserId | null; providerSession: SessionId | null }>): void {
    const { people, random, client, submit, askReceipt } = this.#parts;
    const commandId = parseCommandId(random.uuid());
    const by = client(random.next());
    const command = { type: "recordLogout", providerSession, userId, remembered: true } as const;
    const answered = (result: CommandResult): void => {
      people.end((held) =>
        providerSession === null ? held.userId === userId : held.providerSession === providerSession,
      );
      if (result.type === "done") askReceipt(by, { type: "link", link: result.link });
    };
    submit({ commandId, actor: "service:authenticate", command }, by, answered);
  }
}
