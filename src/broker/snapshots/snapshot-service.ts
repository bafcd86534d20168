/**
 * Snapshot service: a broker's work with snapshots. It takes them while it leads, copies those of others while it does
 * not, starts from one itself, and serves them. Pure; the disk, the log and the turns are arguments.
 */
import type { Position } from "../../events/index.ts";
import { type LesseeStatus, sharesLink } from "../../replication/lease/index.ts";
import type { SnapshotManifest } from "../../replication/snapshot/index.ts";
import type { BrokerState } from "../state/broker-state.ts";
import { type SnapshotDuty, type SnapshotDutyOptions, snapshotDuty } from "./snapshot-duty.ts";
import { createSnapshotStore, type SnapshotStore } from "./snapshot-store.ts";

export type SnapshotService = SnapshotStore &
  Readonly<{
    duty: SnapshotDuty;
    /** Requests a snapshot at this position or later from the next run of the duty. @returns the position */
    requestSnapshot: (position: Position) => Position;
    /** The broker of this service has started. */
    serve: (state: Pick<BrokerState, "applied" | "epochs" | "locate">) => void;
  }>;

export type SnapshotServiceOptions = Omit<SnapshotDutyOptions, "store" | "folder" | "log"> &
  Omit<Parameters<typeof createSnapshotStore>[0], "isKnown" | "log"> &
  Readonly<{ log: SnapshotDutyOptions["log"] & Parameters<typeof createSnapshotStore>[0]["log"] }>;

export function createSnapshotService(options: SnapshotServiceOptions): SnapshotService {
  let state: Pick<BrokerState, "applied" | "epochs" | "locate"> | undefined;

  function isKnown({ link, epochs }: SnapshotManifest): boolean {
    if (state === undefined || state.applied.position < link.position) return false;
    const standing = state.locate(link);
    return (standing === "onChain" || standing === "unknown") && sharesLink(state.epochs, link, epochs);
  }

  const store = createSnapshotStore({ ...options, isKnown });
  const duty = snapshotDuty({ ...options, store: store });
  return {
    ...store,
    duty,
    requestSnapshot(position) {
      duty.requestSnapshot(position);
      return position;
    },
    serve(of) {
      state = of;
    },
  };
}

/**
 * The position up to which no lease holder needs the log any more. A node that is fenced off needs nothing: it reads a
 * snapshot when it returns.
 */
export function retentionFloor(standings: readonly LesseeStatus[], head: Position): Position {
  const needs = standings
    .filter(({ fencedInMs }) => fencedInMs === null || fencedInMs > 0)
    .map(({ renew, enforced }) => Math.max(renew?.applied.position ?? 0, enforced?.position ?? 0));
  return Math.min(head, ...needs) as Position;
}
