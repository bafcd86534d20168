/**
 * Stream management: the requests by which a receiver sets up and inspects its stream at a transmitter (SSF 1.0 §8.1).
 * Each checks that the answer is about the configured issuer. Errors name the status and the remedy, never a token.
 */
import {
  eventUriOf,
  type ParsedStreamValue,
  parseStreamConfiguration,
  parseStreamStatus,
  pollMethod,
  pushMethod,
  type SignalEventName,
  type StreamConfiguration,
  type StreamState,
  type StreamStatus,
  type TransmitterMetadata,
} from "../../shared-signals/index.ts";
import type { SignalTransmitter } from "./signal-receiver.ts";
import { type TransmitterAnswer, TransmitterError } from "./transmitter-client.ts";

const streamsMax = 100;

type EndpointName = Extract<keyof TransmitterMetadata, `${string}_endpoint`>;

/** @throws TransmitterError */
async function endpointOf({ client }: SignalTransmitter, name: EndpointName): Promise<string> {
  const url = (await client.metadata())[name];
  if (url === null) throw new TransmitterError(`the transmitter offers no ${name}`, { status: null });
  return url;
}

const withQuery = (url: string, streamId: string): URL => {
  const target = new URL(url);
  target.searchParams.set("stream_id", streamId);
  return target;
};

/** All streams that the transmitter has for this receiver. @throws TransmitterError */
export async function listStreams(transmitter: SignalTransmitter): Promise<readonly StreamConfiguration[]> {
  const answer = await transmitter.client.request("GET", await endpointOf(transmitter, "configuration_endpoint"));
  requireStatus(answer, [200], "list the streams");
  const listed: readonly unknown[] = Array.isArray(answer.body) ? answer.body.slice(0, streamsMax) : [answer.body];
  return listed.map((each) => requireValue(parseStreamConfiguration(each, transmitter.config.issuer)));
}

/** The configured stream, or the only one of the configured delivery; undefined: none. @throws TransmitterError */
export async function findStream(transmitter: SignalTransmitter): Promise<StreamConfiguration | undefined> {
  const { streamId, delivery } = transmitter.config;
  const method = delivery === "push" ? pushMethod : pollMethod;
  const streams = await listStreams(transmitter);
  if (streamId !== null) return streams.find((each) => each.stream_id === streamId);
  const fitting = streams.filter((each) => each.delivery.method === method);
  if (fitting.length > 1)
    throw new TransmitterError(`the transmitter has ${fitting.length} streams for us; write stream_id`, {
      status: null,
    });
  return fitting[0];
}

/** @throws TransmitterError */
export async function requireStream(transmitter: SignalTransmitter): Promise<StreamConfiguration> {
  const stream = await findStream(transmitter);
  if (stream !== undefined) return stream;
  throw new TransmitterError(
    "the transmitter has no stream for us; create one with cardea signals transmitters create",
    {
      status: 404,
    },
  );
}

/** @param pushUrl where the transmitter is to push @throws TransmitterError */
export async function createStream(
  transmitter: SignalTransmitter,
  {
    pushUrl,
    events,
    description,
  }: Readonly<{ pushUrl: string; events: readonly SignalEventName[]; description: string }>,
): Promise<StreamConfiguration> {
  const url = await endpointOf(transmitter, "configuration_endpoint");
  const body = {
    delivery: deliveryOf(transmitter, pushUrl),
    events_requested: events.map(eventUriOf),
    description,
  };
  const answer = await transmitter.client.request("POST", url, { body });
  requireStatus(answer, [200, 201], "create the stream");
  return checkAudience(transmitter, requireValue(parseStreamConfiguration(answer.body, transmitter.config.issuer)));
}

/** @throws TransmitterError */
export async function updateStream(
  transmitter: SignalTransmitter,
  { pushUrl, events }: Readonly<{ pushUrl: string; events: readonly SignalEventName[] }>,
): Promise<StreamConfiguration> {
  const { stream_id } = await requireStream(transmitter);
  const body = {
    stream_id,
    events_requested: events.map(eventUriOf),
    ...(transmitter.config.delivery === "push" ? { delivery: deliveryOf(transmitter, pushUrl) } : {}),
  };
  const url = await endpointOf(transmitter, "configuration_endpoint");
  const answer = await transmitter.client.request("PATCH", url, { body });
  requireStatus(answer, [200, 202], "update the stream");
  if (answer.status === 202) return requireStream(transmitter);
  return checkAudience(transmitter, requireValue(parseStreamConfiguration(answer.body, transmitter.config.issuer)));
}

