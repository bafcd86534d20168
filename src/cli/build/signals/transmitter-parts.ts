/** Transmitter of signals: its signing key, its endpoints and the leader's duty, built from a configuration. */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyInstance } from "fastify";
import {
  type AuthDeps,
  createEventSigner,
  createLocalFetch,
  createOperatorStreams,
  createPushClient,
  createTransmit,
  type EventSigner,
  neededAfter,
  type OperatorStreams,
  type RecordsOf,
  registerTransmitter,
  type TransmitMemory,
  type TransmitSettings,
  transmitterDepsOf,
} from "../../../auth/index.ts";
import type { Duty } from "../../../broker/index.ts";
import { type Config, canonicalJson } from "../../../config/index.ts";
import type { Position } from "../../../events/index.ts";
import type { Databroker, Logger } from "../../../replication/index.ts";
import { systemClock } from "../../../replication/runtime/index.ts";
import { authKeys } from "../auth-keys.ts";

const pushTimeoutMs = 10_000;
const restartMs = 1_000;

/** Derived once per secret: it takes a moment. */
const signers = new WeakMap<Uint8Array, Promise<EventSigner>>();
function eventSignerOf(config: Config): Promise<EventSigner> {
  let signer = signers.get(config.sharedSecret);
  if (signer === undefined) {
    signer = createEventSigner(authKeys(config).signals);
    signers.set(config.sharedSecret, signer);
  }
  return signer;
}

export function registerTransmitterOf(config: Config, auth: AuthDeps): (app: FastifyInstance) => void {
  const { signalReceivers: receivers } = config;
  if (receivers.length === 0) return () => undefined;
  const { signalTokens: tokenKeys } = authKeys(config);
  return (app) => registerTransmitter(app, auth, { receivers, signer: eventSignerOf(config), tokenKeys });
}

/** @param operator the databroker in the operator's role */
export function operatorStreamsOf(config: Config, auth: AuthDeps, operator: Databroker): OperatorStreams | undefined {
  const { signalReceivers: receivers } = config;
  if (receivers.length === 0) return undefined;
  return createOperatorStreams({ ...transmitterDepsOf(auth, eventSignerOf(config)), databroker: operator }, receivers);
}

export type TransmitterDuty = Readonly<{
  duty: Duty;
  /** The log is needed after this position; null: the streams need nothing. */
  neededAfter: () => Position | null;
  /** Another configuration is in force. */
  activate: (config: Config) => void;
  close: () => Promise<void>;
}>;

type DutyParts = Readonly<{
  memory: TransmitMemory;
  /** The records that a profile belongs to. */
  recordsOf: (config: Config) => RecordsOf;
  logger: Logger;
}>;

export function transmitterDutyOf(config: Config, parts: DutyParts): TransmitterDuty {
  const { memory } = parts;
  let current = settingsOf(config, parts);
  let key = settingsKeyOf(config);
  const run = createTransmit(() => current.settings);
  return {
    duty: { name: "signals", everyMs: restartMs, run },
    neededAfter: () => (current.settings === null ? null : neededAfter(memory, systemClock.wall())),
    activate(next) {
      if (settingsKeyOf(next) === key) return;
      const before = current;
      key = settingsKeyOf(next);
      current = settingsOf(next, parts);
      void before.close();
    },
    close: () => current.close(),
  };
}

function settingsOf(
  config: Config,
  { memory, recordsOf, logger }: DutyParts,
): Readonly<{ settings: TransmitSettings | null; close: () => Promise<void> }> {
  const { signalReceivers: receivers } = config;
  if (receivers.length === 0) return { settings: null, close: async () => undefined };
  const client = createLocalFetch({
    timeoutMs: pushTimeoutMs,
    hosts: config.hostAliases,
    ...(config.certificateAuthority === null ? {} : { ca: config.certificateAuthority }),
  });
  const settings: TransmitSettings = {
    receivers,
    issuer: config.authenticateServiceUrl.origin,
    signer: eventSignerOf(config),
    post: createPushClient(client),
    memory,
    recordsOf: recordsOf(config),
    uuid: randomUUID,
    sleep: (ms) => sleep(ms, undefined, { ref: false }),
    log: logger,
  };
  return { settings, close: () => client.close() };
}

function settingsKeyOf(config: Config): string {
  const { signalReceivers, authenticateServiceUrl, hostAliases, certificateAuthority } = config;
  const { scimClients, directories, signInProviders, signalTransmitters } = config;
  // What records a person has depends on these.
  const records = [
    scimClients,
    directories.map(({ name, match, claim, signInProvider }) => [name, match, claim, signInProvider]),
    signInProviders.map(({ name, url }) => [name, url.href]),
    signalTransmitters.map(({ name, issuer, match, subjectIssuers }) => [name, issuer, match, subjectIssuers]),
  ];
  return canonicalJson([signalReceivers, authenticateServiceUrl, hostAliases, certificateAuthority, records]);
}
