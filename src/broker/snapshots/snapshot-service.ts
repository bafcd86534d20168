/**
 * Snapshot office: all that one broker has to do with snapshots: it takes them while it leads, copies those of others while it does
 * not, begins from one itself, and serves them. Pure; the disk, the log and the turns are given.
 */
import type { Position } from "../../events/index.ts";
import { type SnapshotManifest, sharesPlace } from "../../replication/index.ts";
import type { Ledger } from "../state/broker-state.ts";
import { type SnapshotDuty, type SnapshotDutyOptions, snapshotDuty } from "./snapshot-duty.ts";
import { createSnapshotShelf, type SnapshotShelf } from "./snapshot-store.ts";

export type SnapshotOffice = SnapshotShelf &
  Readonly<{
    duty: SnapshotDuty;
    /** One of this place or beyond is taken as soon as the duty has its turn. @returns the place */
    want: (position: Position) => Position;
    /** The broker whose it is has started. */
    serve: (ledger: Pick<Ledger, "applied" | "epochs" | "standingOf">) => void;
  }>;

export type SnapshotOfficeOptions = Omit<SnapshotDutyOptions, "shelf" | "folder" | "log"> &
  Omit<Parameters<typeof createSnapshotShelf>[0], "isKnown" | "log"> &
  Readonly<{ log: SnapshotDutyOptions["log"] & Parameters<typeof createSnapshotShelf>[0]["log"] }>;

export function createSnapshotOffice(options: SnapshotOfficeOptions): SnapshotOffice {
  let ledger: Pick<Ledger, "applied" | "epochs" | "standingOf"> | undefined;

  function isKnown({ link, epochs }: SnapshotManifest): boolean {
    if (ledger === undefined || ledger.applied.position < link.position) return false;
    const standing = ledger.standingOf(link);
    return (standing === "held" || standing === "forgotten") && sharesPlace(ledger.epochs, link, epochs);
  }

  const shelf = createSnapshotShelf({ ...options, isKnown });
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
