/**
 * Signal operations: what operators do at the transmitters of signals: set up a stream, look at it, pause it, and check
 * that events arrive. The transmitter keeps the stream; nothing about it is stored here, but for what it sends itself.
 */
import {
  parseTransmitterRecord,
  type SignalAction,
  type StreamSignals,
  signalRecordId,
} from "../../../events/index.ts";
import type { Replica } from "../../../replication/index.ts";
import {
  type SignalName,
  type StreamConfiguration,
  type StreamState,
  type StreamStatus,
  signalNames,
  type TransmitterMetadata,
} from "../../shared-signals/index.ts";
import type { SignalTransmitter } from "./signal-receiver.ts";
import { pushPrefix } from "./signal-server.ts";
import {
  changeSubject,
  createStream,
  deleteStream,
  listStreams,
  readStreamStatus,
  requestVerification,
  requireStream,
  setStreamStatus,
  updateStream,
} from "./stream-management.ts";
import { createVerificationState } from "./verification-state.ts";

/** The stream as the transmitter last described it by an event; times are ISO 8601, by its clock. */
export type ReportedStream = Readonly<{
  streamId: string;
  status: StreamState | null;
  statusAt: string | null;
  verifiedAt: string | null;
}>;

export type TransmitterView = Readonly<{
  name: string;
  issuer: string;
  audiences: readonly string[];
  delivery: "push" | "poll";
  /** Where it pushes; null: it is polled. */
  pushUrl: string | null;
  match: readonly string[];
  actions: Readonly<Record<string, SignalAction>>;
  /** Null: no event about the stream has arrived. */
  reported: ReportedStream | null;
  /** People whose sessions a signal denies, and that this process could not end yet. It keeps trying. */
  notEnded: number;
}>;

/** A stream of the transmitter, without the header that it must send us. */
export type ManagedStream = Omit<StreamConfiguration, "delivery"> &
  Readonly<{ delivery: Readonly<{ method: string; endpoint_url: string | null }>; status: StreamStatus | null }>;

export type TransmitterDetails = Readonly<{
  transmitter: TransmitterView;
  metadata: TransmitterMetadata;
  streams: readonly ManagedStream[];
}>;

export type SignalOperations = Readonly<{
  list(): readonly TransmitterView[];
  /** Undefined: no such transmitter. */
  find(name: string): TransmitterOperations | undefined;
}>;

/** Each throws TransmitterError. */
export type TransmitterOperations = Readonly<{
  show(): Promise<TransmitterDetails>;
  /** @param events null: those that do something here */
  create(events: readonly SignalName[] | null): Promise<ManagedStream>;
  update(events: readonly SignalName[] | null): Promise<ManagedStream>;
  /** @returns the id of the stream */
  remove(): Promise<string>;
  setStatus(status: StreamState, reason: string | null): Promise<StreamStatus>;
  /** Asks for a verification event, and waits for it. */
  verify(timeoutMs: number): Promise<Readonly<{ streamId: string; verified: boolean }>>;
  changeSubject(change: "add" | "remove", subject: object): Promise<string>;
}>;

export type SignalOperationDeps = Readonly<{
  transmitters: readonly SignalTransmitter[];
  authenticateUrl: URL;
  stateKeys: readonly Uint8Array[];
  replica: Replica;
  /** By the name of a transmitter. */
  notEnded: (transmitter: string) => number;
  nowMs: () => number;
  monotonic: () => number;
  sleep: (ms: number) => Promise<void>;
  /** 12 random bytes. */
  nonce: () => Uint8Array;
}>;

const verifyEveryMs = 100;

export function createSignalOperations(deps: SignalOperationDeps): SignalOperations {
  const byName = new Map(deps.transmitters.map((transmitter) => [transmitter.config.name, transmitter]));
  return {
    list: () => deps.transmitters.map((transmitter) => viewOf(deps, transmitter)),
    find(name) {
      const transmitter = byName.get(name);
      return transmitter && operationsOn(deps, transmitter);
    },
  };
}

