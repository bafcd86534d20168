import type { MassChangeLimits } from "../commands/performed.ts";
import type { Counters } from "../core/counters.ts";
import type { LeaseOptions } from "../core/options.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import type { PersonKeyCache } from "../state/person-key-cache.ts";
import type { BatchPublisher } from "./batch-publisher.ts";
import type { BootKeys } from "./boot-keys.ts";
import type { BrokerPresences } from "./broker-presence.ts";
import type { DuplicateCheck } from "./duplicate-check.ts";
import type { PendingCommands } from "./pending-commands.ts";
import type { ReassertionIntake } from "./reassertion-intake.ts";

export type LeaderParts = Readonly<{
  context: StepContext;
  state: BrokerState;
  keys: PersonKeyCache;
  pendingCommands: PendingCommands;
  duplicateCheck: DuplicateCheck;
  publisher: BatchPublisher;
  reassertionIntake: ReassertionIntake;
  peers: BrokerPresences;
  bootKeys: BootKeys;
  counters: Counters;
  random: (bytes: number) => Uint8Array;
  lease: LeaseOptions;
  /** No other process can write this log. */
  exclusive: boolean;
  /** This broker's own region; absent: unknown. */
  region?: string;
  /** Applies even without lessees: candidates watch the beat. */
  idleBeatMs: number;
  version: string;
  /** The level at which a new log begins. */
  newLogLevel: number;
  wrappingKey: Uint8Array;
  vaultKey: Uint8Array;
  massChange: MassChangeLimits;
  /** The longest wait for a proof that this broker leads. */
  proofMsMax: number;
}>;
