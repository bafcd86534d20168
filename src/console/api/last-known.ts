/**
 * Last-known state: what a region that is cut off knows of the nodes, in place of a receipt, which only a leader gives.
 *
 * - It is no receipt: its status is `unknown`, it is not signed, and it compares no node with the requested change.
 * - The nodes of the region are as its regional broker knows them now. Other regions are as the leader reported them
 *   last, with the age of that report.
 */
import type { UnixMs } from "../../events/index.ts";
import type { ClusterStatus, Databroker, HomeOutOfReach } from "../../replication/index.ts";
import { BrokerUnavailableError, formatUnavailable } from "../../replication/wire/index.ts";
import { type LastKnownState, lastKnownSchema } from "./operator-schemas.ts";

export const noReceiptWithoutHome =
  "the home region is out of reach, so no leader can give a receipt; lastKnown is what this region knows, and proves nothing";

/** @returns null: the error has another cause, or the home region answers by now, so the request can be repeated */
export async function lastKnownAfter(
  error: unknown,
  { databroker, now }: Readonly<{ databroker: Pick<Databroker, "status">; now: () => UnixMs }>,
): Promise<LastKnownState | null> {
  if (!(error instanceof BrokerUnavailableError) || formatUnavailable(error).code === undefined) return null;
  try {
    return lastKnownOf(await databroker.status(), now());
  } catch (unavailable) {
    if (unavailable instanceof BrokerUnavailableError) return null;
    throw unavailable;
  }
}

/** @returns null: not the last-known state of a server of this build */
export function parseLastKnown(value: unknown): LastKnownState | null {
  return lastKnownSchema.safeParse(value).data ?? null;
}

function lastKnownOf({ home, broker, nodes }: ClusterStatus, at: UnixMs): LastKnownState | null {
  if (home === undefined) return null;
  const { region, silentMs, leasesUntil, lastKnown } = home;
  const { brokerId, applied } = broker;
  return {
    status: "unknown",
    complete: false,
    region,
    at,
    homeSilentMs: silentMs,
    leasesUntil,
    broker: { brokerId, applied },
    nodes: nodes.map(({ node, boot, role, enforced, lastGrantAgoMs, fencedInMs }) => ({
      node,
      boot,
      role,
      enforced,
      lastGrantAgoMs,
      fencedInMs,
    })),
    reported: lastKnown === null ? null : reportOf(lastKnown, at),
  };
}

function reportOf(
  { at, head = null, regions }: NonNullable<HomeOutOfReach["lastKnown"]>,
  now: UnixMs,
): LastKnownState["reported"] {
  return {
    at,
    ageMs: Math.max(0, now - at),
    head,
    regions: regions.map(({ region, brokers, nodes, fenced, absent, cutOff, lag }) => ({
      region,
      brokers,
      nodes,
      fenced,
      absent,
      cutOff,
      applied: head === null || lag === null ? null : Math.max(0, head.position - lag),
    })),
  };
}
