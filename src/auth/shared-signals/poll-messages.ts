/** Poll messages: the request and the response of poll-based delivery (RFC 8936 §2). Pure. */
import { isPlainText } from "../../events/index.ts";
import { type SetError, type SetErrorCode, setBytesMax } from "./security-event.ts";

export type PollRequest = Readonly<{
  /** 0: acknowledge only; null: as many as the transmitter likes. */
  maxEvents: number | null;
  returnImmediately: boolean;
  ack: readonly string[];
  setErrs: Readonly<Record<string, SetError>>;
}>;

export type PollResponse = Readonly<{
  /** Tokens by `jti`, in the order of the response. */
  sets: ReadonlyMap<string, string>;
  moreAvailable: boolean;
}>;

/** A response or request with more is not accepted. */
export const pollEventsMax = 1_000;
const idCharsMax = 512;
const descriptionCharsMax = 1_000;
const errorCodes: readonly SetErrorCode[] = [
  "invalid_request",
  "invalid_key",
  "invalid_issuer",
  "invalid_audience",
  "authentication_failed",
  "access_denied",
  "invalid_state",
];

/** @returns undefined: not a response, or beyond a bound */
export function parsePollResponse(value: unknown): PollResponse | undefined {
  if (!isMap(value) || !isMap(value["sets"])) return undefined;
  const entries = Object.entries(value["sets"]);
  if (entries.length > pollEventsMax) return undefined;
  const sets = new Map<string, string>();
  for (const [jti, token] of entries) {
    if (!isJti(jti) || typeof token !== "string" || token.length > setBytesMax) return undefined;
    sets.set(jti, token);
  }
  return { sets, moreAvailable: value["moreAvailable"] === true };
}

/** @returns undefined: not a request, or beyond a bound. An empty object asks for what there is. */
export function parsePollRequest(value: unknown): PollRequest | undefined {
  if (!isMap(value)) return undefined;
  const { maxEvents = null, returnImmediately = false, ack = [], setErrs = {} } = value;
  const isCount = typeof maxEvents === "number" && Number.isSafeInteger(maxEvents) && maxEvents >= 0;
  if ((maxEvents !== null && !isCount) || typeof returnImmediately !== "boolean") return undefined;
  if (!Array.isArray(ack) || ack.length > pollEventsMax || !ack.every(isJti) || !isMap(setErrs)) return undefined;
  const errors = Object.entries(setErrs);
  if (errors.length > pollEventsMax) return undefined;
  const refused: [string, SetError][] = [];
  for (const [jti, said] of errors) {
    if (!isJti(jti) || !isMap(said)) return undefined;
    const err = errorCodes.find((code) => code === said["err"]) ?? "invalid_request";
    const { description } = said;
    const text = typeof description === "string" && isPlainText(description) ? description : "";
    refused.push([jti, { err, description: text.slice(0, descriptionCharsMax) }]);
  }
  return { maxEvents: isCount ? maxEvents : null, returnImmediately, ack, setErrs: Object.fromEntries(refused) };
}

/** The form on the wire. */
export function formatPollRequest({ maxEvents, returnImmediately, ack, setErrs }: PollRequest): object {
  return {
    ...(maxEvents === null ? {} : { maxEvents }),
    returnImmediately,
    ...(ack.length === 0 ? {} : { ack }),
    ...(Object.keys(setErrs).length === 0 ? {} : { setErrs }),
  };
}

const isJti = (value: unknown): value is string =>
  typeof value === "string" && value !== "" && value.length <= idCharsMax && isPlainText(value);

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
