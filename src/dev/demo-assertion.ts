/**
 * Demo assertion: how an application should verify `X-Pomerium-Jwt-Assertion`.
 *
 * Pure; the keys are an argument. Checks the signature, the algorithm, the time, and that the assertion was issued for
 * the requested host: one for another application is refused.
 */
import { errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import type { Fact } from "../events/index.ts";

export type AssertionVerdict =
  /** No assertion: a public route, or a caller that went around the proxy. */
  | Fact<"absent", unknown>
  /** `subject` is null for a visitor of a public route without a sign-in. */
  | Fact<"verified", { claims: JWTPayload; subject: string | null }>
  | Fact<"refused", { why: string }>;

const algorithms = ["ES256", "ES384", "RS256", "EdDSA"];

/**
 * @param assertions every value that the header came with
 * @param host the host name that was asked for, without port
 */
export async function verifyAssertion(
  assertions: readonly string[],
  host: string,
  keys: JWTVerifyGetKey,
): Promise<AssertionVerdict> {
  const [assertion = "", ...others] = assertions;
  if (others.length > 0) return { type: "refused", why: "The header was sent more than once." };
  if (assertion === "") return { type: "absent" };
  // jose would not check an empty audience.
  if (host === "") return { type: "refused", why: "The request names no host." };
  try {
    // Which of the two an installation uses is its `jwt_issuer_format`.
    const issuer = [host, `https://${host}/`];
    const { payload } = await jwtVerify(assertion, keys, {
      algorithms,
      audience: host,
      issuer,
      requiredClaims: ["exp", "iat"],
      clockTolerance: 5,
    });
    return {
      type: "verified",
      claims: payload,
      subject: payload.sub === undefined || payload.sub === "" ? null : payload.sub,
    };
  } catch (error) {
    return { type: "refused", why: describeFailure(error) };
  }
}

function describeFailure(error: unknown): string {
  if (error instanceof errors.JWTExpired) return "It has expired.";
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === "aud") return "It was issued for another address (aud).";
    if (error.claim === "iss") return "It comes from another issuer (iss).";
    return `Its claim ${error.claim} is not valid.`;
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) return "Its signature is not the proxy's.";
  if (error instanceof errors.JWKSNoMatchingKey) return "It is signed by a key that the proxy does not publish.";
  if (error instanceof errors.JOSEAlgNotAllowed) return "Its signature algorithm is not accepted.";
  if (error instanceof errors.JWSInvalid || error instanceof errors.JWTInvalid) return "It is not a signed assertion.";
  return "The proxy's keys could not be fetched.";
}

/**
 * The host that the visitor requested, as the proxy reports it. The proxy overwrites or appends to what callers send.
 */
export function requestedHost(headers: Readonly<Record<string, string | string[] | undefined>>): string {
  const forwarded = headers["x-forwarded-host"];
  const last = (Array.isArray(forwarded) ? forwarded.join(",") : (forwarded ?? "")).split(",").at(-1)?.trim();
  const host = last === undefined || last === "" ? headers["host"] : last;
  return URL.parse(`http://${host ?? ""}`)?.hostname ?? "";
}
