/** Scenarios: all of them, in the order of `--list`. */

import { brokerDiesAfterALocalRevocation } from "./cut-off/broker-dies-after-a-local-revocation.ts";
import { brokerRestartsInACutRegion } from "./cut-off/broker-restarts-in-a-cut-region.ts";
import { commandInACutOffRegion } from "./cut-off/command-in-a-cut-off-region.ts";
import { cutOffRegionIsLoud } from "./cut-off/cut-off-region-is-loud.ts";
import { cutOffRegionRevokes } from "./cut-off/cut-off-region-revokes.ts";
import { deafRegion } from "./cut-off/deaf-region.ts";
import { flappingRegion } from "./cut-off/flapping-region.ts";
import { halfOpenRegion } from "./cut-off/half-open-region.ts";
import { healingEnforcesWhatWasMissed } from "./cut-off/healing-enforces-what-was-missed.ts";
import { homeCutOff } from "./cut-off/home-cut-off.ts";
import { homeIgnoresCutRegions } from "./cut-off/home-ignores-cut-regions.ts";
import { leaderDiesWithARegionAway } from "./cut-off/leader-dies-with-a-region-away.ts";
import { localRevocationNeedsEveryBroker } from "./cut-off/local-revocation-needs-every-broker.ts";
import { muteRegion } from "./cut-off/mute-region.ts";
import { regionCutBeyondItsWindow } from "./cut-off/region-cut-beyond-its-window.ts";
import { regionCutWithinItsWindow } from "./cut-off/region-cut-within-its-window.ts";
import { regionsHealOneByOne } from "./cut-off/regions-heal-one-by-one.ts";
import { revocationWaitsForTheWindow } from "./cut-off/revocation-waits-for-the-window.ts";
import { signInInACutOffRegion } from "./cut-off/sign-in-in-a-cut-off-region.ts";
import { slowRegion } from "./cut-off/slow-region.ts";
import { tricklingRegion } from "./cut-off/trickling-region.ts";
import { homeIsLost } from "./homes/home-is-lost.ts";
import { homeMoves } from "./homes/home-moves.ts";
import { lostHomeAfterALocalRevocation } from "./homes/lost-home-after-a-local-revocation.ts";
import { auditSinksAway } from "./one-region/audit-sinks-away.ts";
import { cutProxy } from "./one-region/cut-proxy.ts";
import { deafProxy } from "./one-region/deaf-proxy.ts";
import { frozenNats } from "./one-region/frozen-nats.ts";
import { fullAuditDisk } from "./one-region/full-audit-disk.ts";
import { halfOpenProxy } from "./one-region/half-open-proxy.ts";
import { hostileNatsClient } from "./one-region/hostile-nats-client.ts";
import { killAllBrokers } from "./one-region/kill-all-brokers.ts";
import { killLeader } from "./one-region/kill-leader.ts";
import { killedWithRecordsInMemory } from "./one-region/killed-with-records-in-memory.ts";
import { laggingStandbyPromoted } from "./one-region/lagging-standby-promoted.ts";
import { leaderDiesWithAProxyAway } from "./one-region/leader-dies-with-a-proxy-away.ts";
import { leaderWithoutPostgres } from "./one-region/leader-without-postgres.ts";
import { noNats } from "./one-region/no-nats.ts";
import { pauseLeader } from "./one-region/pause-leader.ts";
import { postgresStops } from "./one-region/postgres-stops.ts";
import { streamDeleted } from "./one-region/stream-deleted.ts";
import { commandFromAFarRegion } from "./regional-parts/command-from-a-far-region.ts";
import { homeBrokersDie } from "./regional-parts/home-brokers-die.ts";
import { homeBrokersOutOfReach } from "./regional-parts/home-brokers-out-of-reach.ts";
import { homeStreamDeleted } from "./regional-parts/home-stream-deleted.ts";
import { leafCut } from "./regional-parts/leaf-cut.ts";
import { leafCutSignIn } from "./regional-parts/leaf-cut-sign-in.ts";
import { leafServerDies } from "./regional-parts/leaf-server-dies.ts";
import { mirrorDeleted } from "./regional-parts/mirror-deleted.ts";
import { onlyRegionalBrokerDies } from "./regional-parts/only-regional-broker-dies.ts";
import { regionLosesPower } from "./regional-parts/region-loses-power.ts";
import { regionSleeps } from "./regional-parts/region-sleeps.ts";
import { regionalBrokerDies } from "./regional-parts/regional-broker-dies.ts";
import { regionalBrokerPauses } from "./regional-parts/regional-broker-pauses.ts";
import { remoteStandbyCut } from "./regional-parts/remote-standby-cut.ts";
import type { Scenario } from "./scenario.ts";

export const scenarios: readonly Scenario[] = [
  killLeader,
  pauseLeader,
  killAllBrokers,
  cutProxy,
  deafProxy,
  halfOpenProxy,
  noNats,
  auditSinksAway,
  fullAuditDisk,
  killedWithRecordsInMemory,
  frozenNats,
  hostileNatsClient,
  streamDeleted,
  postgresStops,
  leaderWithoutPostgres,
  leaderDiesWithAProxyAway,
  laggingStandbyPromoted,
  regionCutWithinItsWindow,
  regionCutBeyondItsWindow,
  homeIgnoresCutRegions,
  regionsHealOneByOne,
  revocationWaitsForTheWindow,
  healingEnforcesWhatWasMissed,
  deafRegion,
  muteRegion,
  slowRegion,
  tricklingRegion,
  halfOpenRegion,
  flappingRegion,
  leafCut,
  leafCutSignIn,
  leafServerDies,
  homeBrokersOutOfReach,
  regionalBrokerDies,
  regionalBrokerPauses,
  onlyRegionalBrokerDies,
  brokerRestartsInACutRegion,
  regionLosesPower,
  regionSleeps,
  mirrorDeleted,
  homeStreamDeleted,
  leaderDiesWithARegionAway,
  homeBrokersDie,
  homeCutOff,
  remoteStandbyCut,
  commandFromAFarRegion,
  commandInACutOffRegion,
  cutOffRegionIsLoud,
  signInInACutOffRegion,
  cutOffRegionRevokes,
  localRevocationNeedsEveryBroker,
  brokerDiesAfterALocalRevocation,
  homeMoves,
  homeIsLost,
  lostHomeAfterALocalRevocation,
];
