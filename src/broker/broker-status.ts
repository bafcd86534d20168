/** Broker status: what a broker that reads the log itself reports about itself and the regions. Changes nothing. */
import { type RegionAbsences, type RegionLag, regionLags } from "../replication/index.ts";
import type { LesseeStatus, Moment } from "../replication/lease/index.ts";
import type { EventLog } from "../replication/log/index.ts";
import type { BrokerReadiness } from "./api/broker-handle.ts";
import type { LeaderClient } from "./api/leader-client.ts";
import type { BrokerCore } from "./broker-core.ts";
import type { RewrapDuty } from "./leader/rewrap-duty.ts";

export type BrokerStatusParts = Readonly<{
  /** Each step returns another core. */
  core: () => BrokerCore;
  log: EventLog;
  leaderClient: LeaderClient;
  gossip: Readonly<{ peers: number }>;
  rewrap: RewrapDuty | null;
  moment: () => Moment;
}>;

export type BrokerStatus = Readonly<{
  absences: () => RegionAbsences;
  ready: () => BrokerReadiness;
  metrics: () => Readonly<Record<string, number>>;
  regions: () => readonly RegionLag[];
}>;

export function createBrokerStatus({
  core,
  log,
  leaderClient,
  gossip,
  rewrap,
  moment,
}: BrokerStatusParts): BrokerStatus {
  function absences(): RegionAbsences {
    return { ...core().absences(moment()), head: core().state.applied.position };
  }

  /** Absent nodes take nothing from the readiness of their leader. A person who looks at it should learn of them. */
  function absenceReasons(): readonly string[] {
    const { absent, cutOff } = core().absences(moment());
    const regions = cutOff.map(({ region }) => `region ${region} is cut off`);
    const { length } = absent;
    return length === 0 ? regions : [...regions, `${length} ${length === 1 ? "node is" : "nodes are"} absent`];
  }

  function lagOf({ renew }: LesseeStatus): number | null {
    return renew === null ? null : Math.max(0, core().state.applied.position - renew.applied.position);
  }

  function metrics(): Readonly<Record<string, number>> {
    const { absent, cutOff } = core().absences(moment());
    const { counters, leadership, observedEpoch, state, reads, commands } = core();
    return {
      ...counters,
      heldChanges: [...state.projection.massChanges.held()].filter(({ status }) => status === "held").length,
      leading: leadership === null ? 0 : 1,
      epoch: observedEpoch,
      applied: state.applied.position,
      level: state.projection.level,
      reads,
      neighbours: gossip.peers,
      commandsWaiting: commands.waiting,
      commandsOpen: commands.open,
      lessees: core().standings(moment()).length,
      absentNodes: absent.length,
      cutOffRegions: cutOff.length,
      answersRefused: leaderClient.refused(),
      ...(log.waitsForStandbys === undefined ? {} : { commitsWait: log.waitsForStandbys ? 1 : 0 }),
      ...state.projection.counts,
      ...rewrap?.progress(),
    };
  }

  return {
    absences,
    ready: () => ({
      ready: core().notReadyReasons.length === 0,
      reasons: [...core().notReadyReasons, ...absenceReasons()],
    }),
    metrics,
    regions: () =>
      regionLags(
        core()
          .standings(moment())
          .map((standing) => ({ ...standing, lag: lagOf(standing) })),
        absences(),
      ),
  };
}
