/** Stream requests: what a receiver may write of its stream, parsed and bounded (OpenID SSF 1.0 §8.1.1). Pure. */
import type { SignalReceiverConfig } from "../../../config/index.ts";
import { isPlainText } from "../../../events/index.ts";
import {
  eventUriOf,
  parseSubject,
  pollMethod,
  pushMethod,
  type SimpleSubject,
  type StreamDelivery,
} from "../../shared-signals/index.ts";
import { badRequest, SignalRequestError } from "./signal-request-error.ts";
import { deliveredEvents } from "./stream-filter.ts";
import type { SignalStream } from "./stream-record.ts";

export type JsonFields = Readonly<Record<string, unknown>>;

/** Receiver-supplied properties; undefined: not in the request. */
export type StreamWrite = Readonly<{
  requested: readonly string[] | undefined;
  delivery: StreamDelivery | undefined;
  description: string | undefined;
}>;

const eventsMax = 64;
const uriCharsMax = 300;
const descriptionCharsMax = 500;
const reasonCharsMax = 500;
const stateCharsMax = 1_024;
const urlCharsMax = 2_000;
const authorizationCharsMax = 4_096;

export function fieldsOf(body: unknown): JsonFields {
  if (typeof body === "object" && body !== null && !Array.isArray(body)) return body as JsonFields;
  throw badRequest("the body is not a JSON object");
}

/** @param poll the delivery of a poll stream of this transmitter */
export function parseStreamWrite(fields: JsonFields, receiver: SignalReceiverConfig): StreamWrite {
  return {
    requested: parseRequested(fields["events_requested"]),
    delivery: fields["delivery"] === undefined ? undefined : parseDelivery(fields["delivery"], receiver),
    description: parseDescription(fields["description"]),
  };
}

function parseRequested(value: unknown): readonly string[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length === 0 || value.length > eventsMax)
    throw badRequest(`events_requested is not a list of 1 to ${eventsMax} event URIs`);
  if (!value.every((each) => typeof each === "string" && each.length <= uriCharsMax && isPlainText(each)))
    throw badRequest("events_requested has an entry that is not a URI");
  return [...new Set(value as readonly string[])];
}

function parseDescription(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string" || !isPlainText(value)) throw badRequest("description is not text");
  return value.slice(0, descriptionCharsMax);
}

function parseDelivery(value: unknown, receiver: SignalReceiverConfig): StreamDelivery {
  const { method, endpoint_url: url, authorization_header: authorization = null } = fieldsOf(value);
  if (method === pollMethod) return { method: pollMethod, endpoint_url: null };
  if (method !== pushMethod) throw badRequest(`delivery.method is neither ${pushMethod} nor ${pollMethod}`);
  if (typeof url !== "string" || url.length > urlCharsMax || !URL.canParse(url))
    throw badRequest("delivery.endpoint_url is not a URL");
  if (!isAllowedEndpoint(url, receiver.pushUrls))
    throw new SignalRequestError(
      "access_denied",
      "delivery.endpoint_url is not below an address that this transmitter lists for the receiver (push_urls)",
    );
  const isHeader =
    typeof authorization === "string" &&
    authorization.length <= authorizationCharsMax &&
    /^[\x21-\x7e]+(?: +[\x21-\x7e]+)*$/.test(authorization);
  if (authorization !== null && !isHeader) throw badRequest("delivery.authorization_header is not a header value");
  return { method: pushMethod, endpoint_url: url, authorization_header: isHeader ? authorization : null };
}

/** Below one of the listed addresses: the same origin, and the same path or one under it. */
export function isAllowedEndpoint(text: string, allowed: readonly string[]): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  if (url.protocol !== "https:" || url.username !== "" || url.password !== "" || url.hash !== "") return false;
  return allowed.some((each) => {
    const { origin, pathname } = new URL(each);
    const folder = pathname.endsWith("/") ? pathname : `${pathname}/`;
    return url.origin === origin && (url.pathname === pathname || url.pathname.startsWith(folder));
  });
}

export function parseReason(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== "string" || value.length > reasonCharsMax || !isPlainText(value))
    throw badRequest(`reason is not text of at most ${reasonCharsMax} characters`);
  return value;
}

export function parseState(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string" || value.length > stateCharsMax || !value.isWellFormed())
    throw badRequest(`state is not text of at most ${stateCharsMax} characters`);
  return value;
}

/** A person. Other members of a complex subject would be ignored, so they are refused. */
export function parsePerson(value: unknown): SimpleSubject {
  const parsed = parseSubject(value);
  if (parsed === undefined || parsed.format === "unknown") throw badRequest("subject is not a subject identifier");
  if (parsed.format !== "complex") return parsed;
  const { user, ...others } = parsed.members;
  if (user === undefined || Object.keys(others).length > 0)
    throw badRequest("a stream can only add and remove people: name the subject alone, or as user");
  return user;
}

/** The stream as a receiver sees it. */
export function viewOf(
  stream: SignalStream,
  receiver: SignalReceiverConfig,
  { issuer, base }: Readonly<{ issuer: string; base: string }>,
): JsonFields {
  const { streamId, delivery, requested, description } = stream;
  const { inactivityMs, minVerificationMs } = receiver;
  const supported = receiver.events.map(eventUriOf);
  return {
    stream_id: streamId,
    iss: issuer,
    aud: receiver.audience,
    events_supported: supported,
    events_requested: requested ?? supported,
    events_delivered: deliveredEvents(receiver, requested).map(eventUriOf),
    delivery: viewOfDelivery(delivery, `${base}/poll/${streamId}`),
    min_verification_interval: Math.ceil(minVerificationMs / 1_000),
    ...(inactivityMs === null ? {} : { inactivity_timeout: Math.floor(inactivityMs / 1_000) }),
    ...(description === null ? {} : { description }),
  };
}

function viewOfDelivery(delivery: StreamDelivery, pollUrl: string): JsonFields {
  if (delivery.method === pollMethod) return { method: pollMethod, endpoint_url: pollUrl };
  const { method, endpoint_url, authorization_header } = delivery;
  return { method, endpoint_url, ...(authorization_header === null ? {} : { authorization_header }) };
}

/** What the transmitter supplies must match, where a request repeats it. @throws SignalRequestError 400 */
export function requireMatch(fields: JsonFields, view: JsonFields): void {
  const supplied = [
    "iss",
    "aud",
    "events_supported",
    "events_delivered",
    "min_verification_interval",
    "inactivity_timeout",
  ];
  for (const name of supplied)
    if (fields[name] !== undefined && comparable(fields[name]) !== comparable(view[name]))
      throw badRequest(`${name} is not what this transmitter has for the stream`);
}

/** Lists are sets here, and a list of one is its entry. */
function comparable(value: unknown): string {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  return JSON.stringify([...new Set(list.map((each) => JSON.stringify(each)))].sort());
}
