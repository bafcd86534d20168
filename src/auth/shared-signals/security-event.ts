/**
 * Security event: the claims of a security event token (SET, RFC 8417) in the profile of OpenID SSF 1.0 §4.1. Pure.
 *
 * The caller verifies the signature, and that the header's `typ` is `secevent+jwt`. Everything else is checked here:
 * issuer, audience, identity and time of the token, no `sub` and no `exp`, one subject, and exactly one event.
 */
import { isPlainText } from "../../events/index.ts";
import { eventNameOf, eventUriOf, type SignalEventName } from "./event-types.ts";
import { formatSubject, parseSubject, type SubjectIdentifier } from "./subject.ts";

export const setType = "secevent+jwt";
export const setMediaType = "application/secevent+jwt";
/** Bound of one token, on either way of delivery. */
export const setBytesMax = 64 * 1024;

/** Signatures that a receiver accepts. A shared secret, or no signature, would let others make events. */
export const setAlgorithms = "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA".split(" ");

/** RFC 8935 §2.4, and `invalid_state` of SSF 1.0 §8.1.4. */
export type SetErrorCode =
  | "invalid_request"
  | "invalid_key"
  | "invalid_issuer"
  | "invalid_audience"
  | "authentication_failed"
  | "access_denied"
  | "invalid_state";

/** The answer to a token that is refused: the body with 400, or an entry of `setErrs`. */
export type SetError = Readonly<{ err: SetErrorCode; description: string }>;

export type SecurityEvent = Readonly<{
  issuer: string;
  audiences: readonly string[];
  jti: string;
  /** Unix time (ms) at which the token was issued. */
  issuedAt: number;
  /**
   * Unix time (ms) of what it reports: `event_timestamp`, or else `toe`, or else `issuedAt`. Never later than that, and
   * never earlier by more than the age that a token may have: such a time is none.
   */
  occurredAt: number;
  /** Null: none. */
  txn: string | null;
  subject: SubjectIdentifier;
  /** Null: this build does not know the event. */
  name: SignalEventName | null;
  uri: string;
  payload: Readonly<Record<string, unknown>>;
}>;

export type ParsedSecurityEvent = Readonly<
  { type: "event"; event: SecurityEvent } | { type: "error"; error: SetError }
>;

export type SecurityEventRules = Readonly<{
  issuer: string;
  /** The token must name one of these. */
  audiences: readonly string[];
  nowMs: number;
  /** How far `iat` may be in the future. */
  futureMsMax: number;
  /** How far `iat` may be in the past. */
  ageMsMax: number;
}>;

const idCharsMax = 512;
const uriCharsMax = 300;
const audiencesMax = 64;
/** Times outside of these are not times: 1970 to 2286, in seconds. */
const secondsMax = 10_000_000_000;

export const setError = (err: SetErrorCode, description: string): SetError => ({ err, description });

/** @param claims the payload of a token whose signature was verified */
export function parseSecurityEvent(
  claims: Readonly<Record<string, unknown>>,
  { issuer, audiences, nowMs, futureMsMax, ageMsMax }: SecurityEventRules,
): ParsedSecurityEvent {
  const refuse = (err: SetErrorCode, description: string): ParsedSecurityEvent => ({
    type: "error",
    error: setError(err, description),
  });
  if (claims["iss"] !== issuer) return refuse("invalid_issuer", "iss is not the issuer of this stream");
  const named = audiencesOf(claims["aud"]);
  if (!named.some((each) => audiences.includes(each)))
    return refuse("invalid_audience", "aud does not name this receiver");
  if (claims["sub"] !== undefined) return refuse("invalid_request", "sub must be absent; sub_id names the subject");
  if (claims["exp"] !== undefined) return refuse("invalid_request", "exp must be absent");
  const { jti } = claims;
  if (!isId(jti)) return refuse("invalid_request", `jti must be text of at most ${idCharsMax} characters`);
  const issuedAt = millisecondsOf(claims["iat"]);
  if (issuedAt === undefined) return refuse("invalid_request", "iat must be a time in seconds");
  if (issuedAt > nowMs + futureMsMax) return refuse("invalid_request", "iat is in the future; check the clocks");
  if (issuedAt < nowMs - ageMsMax) return refuse("invalid_request", "iat is too long ago");
  const events = claims["events"];
  const entries = isMap(events) ? Object.entries(events) : [];
  const [only] = entries;
  if (only === undefined || entries.length !== 1)
    return refuse("invalid_request", "events must have exactly one event");
  const [uri, said] = only;
  if (!/^[a-z][a-z0-9+.-]*:/i.test(uri)) return refuse("invalid_request", "the name of the event is not a URI");
  const payload = isMap(said) ? said : undefined;
  if (!isText(uri, uriCharsMax) || payload === undefined)
    return refuse("invalid_request", "the event is not an object");
  const subject = parseSubject(claims["sub_id"] ?? earlierSubject(payload["subject"]));
  if (subject === undefined) return refuse("invalid_request", "sub_id is not a subject identifier");
  const times = [payload["event_timestamp"], claims["toe"]].map(millisecondsOf);
  const toe = times.find((time) => time !== undefined && time >= issuedAt - ageMsMax) ?? issuedAt;
  const txn = isId(claims["txn"]) ? claims["txn"] : null;
  return {
    type: "event",
    event: {
      issuer,
      audiences: named,
      jti,
      issuedAt,
      occurredAt: Math.min(toe, issuedAt),
      txn,
      subject,
      name: eventNameOf(uri) ?? null,
      uri,
      payload,
    },
  };
}

/**
 * The claims of a token to send.
 * @param event.issuedAt Unix time (ms)
 */
export function securityEventClaims(
  event: Readonly<{
    issuer: string;
    audience: string | readonly string[];
    jti: string;
    issuedAt: number;
    txn: string | null;
    subject: SubjectIdentifier;
    name: SignalEventName;
    payload: Readonly<Record<string, unknown>>;
  }>,
): Readonly<Record<string, unknown>> {
  return {
    iss: event.issuer,
    aud: event.audience,
    jti: event.jti,
    iat: Math.floor(event.issuedAt / 1_000),
    ...(event.txn === null ? {} : { txn: event.txn }),
    sub_id: formatSubject(event.subject),
    events: { [eventUriOf(event.name)]: event.payload },
  };
}

/**
 * The subject inside an event, where transmitters of the earlier drafts put it. Their names of the formats have a
 * hyphen.
 */
function earlierSubject(value: unknown): unknown {
  if (!isMap(value) || value["format"] !== undefined || typeof value["subject_type"] !== "string") return value;
  return { ...value, format: value["subject_type"].replaceAll("-", "_") };
}

function audiencesOf(aud: unknown): readonly string[] {
  const listed = (Array.isArray(aud) ? aud : [aud]).slice(0, audiencesMax);
  return listed.filter((each): each is string => typeof each === "string");
}

function millisecondsOf(value: unknown): number | undefined {
  if (typeof value !== "number" || !(value >= 0) || value > secondsMax) return undefined;
  return Math.floor(value * 1_000);
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const isText = (value: unknown, charsMax: number): value is string =>
  typeof value === "string" && value !== "" && value.length <= charsMax && isPlainText(value);
const isId = (value: unknown): value is string => isText(value, idCharsMax);
