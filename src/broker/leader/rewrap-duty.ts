/**
 * Rewrap duty: while `shared_secret` is being replaced, wraps the keys of people under the present secret, so that the
 * previous one can be removed. The keys themselves, and what is sealed with them, stay.
 *
 * It passes over all keys repeatedly, because a broker whose file still has the secrets in the old order may wrap some
 * back. It reports when none is left. In the first round of a change, with the new secret as the previous one, none is
 * from the start. Keys that open under neither secret are only counted: they were lost before. Every leader does the
 * same, so it needs no epoch.
 */
import { type PersonKey, SealError, type UserId, unwrapKey, type WrappedKey, wrapKey } from "../../events/index.ts";
import type { Logger } from "../../replication/index.ts";
import type { EventLog } from "../../replication/log/index.ts";
import { personKeyWrap } from "../../replication/wire/index.ts";
import type { Duty, DutyContext } from "../core/duty.ts";

export type RewrapProgress = Readonly<{
  /** Keys checked in this round so far, and those of them rewrapped. */
  keysSeen: number;
  keysRewrapped: number;
  /** Keys that the last whole round found under the previous secret; absent: no round has finished. */
  keysLeft?: number;
  /** Keys that open under neither secret. */
  keysUnreadable: number;
}>;

export type RewrapDuty = Duty & Readonly<{ progress: () => RewrapProgress }>;

const pageKeys = 500;
const everyMs = 10_000;
/** The pause once nothing is left. */
const idleMs = 60_000;

export function rewrapDuty(
  options: Readonly<{
    log: Pick<EventLog, "keysAfter" | "rewrapKeys">;
    secret: Uint8Array;
    previousSecret: Uint8Array;
    random: (bytes: number) => Uint8Array;
    logger: Logger;
  }>,
): RewrapDuty {
  const { log, random, logger } = options;
  const [present, previous] = [personKeyWrap(options.secret), personKeyWrap(options.previousSecret)];
  let progress: RewrapProgress = { keysSeen: 0, keysRewrapped: 0, keysUnreadable: 0 };
  let restUntil = 0;

  async function run({ signal, now }: DutyContext): Promise<void> {
    if (now < restUntil) return;
    let [seen, rewrapped, unreadable] = [0, 0, 0];
    for (let after: UserId | null = null; !signal.aborted; ) {
      const page: readonly WrappedKey[] = await log.keysAfter(after, pageKeys);
      const rewrappedKeys = page.flatMap((key) => {
        if (unwrapWith(key, present) !== undefined) return [];
        const person = unwrapWith(key, previous);
        if (person === undefined) unreadable += 1;
        return person === undefined ? [] : [wrapKey(person, present, random(12))];
      });
      if (rewrappedKeys.length > 0) rewrapped += await log.rewrapKeys(rewrappedKeys);
      seen += page.length;
      progress = { ...progress, keysSeen: seen, keysRewrapped: rewrapped, keysUnreadable: unreadable };
      after = page.at(-1)?.userId ?? null;
      if (page.length < pageKeys) break;
    }
    if (signal.aborted) return;
    const wasLeft = progress.keysLeft;
    progress = { ...progress, keysLeft: rewrapped };
    if (rewrapped > 0) logger.info({ seen, rewrapped, unreadable }, "rewrapped personal keys under the current secret");
    if (unreadable > 0 && wasLeft === undefined)
      logger.error({ unreadable }, "some personal keys cannot be opened with either secret");
    if (rewrapped > 0) return;
    restUntil = now + idleMs;
    if (wasLeft !== 0) logger.info({ seen }, "no personal key needs shared_secret_previous");
  }

  return { name: "rewrap", everyMs, run, progress: () => progress };
}

function unwrapWith(key: WrappedKey, wrappingKey: Uint8Array): PersonKey | undefined {
  try {
    return unwrapKey(key, wrappingKey);
  } catch (error) {
    if (error instanceof SealError) return undefined;
    throw error;
  }
}
