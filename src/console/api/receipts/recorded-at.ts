/**
 * Recorded at: when the change of a receipt was recorded, by the clock of the leader of that time. With it and
 * `confirmedAt` a receipt says how long each node took. A signed receipt does not have it.
 */
import { LRUCache } from "lru-cache";
import {
  decodeEvents,
  formatLink,
  type Link,
  linkOf,
  type Position,
  previousPosition,
  sameLink,
} from "../../../events/index.ts";
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";
import { linkAt } from "../changes/backward-log.ts";
import type { OperatorApiDeps } from "../operator-route.ts";

export type RecordedTimes = (link: Link | null) => Promise<string | null>;

const knownMax = 1_000;

/** Null: no broker answers, or the event has been dropped. */
export function createRecordedTimes(deps: Pick<OperatorApiDeps, "databroker">): RecordedTimes {
  const known = new LRUCache<string, string>({ max: knownMax });
  return async (link) => {
    if (link === null || link.position === 0) return null;
    const name = formatLink(link);
    const before = known.get(name);
    if (before !== undefined) return before;
    try {
      const { link: floor } = await linkAt(deps, previousPosition(link.position as Position));
      const outcome = floor === null ? null : await deps.databroker.read(floor, { limit: 1, waitMs: 0 });
      if (floor === null || outcome?.type !== "page") return null;
      const [recorded] = decodeEvents(outcome.page.entries.slice(0, 1), floor);
      if (recorded === undefined || !sameLink(linkOf(recorded), link)) return null;
      const at = new Date(recorded.recordedAt).toISOString();
      known.set(name, at);
      return at;
    } catch (error) {
      if (error instanceof BrokerUnavailableError) return null;
      throw error;
    }
  };
}
