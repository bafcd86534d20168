/** Transmitter context: the dependencies of the endpoints, and how they change the record of a receiver. */
import type { SignalReceiverConfig } from "../../../config/index.ts";
import { type CommandId, noPosition, signalStreamsFrom, type UnixMs } from "../../../events/index.ts";
import type { AuthDeps } from "../context.ts";
import type { ResourceTurns } from "../scim/scim-context.ts";
import { submitWithRetry } from "../sign-in/begin-session.ts";
import type { RestoredPeople } from "./restored-people.ts";
import { noStream, unavailable } from "./signal-request-error.ts";
import type { EventSigner } from "./signing-key.ts";
import { formatRecord, parseRecord, type SignalStream, type StreamRecord } from "./stream-record.ts";

export type TransmitterDeps = Pick<AuthDeps, "databroker" | "replica" | "clock" | "sleep" | "log"> &
  Readonly<{
    issuer: string;
    /** Without a slash at its end. */
    base: string;
    signer: Promise<EventSigner>;
    turns: ResourceTurns;
    restored: RestoredPeople;
    uuid: () => string;
    /** At least 32 random characters of base64url. */
    token: () => string;
  }>;

export type StoredRecord = Readonly<{ version: number; record: StreamRecord }>;

const attemptsMax = 8;

/** @throws SignalRequestError 503, BrokerUnavailableError */
export async function readRecord(
  { databroker, token }: Pick<TransmitterDeps, "databroker" | "token">,
  { name }: Pick<SignalReceiverConfig, "name">,
): Promise<StoredRecord> {
  const stored = await databroker.storedSignalStream(name);
  if (stored === undefined) return { version: 0, record: { salt: token(), stream: null } };
  return { version: stored.version, record: parseRecord(stored.record) };
}

/** The stream of the receiver, if it has this id. @throws SignalRequestError 404 */
export function streamIn({ stream }: StreamRecord, streamId: unknown): SignalStream {
  if (stream === null || stream.streamId !== streamId) throw noStream();
  return stream;
}

/** @returns false: another process has written it meanwhile @throws SignalRequestError 503 */
export async function writeRecord(
  deps: Pick<TransmitterDeps, "databroker" | "clock" | "sleep" | "uuid" | "replica">,
  { name }: Pick<SignalReceiverConfig, "name">,
  { version, record, actor }: StoredRecord & Readonly<{ actor: string }>,
): Promise<boolean> {
  const { level } = deps.replica.projection;
  if (level < signalStreamsFrom) {
    const needs = `the cluster is at level ${level}, and Shared Signals need level ${signalStreamsFrom}`;
    throw unavailable(`${needs}: run cardea cluster finalize`);
  }
  const { stream } = record;
  const result = await submitWithRetry(deps, {
    commandId: deps.uuid() as CommandId,
    actor,
    command: {
      type: "writeSignalStream",
      receiver: name,
      expected: version,
      record: formatRecord(record),
      streamId: stream?.streamId ?? null,
      status: stream?.status ?? "none",
      delivered: stream?.cursor.after.position ?? noPosition,
    },
  });
  if (result.type === "done") return true;
  if (result.type === "unavailable") throw unavailable("no leader answers; try again");
  return false;
}

/**
 * Changes the record. The change runs again when another process was faster.
 * @param change returns the same record if nothing is to be written
 */
export async function changeRecord<T>(
  deps: TransmitterDeps,
  receiver: SignalReceiverConfig,
  change: (record: StreamRecord) => Readonly<{ record: StreamRecord; answer: T }>,
  actor = `service:signals/${receiver.name}`,
): Promise<T> {
  return deps.turns.run(receiver.name, async () => {
    for (let attempts = 0; attempts < attemptsMax; attempts++) {
      const before = await readRecord(deps, receiver);
      const { record, answer } = change(before.record);
      if (record === before.record || (await writeRecord(deps, receiver, { ...before, record, actor }))) return answer;
    }
    throw unavailable("the stream changes too often; try again");
  });
}

/** Notes that the receiver is active. It is exact to a twentieth of the timeout, so that reads seldom write. */
export function withActivity(
  stream: SignalStream,
  { inactivityMs }: Pick<SignalReceiverConfig, "inactivityMs">,
  now: UnixMs,
): SignalStream {
  return inactivityMs !== null && now - stream.activeAt > inactivityMs / 20 ? { ...stream, activeAt: now } : stream;
}
