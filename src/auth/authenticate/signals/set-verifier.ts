/**
 * SET verifier: decides whether a security event token is one of a configured transmitter for this receiver.
 *
 * Size and shape come first, then the header, the signature by a key of the transmitter, and the claims. A key that
 * cannot be had now is no verdict: the transmitter sends the token again.
 */
import { type CompactVerifyGetKey, compactVerify, decodeProtectedHeader, errors } from "jose";
import type { SignalTransmitterConfig } from "../../../config/index.ts";
import {
  parseSecurityEvent,
  type SecurityEvent,
  type SetError,
  setAlgorithms,
  setBytesMax,
  setError,
  setType,
} from "../../shared-signals/index.ts";
import { unverifiedClaims } from "../credentials/token-text.ts";
import { isNestedDeeperThan } from "../provider/issuer-fetch.ts";
import { type TransmitterClient, TransmitterError } from "./transmitter-client.ts";

export type VerifiedSet = Readonly<
  | { type: "event"; event: SecurityEvent; criticalMembers: readonly string[] }
  | { type: "error"; error: SetError }
  | { type: "unavailable"; message: string }
>;

/** Clocks may differ by this much. */
const futureMsMax = 5 * 60_000;
/** Transmitters keep what they could not deliver for weeks at most; an older token is a replay. */
const ageMsMax = 30 * 24 * 3_600_000;
const depthMax = 16;
const jws = /^[\w-]+\.[\w-]+\.[\w-]+$/;

export async function verifySet(
  token: string,
  config: Pick<SignalTransmitterConfig, "issuer" | "audiences">,
  { client, nowMs }: Readonly<{ client: TransmitterClient; nowMs: number }>,
): Promise<VerifiedSet> {
  const refuse = (error: SetError): VerifiedSet => ({ type: "error", error });
  if (token.length > setBytesMax || !jws.test(token))
    return refuse(setError("invalid_request", "the body is not a SET"));
  const header = headerOf(token);
  if (header === undefined || !isSetType(header["typ"]))
    return refuse(setError("invalid_request", `typ must be ${setType}`));
  if (!setAlgorithms.includes(String(header["alg"])))
    return refuse(setError("invalid_key", "alg is not an accepted signature algorithm"));
  // Before a key of another issuer is looked for in vain. Nothing is trusted because of it.
  if (unverifiedClaims(token)?.iss !== config.issuer)
    return refuse(setError("invalid_issuer", "iss is not the issuer of this stream"));
  const signed = await verifySignature(token, client);
  if (signed.type !== "signed") return signed;
  const claims = claimsIn(signed.payload);
  if (claims === undefined) return refuse(setError("invalid_request", "the claims are not a JSON object"));
  const { issuer, audiences } = config;
  const parsed = parseSecurityEvent(claims, { issuer, audiences, nowMs, futureMsMax, ageMsMax });
  return parsed.type === "error" ? parsed : { ...parsed, criticalMembers: signed.criticalMembers };
}

function headerOf(token: string): Readonly<Record<string, unknown>> | undefined {
  try {
    return decodeProtectedHeader(token);
  } catch {
    return undefined;
  }
}

/** RFC 7515 §4.1.9: `application/` may be left out, and media types ignore case. */
function isSetType(typ: unknown): boolean {
  return typeof typ === "string" && typ.toLowerCase().replace(/^application\//, "") === setType;
}

type Signed = Readonly<{ type: "signed"; payload: Uint8Array; criticalMembers: readonly string[] }>;

async function verifySignature(token: string, client: TransmitterClient): Promise<Signed | VerifiedSet> {
  let wasCoolingDown = false;
  try {
    const keys = await client.keys();
    const keyOf: CompactVerifyGetKey = async (header, input) => {
      wasCoolingDown = keys.coolingDown;
      try {
        return await keys(header, input);
      } catch (cause) {
        if (isAboutKey(cause)) throw cause;
        client.noteKeyFailure();
        throw new TransmitterError("the transmitter's keys could not be read", { status: null, cause });
      }
    };
    const { payload } = await compactVerify(token, keyOf, { algorithms: [...setAlgorithms] });
    return { type: "signed", payload, criticalMembers: await client.criticalMembers() };
  } catch (error) {
    if (error instanceof TransmitterError) return { type: "unavailable", message: error.message };
    // The transmitter may have a new key since the keys were last read. A refusal would lose the event.
    if (error instanceof errors.JWKSNoMatchingKey && wasCoolingDown)
      return { type: "unavailable", message: "the key is unknown, and keys were read a moment ago" };
    const description = "the signature does not verify by a key of the issuer";
    return { type: "error", error: setError("invalid_key", description) };
  }
}

/** Whether the failure is about the key that the token names; otherwise the keys could not be read. */
function isAboutKey(error: unknown): boolean {
  return error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys;
}

function claimsIn(payload: Uint8Array): Readonly<Record<string, unknown>> | undefined {
  if (isNestedDeeperThan(payload, depthMax)) return undefined;
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
