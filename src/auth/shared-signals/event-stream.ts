/**
 * Event stream: the metadata of a transmitter, and the configuration and status of a stream (OpenID SSF 1.0 §7, §8.1).
 * Pure. The parsers keep the members that a receiver or a transmitter here uses, and ignore all others.
 */
import { isPlainText } from "../../events/index.ts";

export const pushMethod = "urn:ietf:rfc:8935";
export const pollMethod = "urn:ietf:rfc:8936";

export type TransmitterMetadata = Readonly<{
  spec_version: string | null;
  issuer: string;
  jwks_uri: string;
  delivery_methods_supported: readonly string[];
  configuration_endpoint: string | null;
  status_endpoint: string | null;
  add_subject_endpoint: string | null;
  remove_subject_endpoint: string | null;
  verification_endpoint: string | null;
  critical_subject_members: readonly string[];
  authorization_schemes: readonly string[];
  /** Null: the transmitter does not say. */
  default_subjects: "ALL" | "NONE" | null;
}>;

export type StreamDelivery = Readonly<
  | { method: typeof pushMethod; endpoint_url: string; authorization_header: string | null }
  | { method: typeof pollMethod; endpoint_url: string | null }
>;

export type StreamConfiguration = Readonly<{
  stream_id: string;
  iss: string;
  aud: readonly string[];
  events_supported: readonly string[];
  events_requested: readonly string[];
  events_delivered: readonly string[];
  delivery: StreamDelivery;
  /** Seconds; null: not stated. */
  min_verification_interval: number | null;
  inactivity_timeout: number | null;
  description: string | null;
}>;

export const streamStatuses = ["enabled", "paused", "disabled"] as const;
export type StreamState = (typeof streamStatuses)[number];
export type StreamStatus = Readonly<{ stream_id: string; status: StreamState; reason: string | null }>;

/** The stream or the metadata is not usable; `problem` says why. */
export type ParsedStreamValue<T> = Readonly<{ ok: true; value: T } | { ok: false; problem: string }>;

const urlCharsMax = 2_000;
const textCharsMax = 2_000;
const listMax = 256;

/** Where an issuer's metadata is: the well-known path goes between host and path (SSF 1.0 §7.2.1). */
export function metadataUrlOf(issuer: string, wellKnown = "ssf-configuration"): URL {
  const url = new URL(issuer);
  const path = url.pathname.replace(/\/$/, "");
  return new URL(`/.well-known/${wellKnown}${path}`, url.origin);
}

/** @param issuer the one whose metadata was requested; the document must name exactly it */
export function parseTransmitterMetadata(value: unknown, issuer: string): ParsedStreamValue<TransmitterMetadata> {
  if (!isMap(value)) return problem("the metadata of the transmitter is not an object");
  if (value["issuer"] !== issuer) return problem("the metadata of the transmitter names another issuer");
  const jwksUri = urlIn(value, "jwks_uri", issuer);
  if (jwksUri === null) return problem("the metadata of the transmitter has no usable jwks_uri");
  const defaults = value["default_subjects"];
  return {
    ok: true,
    value: {
      spec_version: textIn(value, "spec_version"),
      issuer,
      jwks_uri: jwksUri,
      delivery_methods_supported: textsIn(value, "delivery_methods_supported"),
      configuration_endpoint: urlIn(value, "configuration_endpoint", issuer),
      status_endpoint: urlIn(value, "status_endpoint", issuer),
      add_subject_endpoint: urlIn(value, "add_subject_endpoint", issuer),
      remove_subject_endpoint: urlIn(value, "remove_subject_endpoint", issuer),
      verification_endpoint: urlIn(value, "verification_endpoint", issuer),
      critical_subject_members: textsIn(value, "critical_subject_members"),
      authorization_schemes: schemesIn(value["authorization_schemes"]),
      default_subjects: defaults === "ALL" || defaults === "NONE" ? defaults : null,
    },
  };
}

export function parseStreamConfiguration(value: unknown, issuer: string): ParsedStreamValue<StreamConfiguration> {
  if (!isMap(value)) return problem("the stream is not an object");
  const streamId = textIn(value, "stream_id");
  if (streamId === null) return problem("the stream has no stream_id");
  if (value["iss"] !== issuer) return problem("the stream has another issuer");
  const delivery = parseDelivery(value["delivery"], issuer);
  if (delivery === undefined) return problem("the stream has no delivery that this build knows");
  const { aud } = value;
  return {
    ok: true,
    value: {
      stream_id: streamId,
      iss: issuer,
      aud: typeof aud === "string" ? textsOf([aud]) : textsOf(aud),
      events_supported: textsIn(value, "events_supported"),
      events_requested: textsIn(value, "events_requested"),
      events_delivered: textsIn(value, "events_delivered"),
      delivery,
      min_verification_interval: secondsIn(value, "min_verification_interval"),
      inactivity_timeout: secondsIn(value, "inactivity_timeout"),
      description: textIn(value, "description"),
    },
  };
}

/** @param issuer whose scheme the URL of a poll endpoint must have; undefined: no such check */
export function parseDelivery(value: unknown, issuer?: string): StreamDelivery | undefined {
  if (!isMap(value)) return undefined;
  const url = urlIn(value, "endpoint_url", issuer);
  if (value["method"] === pollMethod) return { method: pollMethod, endpoint_url: url };
  if (value["method"] !== pushMethod || url === null) return undefined;
  return { method: pushMethod, endpoint_url: url, authorization_header: textIn(value, "authorization_header") };
}

export function parseStreamStatus(value: unknown): ParsedStreamValue<StreamStatus> {
  if (!isMap(value)) return problem("the status is not an object");
  const streamId = textIn(value, "stream_id");
  const status = parseStreamState(value["status"]);
  if (streamId === null || status === undefined) return problem("the status lacks stream_id or a known status");
  return { ok: true, value: { stream_id: streamId, status, reason: textIn(value, "reason") } };
}

export function parseStreamState(value: unknown): StreamState | undefined {
  return streamStatuses.find((each) => each === value);
}

const problem = (text: string) => ({ ok: false, problem: text }) as const;

/** An absolute http(s) URL without credentials; plain HTTP only for an issuer that has it too. */
function urlIn(map: Readonly<Record<string, unknown>>, name: string, issuer: string | undefined): string | null {
  const text = map[name];
  if (typeof text !== "string" || text.length > urlCharsMax || !URL.canParse(text)) return null;
  const url = new URL(text);
  const isPlain = url.protocol === "http:" && (issuer === undefined || issuer.startsWith("http:"));
  if ((url.protocol !== "https:" && !isPlain) || url.username !== "" || url.password !== "") return null;
  return text;
}

function schemesIn(value: unknown): readonly string[] {
  const listed: readonly unknown[] = Array.isArray(value) ? value.slice(0, listMax) : [];
  return textsOf(listed.map((each) => (isMap(each) ? each["spec_urn"] : undefined)));
}

function secondsIn(map: Readonly<Record<string, unknown>>, name: string): number | null {
  const value = map[name];
  return typeof value === "number" && value >= 0 && Number.isSafeInteger(value) ? value : null;
}

const textsIn = (map: Readonly<Record<string, unknown>>, name: string): readonly string[] => textsOf(map[name]);

function textsOf(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.slice(0, listMax).filter(isText) : [];
}

function textIn(map: Readonly<Record<string, unknown>>, name: string): string | null {
  const value = map[name];
  return isText(value) ? value : null;
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "" && value.length <= textCharsMax && isPlainText(value);
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
