/** Core options: the settings of a broker's core. Only types. */
import type { BrokerId, Incarnation } from "../../events/index.ts";
import type { RoleLimits } from "../../replication/lease/index.ts";
import type { MassChangeLimits } from "../commands/performed.ts";

export type DutyTimes = Readonly<{ name: string; everyMs: number }>;

export type LeaseOptions = Readonly<{
  deltaMs: number;
  drift: number;
  beatMs: number;
  /** The longest window of any role. */
  windowMaxMs: number;
  limits?: RoleLimits;
  /** The longest window of nodes in other processes; 0: none can reach this broker. Absent: `windowMaxMs`. */
  remoteWindowMaxMs?: number;
}>;

export type BrokerCoreOptions = Readonly<{
  brokerId: BrokerId;
  /** Absent: unknown, so that no region counts as this broker's own. */
  region?: string;
  /** Where other brokers and nodes reach this one; null in a single process. */
  brokerUrl: string | null;
  /** No other process can write the log. */
  exclusive: boolean;
  /** The shared secret, then the previous one while it is being replaced. */
  secrets: readonly [Uint8Array, ...Uint8Array[]];
  lease: LeaseOptions;
  /** Another broker replaces a silent leader within this time. */
  takeoverMs: number;
  /** A leader that is known to be replaced: its silence is not waited for. Null or absent: none. */
  replaced?: Incarnation | null;
  /** A log call that takes longer times out; a write is then indeterminate. */
  writeTimeoutMs: number;
  /** The version of this build; nodes of another version may fold to another digest. */
  version: string;
  /** The level up to which this build can read events. Absent: the level of the code. */
  reads?: number;
  /** A new log begins at this level, if all brokers that are present can read it. Absent: at level 1. */
  newLogLevel?: number;
  duties: readonly DutyTimes[];
  /** From when on a change of memberships is held. Absent: the defaults. */
  massChange?: MassChangeLimits;
  expirySweepMs: number;
  commandSweepMs: number;
  /** The most commands that may wait. */
  commandsMax?: number;
  /** Events kept as bytes for readers; a reader further behind gets them from the log. */
  recentEventsMax?: number;
  /** `snapshot`: the broker requests a snapshot before it reads the log from its beginning. Absent: `log`. */
  beginsFrom?: "snapshot" | "log";
  /** Random bytes, drawn in the order of the steps. */
  random: (bytes: number) => Uint8Array;
}>;
