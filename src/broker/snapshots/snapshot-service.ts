/**
 * Snapshot service: all that one broker has to do with snapshots: it takes them while it leads, copies those of others while it does
 * not, begins from one itself, and serves them. Pure; the disk, the log and the turns are given.
 */
import type { Position } from "../../events/index.ts";
import { type SnapshotManifest, sharesLink } from "../../replication/index.ts";
import type { BrokerState } from "../state/broker-state.ts";
import { type SnapshotDuty, type SnapshotDutyOptions, snapshotDuty } from "./snapshot-duty.ts";
import { createSnapshotStore, type SnapshotStore } from "./snapshot-store.ts";

export type SnapshotService = SnapshotStore &
  Readonly<{
    duty: SnapshotDuty;
    /** One of this place or beyond is taken as soon as the duty has its turn. @returns the place */
    want: (position: Position) => Position;
    /** The broker whose it is has started. */
    serve: (ledger: Pick<BrokerState, "applied" | "epochs" | "standingOf">) => void;
  }>;

export type SnapshotOfficeOptions = Omit<SnapshotDutyOptions, "shelf" | "folder" | "log"> &
  Omit<Parameters<typeof createSnapshotStore>[0], "isKnown" | "log"> &
  Readonly<{ log: SnapshotDutyOptions["log"] & Parameters<typeof createSnapshotStore>[0]["log"] }>;

export function createSnapshotService(options: SnapshotOfficeOptions): SnapshotService {
  let ledger: Pick<BrokerState, "applied" | "epochs" | "standingOf"> | undefined;

  function isKnown({ link, epochs }: SnapshotManifest): boolean {
    if (ledger === undefined || ledger.applied.position < link.position) return false;
    const standing = ledger.standingOf(link);
    return (standing === "held" || standing === "forgotten") && sharesLink(ledger.epochs, link, epochs);
  }

  const shelf = createSnapshotStore({ ...options, isKnown });
  const duty = snapshotDuty({ ...options, shelf });
  return {
    ...shelf,
    duty,
    want(position) {
      duty.want(position);
      return position;
    },
    serve(of) {
      ledger = of;
    },
  };
}
