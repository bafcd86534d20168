/** Counters of one broker, as plain numbers; what shows them adds the names of its own registry. */
export type Counters = {
  commandsDone: number;
  commandsRefused: number;
  commandsUnavailable: number;
  commandsRepeated: number;
  commandsForwarded: number;
  batches: number;
  events: number;
  batchesNotClean: number;
  /** Carried out while the batch before was in flight: sent right after it, or thrown away with it. */
  batchesAhead: number;
  batchesThrownAway: number;
  versionConflicts: number;
  beats: number;
  beatsNotClean: number;
  grants: number;
  renewsRefused: number;
  /** Renews refused because their role has as many nodes as `broker.max_nodes` admits. */
  nodesRefused: number;
  /** Silent nodes that were dropped from the full list of admitted nodes. */
  absentNodesForgotten: number;
  /** Nodes of which two boots were found alive. */
  copiedNodes: number;
  /** Renews that requested a longer window than `broker.max_window` allows. */
  windowsLimited: number;
  /** Renews that named a boot as replaced without that boot's signature. */
  replacementsRefused: number;
  /** Later epochs that nodes spoke of and the store was asked about, and those that were ignored. */
  epochClaims: number;
  epochClaimsRefused: number;
  confirmations: number;
  goodbyes: number;
  envelopesRefused: number;
  receiptsComplete: number;
  receiptsIncomplete: number;
  receiptsLost: number;
  /** Signed with the durability `asynchronous`: a failover may lose what they speak of. */
  receiptsAsynchronous: number;
  epochsOpened: number;
  stepDowns: number;
  ledgerRestarts: number;
  digestMismatches: number;
  /** Events published again for the replay buffer. */
  relayed: number;
  /** Lost revocations that were recorded again, and those that an operator has to judge. */
  reasserted: number;
  reassertionsForOperator: number;
  /** Revocations that a region had accepted by itself and that were recorded here. */
  revocationsMerged: number;
  /** Of them, suspensions of people who had been restored meanwhile. The suspension counts. */
  restoresOverridden: number;
  /** Changes that were held because they would have taken groups from too many people. */
  massChangesHeld: number;
  /** Suspensions, erasures and ends of all sessions by a SCIM client, a directory or Shared Signals. */
  peopleEnded: number;
  dutyRuns: number;
  dutyFailures: number;
};

export function newCounters(): Counters {
  return {
    commandsDone: 0,
    commandsRefused: 0,
    commandsUnavailable: 0,
    commandsRepeated: 0,
    commandsForwarded: 0,
    batches: 0,
    events: 0,
    batchesNotClean: 0,
    batchesAhead: 0,
    batchesThrownAway: 0,
    versionConflicts: 0,
    beats: 0,
    beatsNotClean: 0,
    grants: 0,
    renewsRefused: 0,
    nodesRefused: 0,
    absentNodesForgotten: 0,
    copiedNodes: 0,
    windowsLimited: 0,
    replacementsRefused: 0,
    epochClaims: 0,
    epochClaimsRefused: 0,
    confirmations: 0,
    goodbyes: 0,
    envelopesRefused: 0,
    receiptsComplete: 0,
    receiptsIncomplete: 0,
    receiptsLost: 0,
    receiptsAsynchronous: 0,
    epochsOpened: 0,
    stepDowns: 0,
    ledgerRestarts: 0,
    digestMismatches: 0,
    relayed: 0,
    reasserted: 0,
    reassertionsForOperator: 0,
    revocationsMerged: 0,
    restoresOverridden: 0,
    massChangesHeld: 0,
    peopleEnded: 0,
    dutyRuns: 0,
    dutyFailures: 0,
  };
}
