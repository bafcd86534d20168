/** The entry point of the broker: the process that writes the log. */

export type { Broker, BrokerReadiness } from "./api/broker-handle.ts";
export { type DatabrokerServer, type DatabrokerServerOptions, startDatabrokerServer } from "./api/databroker-server.ts";
export { createLeaderClient, type LeaderClient, type LeaderClientOptions } from "./api/leader-client.ts";
export type { CallOrigin } from "./api/leader-router.ts";
export { unavailableDatabroker } from "./api/unavailable-databroker.ts";
export { type BrokerOptions, startBroker } from "./broker.ts";
export { type ChangePreview, previewChange, previewEffect, previewHeld } from "./commands/held/preview.ts";
export type { MassChangeLimits } from "./commands/performed.ts";
export { ForbiddenError } from "./commands/permissions.ts";
export type { Duty, DutyContext } from "./core/duty.ts";
export { LeaseMessageRejectedError } from "./core/lease-message-error.ts";
export type { LeaseOptions } from "./core/options.ts";
export { openAgeMark } from "./region/age-mark-file.ts";
export { chooseRole, formerLeader, type HomeRole, isUnsettled, mustAskElsewhere } from "./region/home-role.ts";
export { RegionCopy } from "./region/region-copy.ts";
export { openRegionCopy } from "./region/region-copy-file.ts";
export {
  type RegionalBroker,
  type RegionalBrokerOptions,
  type RegionRevocationParts,
  startRegionalBroker,
  type WiredReplica,
} from "./region/regional-broker.ts";
export { openRevocationsFile } from "./region/revocations-file.ts";
export { buildSnapshot } from "./snapshots/build-snapshot.ts";
export { compareWithLog, type SnapshotComparison } from "./snapshots/snapshot-check.ts";
export { createSnapshotService, type SnapshotService } from "./snapshots/snapshot-service.ts";
export { snapshotPlaceOf } from "./snapshots/snapshot-store.ts";
