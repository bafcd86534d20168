/** Shared Signals, built from a configuration: the transmitters, the push endpoint, and the duty to poll. */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type AuthDeps,
  countPoll,
  countReceived,
  createPollDuty,
  createSignalOperations,
  createSignalServer,
  createTransmitterClient,
  createVerificationDuty,
  enforcementReportsOf,
  type LocalFetch,
  peopleWaiting,
  type SignalMemory,
  type SignalOperations,
  type SignalRecordsFor,
  type SignalServer,
  type SignalTransmitter,
  signalRecordsFor,
  transmitterRulesOf,
} from "../../../auth/index.ts";
import type { Duty } from "../../../broker/index.ts";
import type { Config } from "../../../config/index.ts";
import type { Logger } from "../../../replication/index.ts";
import { systemClock } from "../../../replication/runtime/index.ts";
import { authKeys } from "../auth-keys.ts";

const pollEveryMs = 1_000;
const verifyLookEveryMs = 15_000;

export function signalTransmittersOf(config: Config, local: LocalFetch): readonly SignalTransmitter[] {
  return config.signalTransmitters.map((transmitter) => ({
    config: transmitter,
    rules: transmitterRulesOf(transmitter, signInIssuersOf(config), config.groupsFromClaim),
    client: createTransmitterClient(transmitter, {
      local,
      nowMs: () => systemClock.wall(),
      monotonic: () => systemClock.monotonic(),
    }),
  }));
}

/** Undefined: no transmitter is configured. */
export function signalRecordsOf(config: Config): SignalRecordsFor | undefined {
  return signalRecordsFor(config.signalTransmitters.map((each) => transmitterRulesOf(each, signInIssuersOf(config))));
}

const signInIssuersOf = ({ signInProviders }: Config): readonly string[] => signInProviders.map(({ url }) => url.href);

/** Null: no transmitter is configured. */
export function signalServerOf(
  config: Config,
  parts: Readonly<{ auth: AuthDeps; transmitters: readonly SignalTransmitter[]; signals: SignalMemory }>,
): SignalServer | null {
  const recordsFor = signalRecordsOf(config);
  if (recordsFor === undefined) return null;
  return createSignalServer(parts.auth, {
    transmitters: parts.transmitters,
    recordsFor,
    stateKeys: authKeys(config).verifications,
    onReceived: (counted) => countReceived(parts.signals, counted),
    enforcement: enforcementReportsOf(parts.signals),
    region: config.region,
  });
}

/** What operators do at the transmitters; undefined: none is configured. */
export function signalOperationsOf(
  config: Config,
  parts: Readonly<{ auth: AuthDeps; transmitters: readonly SignalTransmitter[]; signals: SignalMemory }>,
): SignalOperations | undefined {
  const { auth, transmitters } = parts;
  if (transmitters.length === 0) return undefined;
  return createSignalOperations({
    transmitters,
    authenticateUrl: config.authenticateServiceUrl,
    stateKeys: authKeys(config).verifications,
    replica: auth.replica,
    notEnded: (name) => peopleWaiting(parts.signals, name),
    nowMs: () => systemClock.wall(),
    monotonic: () => systemClock.monotonic(),
    sleep: auth.sleep,
    nonce: () => randomBytes(12),
  });
}

/** The leader's duty to ask transmitters for verification events. */
export function verificationDuty(
  config: Config,
  parts: Readonly<{ transmitters: readonly SignalTransmitter[]; signals: SignalMemory; logger: Logger }>,
): Duty {
  const { transmitters, signals, logger } = parts;
  const run = createVerificationDuty({
    transmitters,
    stateKeys: authKeys(config).verifications,
    nowMs: () => systemClock.wall(),
    nonce: () => randomBytes(12).toString("base64url"),
    onReported: (name, state) => void signals.streams.set(name, { ...state, readAt: systemClock.wall() }),
    log: logger,
  });
  return { name: "signal verifications", everyMs: verifyLookEveryMs, run };
}

/** The leader's duty to fetch the events of transmitters that are polled. */
export function pollDuty(
  config: Config,
  parts: Readonly<{ transmitters: readonly SignalTransmitter[]; signals: SignalMemory; logger: Logger }>,
): Duty {
  const { transmitters, signals, logger } = parts;
  const run = createPollDuty({
    transmitters,
    nowMs: () => systemClock.wall(),
    stateKeys: authKeys(config).verifications,
    onReceived: (counted) => countReceived(signals, counted),
    onPolled: (transmitter, result) => countPoll(signals, transmitter, { result, nowMs: systemClock.wall() }),
    sleep: (ms, signal) => sleep(ms, undefined, { signal, ref: false }).catch(() => undefined),
    log: logger,
  });
  return { name: "signal polls", everyMs: pollEveryMs, run };
}
