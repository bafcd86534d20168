/**
 * Drill lock: one drill at a time, by a membership in the log.
 *
 * - The lock is the membership of the canary user in the group `cardea-drill-lock`. Adding a member is atomic: the log
 *   answers `changed: true` to one drill only.
 * - Two canaries could each become a member. Each drill then sees the other member, and both withdraw.
 * - The lock survives the process that took it. A drill that was killed leaves it, and the next one says how to
 *   remove it.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { OperatorRefusedError } from "../operator/operator-client.ts";
import { CannotError } from "../terminal/command.ts";
import { addMember, type DrillOperator, removeMember } from "./operator-changes.ts";

export const lockGroup = "cardea-drill-lock";

const withinMs = 20_000;
const readAgainMs = 200;

type Groups = Awaited<ReturnType<DrillOperator["groups"]>>["groups"];

/**
 * A drill that runs changes what the checks of the next one read, so this comes before them. It may miss a lock that is
 * being taken; `acquireLock` does not.
 *
 * @throws CannotError when a drill holds the lock
 */
export function refuseWhileLocked(groups: Groups): void {
  const holders = membersOfLock(groups);
  if (holders.length > 0) throw lockedError(holders);
}

/**
 * Takes the lock, or leaves nothing behind.
 * @throws CannotError when another drill holds it @throws the signal's reason
 */
export async function acquireLock(operator: DrillOperator, userId: string, signal: AbortSignal): Promise<void> {
  const commandId = randomUUID();
  const take = addMember(lockGroup, userId);
  let taken: Awaited<ReturnType<DrillOperator["submit"]>>;
  try {
    taken = await operator.submit(take, { withinMs, signal, commandId });
  } catch (error) {
    if (error instanceof OperatorRefusedError && error.outcome === "none") throw error; // certainly not taken
    // Without an answer the command may still be carried out. The same id settles it, so that it cannot follow.
    await withdraw(userId, error, async () => {
      const settling = { withinMs, signal: AbortSignal.timeout(2 * withinMs), commandId };
      if ((await operator.submit(take, settling)).changed) await releaseLock(operator, userId);
    });
    throw error;
  }
  if (!taken.changed) throw lockedError([userId]);
  try {
    const others = await otherMembers(operator, userId, taken.link.position, signal);
    if (others.length > 0) throw lockedError(others);
  } catch (error) {
    await withdraw(userId, error, () => releaseLock(operator, userId));
    throw error;
  }
}

/** @throws CannotError if the lock may remain */
async function withdraw(userId: string, why: unknown, undo: () => Promise<void>): Promise<void> {
  try {
    await undo();
  } catch (cause) {
    const reason = why instanceof Error ? why.message : String(why);
    throw new CannotError(
      `${reason}; the drill's lock may remain in the log: cardea groups remove ${lockGroup} ${userId}`,
      { cause },
    );
  }
}

/** Also after an interrupt, so it takes no signal. */
export async function releaseLock(operator: DrillOperator, userId: string): Promise<void> {
  const signal = AbortSignal.timeout(2 * withinMs);
  await operator.submit(removeMember(lockGroup, userId), { withinMs, signal });
}

/** The node that answers may be behind the lock's own event. */
async function otherMembers(
  operator: DrillOperator,
  userId: string,
  position: number,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const giveUpAt = performance.now() + withinMs;
  for (;;) {
    const answer = await operator.groups();
    if (answer.position >= position) return membersOfLock(answer.groups).filter((member) => member !== userId);
    if (performance.now() >= giveUpAt) throw new CannotError("the operator API is too far behind the log for a drill");
    signal.throwIfAborted();
    await delay(readAgainMs);
  }
}

function membersOfLock(groups: Groups): readonly string[] {
  const members = groups.find(({ id }) => id === lockGroup)?.members ?? [];
  return members.filter(({ member }) => member).map(({ userId }) => userId);
}

function lockedError(holders: readonly string[]): CannotError {
  const [holder = ""] = holders;
  return new CannotError(
    `another drill is running, or was killed: ${lockGroup} has the member ${holder}; if none runs: cardea groups remove ${lockGroup} ${holder}`,
  );
}
