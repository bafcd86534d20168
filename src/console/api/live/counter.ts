/**
 * Counter: how many sessions are active, of how many people, and what else the overview counts, for every reader at
 * once. Pure, except for its dependencies.
 *
 * Only sessions have to be gone through. One pass serves every reader and yields every `turnMs`. The next begins after
 * `pauseMs`, or later after a long pass, so that counting never takes more than a small part of a core.
 */
import type { ActiveSession, UnixMs, UserId } from "../../../events/index.ts";
import type { Replica } from "../../../replication/index.ts";
import type { Counts } from "./live-operations.ts";

export type Counter = Readonly<{
  /** @param waitMs how long to wait for a count of sessions, if there is none yet or something has changed */
  read(options: Readonly<{ waitMs: number }>): Promise<Counts>;
}>;

type CounterParts = Readonly<{
  replica: Pick<Replica, "projection">;
  now: () => UnixMs;
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  log: Readonly<{ info(fields: object, message: string): void }>;
}>;

const turnMs = 4;
const pauseMs = 2_000;
/** A pass is followed by a pause of at least this many times its length. */
const pausePerPass = 20;
const checkEvery = 256;
const never = new AbortController().signal;

export function createCounter({ replica, now, sleep, log }: CounterParts): Counter {
  let last: Readonly<{ sessions: number; people: number; key: string }> | null = null;
  let passing: Promise<void> | null = null;
  let nextAt = Number.NEGATIVE_INFINITY;

  async function pass(): Promise<void> {
    const startedAt = now();
    const { projection } = replica;
    const key = keyOf(projection);
    const at = now();
    let turnAt = startedAt;
    let seen = 0;
    const rest = async (): Promise<void> => {
      seen += 1;
      if (seen % checkEvery !== 0 || now() - turnAt < turnMs) return;
      await sleep(0, never);
      turnAt = now();
    };
    let sessions = 0;
    const people = new Set<UserId>();
    for (const session of projection.sessions()) {
      if (session.status === "active" && session.expiresAt > at && isInForce(projection, session)) {
        sessions += 1;
        people.add(session.userId);
      }
      await rest();
    }
    last = { sessions, people: people.size, key };
    nextAt = now() + Math.max(pauseMs, pausePerPass * (now() - startedAt));
  }

  return {
    async read({ waitMs }) {
      const { projection } = replica;
      const isDue = (last === null || last.key !== keyOf(projection) || waitMs === 0) && now() >= nextAt;
      if (isDue && passing === null)
        passing = pass()
          .catch((error: unknown) => {
            nextAt = now() + pauseMs; // the count before stays
            log.info({ error: String(error) }, "sessions could not be counted; the console shows the count before");
          })
          .finally(() => {
            passing = null;
          });
      if (passing !== null && waitMs > 0) await Promise.race([passing, sleep(waitMs, never)]);
      return {
        sessions: last?.sessions ?? null,
        people: last?.people ?? null,
        groups: projection.counts.groups,
        held: heldAt(projection, now()),
      };
    },
  };
}

/** By the facts about the person; `sessionStatus` would fill its cache with every session. */
function isInForce(projection: Replica["projection"], { userId, createdAt }: ActiveSession): boolean {
  const user = projection.user(userId);
  return user === undefined || (user.status === "active" && createdAt >= user.sessionsRevokedBelow);
}

function heldAt({ massChanges }: Replica["projection"], at: UnixMs): number {
  let held = 0;
  for (const { status, expiresAt } of massChanges.held()) if (status === "held" && expiresAt > at) held += 1;
  return held;
}

/** Another key: an event was folded in. */
function keyOf({ applied }: Replica["projection"]): string {
  return `${applied.epoch}.${applied.position}`;
}
