/** Core options: what a broker's core is made with. Only types. */
import type { BrokerId } from "../../events/index.ts";
import type { RoleLimits } from "../../replication/index.ts";

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
  /** Where other brokers and nodes reach this one; null in a single process. */
  brokerUrl: string | null;
  /** The log is ours alone: nobody else can write it. */
  exclusive: boolean;
  /** The shared secret, then the previous one while it is being replaced. */
  secrets: readonly [Uint8Array, ...Uint8Array[]];
  lease: LeaseOptions;
  /** A leader that falls silent is followed by another within this. */
  takeoverMs: number;
  /** A question to the log that takes longer is given up on; a write is then indeterminate. */
  writeTimeoutMs: number;
  /** Of this build; nodes of another one may fold to another digest. */
  version: string;
  /** The level up to which this build can read events; its own unless told otherwise. */
  reads?: number;
  duties: readonly DutyTimes[];
  expirySweepMs: number;
  commandSweepMs: number;
  /** Commands that may wait. */
  commandsMax?: number;
  /** Events that are kept as bytes for readers; who is further behind has them from the log. */
  recentEventsMax?: number;
  /** `snapshot`: the ledger asks for one before it reads the log from its beginning, which is the default. */
  beginsFrom?: "snapshot" | "log";
  /** Random bytes: an input like any other, drawn in the order of the steps. */
  random: (bytes: number) => Uint8Array;
}>;