function operationsOn(deps: SignalOperationDeps, transmitter: SignalTransmitter): TransmitterOperations {
  const pushUrl = pushUrlOf(deps, transmitter);
  const eventsOf = (events: readonly SignalName[] | null): readonly SignalName[] => events ?? usefulEvents(transmitter);
  return {
    async show() {
      const metadata = await transmitter.client.metadata();
      const streams: ManagedStream[] = [];
      for (const stream of await listStreams(transmitter)) {
        const hasStatus = metadata.status_endpoint !== null;
        streams.push(shown(stream, hasStatus ? await readStreamStatus(transmitter, stream.stream_id) : null));
      }
      return { transmitter: viewOf(deps, transmitter), metadata, streams };
    },
    async create(events) {
      const asked = { pushUrl, events: eventsOf(events), description: `Cardea at ${deps.authenticateUrl.host}` };
      return shown(await createStream(transmitter, asked), null);
    },
    update: async (events) => shown(await updateStream(transmitter, { pushUrl, events: eventsOf(events) }), null),
    remove: () => deleteStream(transmitter),
    setStatus: (status, reason) => setStreamStatus(transmitter, status, reason),
    verify: (timeoutMs) => verifyStream(deps, transmitter, timeoutMs),
    changeSubject: async (change, subject) => changeSubject(transmitter, change, subject),
  };
}

async function verifyStream(
  deps: SignalOperationDeps,
  transmitter: SignalTransmitter,
  timeoutMs: number,
): Promise<Readonly<{ streamId: string; verified: boolean }>> {
  await requireStream(transmitter);
  const nonce = Buffer.from(deps.nonce()).toString("base64url");
  const keys = { keys: deps.stateKeys, transmitter: transmitter.config.name };
  const state = createVerificationState(keys, deps.nowMs(), nonce);
  const until = deps.monotonic() + timeoutMs;
  const streamId = await requestVerification(transmitter, state);
  for (;;) {
    if (recordOf(deps, transmitter)?.verifiedState === state) return { streamId, verified: true };
    if (deps.monotonic() >= until) return { streamId, verified: false };
    await deps.sleep(verifyEveryMs);
  }
}

function viewOf(deps: SignalOperationDeps, transmitter: SignalTransmitter): TransmitterView {
  const { name, issuer, audiences, delivery, match, actions } = transmitter.config;
  const record = recordOf(deps, transmitter);
  const pushUrl = delivery === "push" ? pushUrlOf(deps, transmitter) : null;
  const time = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
  const reported = record && {
    streamId: record.streamId,
    status: record.status,
    statusAt: time(record.statusAt),
    verifiedAt: time(record.verifiedAt),
  };
  return {
    name,
    issuer,
    audiences,
    delivery,
    pushUrl,
    match,
    actions,
    reported: reported ?? null,
    notEnded: deps.notEnded(name),
  };
}

function recordOf({ replica }: SignalOperationDeps, { config }: SignalTransmitter): StreamSignals | undefined {
  const recordId = signalRecordId(config.name, { by: "stream" });
  const sealed = replica.projection.user(recordId)?.profile ?? undefined;
  const record = sealed && parseTransmitterRecord(replica.open(sealed, recordId));
  return record?.kind === "stream" ? record : undefined;
}

const pushUrlOf = ({ authenticateUrl }: SignalOperationDeps, { config }: SignalTransmitter): string =>
  new URL(`${pushPrefix}/${config.name}`, authenticateUrl).href;

/** A receiver should request only the events on which it acts (SSF 1.0 §8.1.1). */
function usefulEvents({ config: { actions } }: SignalTransmitter): readonly SignalName[] {
  return signalNames.filter((name) =>
    Object.entries(actions).some(([key, action]) => key.split("/", 1)[0] === name && action !== "record"),
  );
}

function shown(stream: StreamConfiguration, status: StreamStatus | null): ManagedStream {
  const { method, endpoint_url } = stream.delivery;
  return { ...stream, delivery: { method, endpoint_url }, status };
}