/** @throws TransmitterError */
export async function deleteStream(transmitter: SignalTransmitter): Promise<string> {
  const { stream_id } = await requireStream(transmitter);
  const url = await endpointOf(transmitter, "configuration_endpoint");
  requireStatus(await transmitter.client.request("DELETE", withQuery(url, stream_id)), [204, 200], "delete the stream");
  return stream_id;
}

/** @throws TransmitterError */
export async function readStreamStatus(transmitter: SignalTransmitter, streamId: string): Promise<StreamStatus> {
  const url = await endpointOf(transmitter, "status_endpoint");
  const answer = await transmitter.client.request("GET", withQuery(url, streamId));
  requireStatus(answer, [200], "read the status of the stream");
  return requireValue(parseStreamStatus(answer.body));
}

/** @throws TransmitterError */
export async function setStreamStatus(
  transmitter: SignalTransmitter,
  status: StreamState,
  reason: string | null,
): Promise<StreamStatus> {
  const { stream_id } = await requireStream(transmitter);
  const body = { stream_id, status, ...(reason === null ? {} : { reason }) };
  const url = await endpointOf(transmitter, "status_endpoint");
  const answer = await transmitter.client.request("POST", url, { body });
  requireStatus(answer, [200, 202], "change the status of the stream");
  return answer.status === 202 ? { stream_id, status, reason } : requireValue(parseStreamStatus(answer.body));
}

/** Asks for a verification event. It arrives like any other. @throws TransmitterError */
export async function requestVerification(transmitter: SignalTransmitter, state: string): Promise<string> {
  const { stream_id } = await requireStream(transmitter);
  const url = await endpointOf(transmitter, "verification_endpoint");
  const answer = await transmitter.client.request("POST", url, { body: { stream_id, state } });
  requireStatus(answer, [204, 200, 202], "ask for a verification event");
  return stream_id;
}

/** @throws TransmitterError */
export async function changeSubject(
  transmitter: SignalTransmitter,
  change: "add" | "remove",
  subject: object,
): Promise<string> {
  const { stream_id } = await requireStream(transmitter);
  const url = await endpointOf(transmitter, change === "add" ? "add_subject_endpoint" : "remove_subject_endpoint");
  const body = { stream_id, subject, ...(change === "add" ? { verified: true } : {}) };
  requireStatus(await transmitter.client.request("POST", url, { body }), [200, 204], `${change} the subject`);
  return stream_id;
}

function deliveryOf({ config }: SignalTransmitter, pushUrl: string): object {
  if (config.delivery === "poll") return { method: pollMethod };
  const { pushToken } = config;
  const authorization = pushToken === null ? {} : { authorization_header: `Bearer ${pushToken}` };
  return { method: pushMethod, endpoint_url: pushUrl, ...authorization };
}

/** Tokens for another audience would all be refused. */
function checkAudience({ config }: SignalTransmitter, stream: StreamConfiguration): StreamConfiguration {
  if (stream.aud.some((each) => config.audiences.includes(each))) return stream;
  const named = stream.aud.slice(0, 4).join(", ");
  throw new TransmitterError(`the stream's audience is ${named}: write it as audience of this transmitter`, {
    status: null,
  });
}

function requireStatus({ status }: TransmitterAnswer, wanted: readonly number[], what: string): void {
  if (wanted.includes(status)) return;
  const why =
    status === 401 || status === 403
      ? ": check its access_token or client_id"
      : status === 409
        ? ": it has a stream for us already; use cardea signals transmitters update"
        : status === 429
          ? ": too many requests; wait a while"
          : "";
  throw new TransmitterError(`the transmitter refuses to ${what} (status ${status})${why}`, { status });
}

function requireValue<T>(parsed: ParsedStreamValue<T>): T {
  if (parsed.ok) return parsed.value;
  throw new TransmitterError(parsed.problem, { status: null });
}
