/**
 * Promotion order: whether a standby that answers is about to become a primary because an earlier run ordered it.
 *
 * `pg_promote` returns before the promotion, and the order outlasts the session that gave it. So a run that was killed
 * may leave a standby that becomes a primary later. An order is first the file `promote` in the data directory. The
 * startup process then removes the file and marks the promotion as triggered. From then on the server refuses to change
 * whether the replay is paused (xlogfuncs.c and xlogrecovery.c of PostgreSQL 15 to 17).
 *
 * - The check concludes nothing from time. Between the two signs it sees the startup process in a wait, so that process
 *   is not between the removal and the mark.
 * - The result remains true only while the caller holds the lock of the server: a session that may still order a
 *   promotion holds it (promotion-servers.ts).
 */
import { messageOf } from "./connection.ts";
import { postgresDriver } from "./driver.ts";
import { type PromotionServer, pollSeconds, waitUntil } from "./promotion-servers.ts";

/** `unknown`: it cannot be shown that no order was given. */
export type PromotionOrder = Readonly<{ state: "none" | "given" | "unknown"; why: string }>;

/** How long a standby may replay without a pause before the check gives up, ms. */
const busyMsMax = 5_000;
/** The waits of a startup process between two records, in which it holds no half-read order. */
const waitEvents = "'RecoveryWalStream', 'RecoveryRetrieveRetryInterval', 'RecoveryPause'";
/** SQLSTATE object_not_in_prerequisite_state: the promotion is triggered, or recovery has ended. */
const notInRecovery = "55000";

const given: PromotionOrder = { state: "given", why: "was ordered by an earlier run to become a primary" };

/** @returns the standbys of which it is not shown that no order was given, by host */
export async function promotionOrdersOf(
  standbys: readonly PromotionServer[],
): Promise<ReadonlyMap<string, PromotionOrder>> {
  const all = standbys.map(async (standby) => [standby.host.name, await promotionOrderAt(standby)] as const);
  return new Map((await Promise.all(all)).filter(([, { state }]) => state !== "none"));
}

/** Asks a standby. Never throws. */
export async function promotionOrderAt({ ask }: Pick<PromotionServer, "ask">): Promise<PromotionOrder> {
  try {
    const { ordered } = await ask("select (pg_stat_file('promote', true)).modification is not null as ordered");
    if (ordered === true) return given;
    const what = "its startup process to wait between two records (pg_stat_activity shows it to pg_read_all_stats)";
    await waitUntil(busyMsMax, what, async () => {
      const { waits } = await ask(`select exists (
        select from pg_stat_activity where backend_type = 'startup' and wait_event in (${waitEvents})) as waits`);
      await checkNotTriggered(ask);
      if (waits !== true) await ask(`select pg_sleep(${pollSeconds})`);
      return waits === true;
    });
    return { state: "none", why: "" };
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (cause instanceof postgresDriver().DatabaseError && cause.code === notInRecovery) return given;
    return { state: "unknown", why: `may have been ordered to become a primary: ${messageOf(error)}` };
  }
}

/**
 * Changes nothing. A promotion that is triggered ends a pause, so a paused replay shows that none is.
 * @throws PromotionFailedError whose cause has the state `notInRecovery` when one is triggered, or has ended
 */
async function checkNotTriggered(ask: PromotionServer["ask"]): Promise<void> {
  const { paused } = await ask("select pg_is_wal_replay_paused() as paused");
  if (paused !== true) await ask("select pg_wal_replay_resume()");
}
