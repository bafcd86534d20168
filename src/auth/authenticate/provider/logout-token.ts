/**
 * Logout token: an identity provider's signed word that a session of its own, or every session of a person, has ended
 * (OpenID Connect Back-Channel Logout 1.0 §2.4, §2.6).
 *
 * - Only public-key algorithms count, and of those only what the provider announces for its ID tokens: with a shared
 *   secret, or with a public key in the place of one, a caller could sign.
 * - An ID token is no logout token, although the same keys sign both: it has a `nonce` and no `events`.
 */
import { errors, type JWTPayload, jwtVerify } from "jose";
import { isPlainText, type UnixMs } from "../../../events/index.ts";
import { tokenError } from "../credentials/issuers.ts";
import type { KeySet } from "../credentials/key-set.ts";
import { ProviderError } from "./provider-error.ts";

export type LogoutToken = Readonly<{
  issuer: string;
  jti: string;
  /** By the clock of the provider. */
  issuedAt: UnixMs;
  /** At least one of the two is not null. */
  subject: string | null;
  sid: string | null;
}>;

export type LogoutTokenRules = Readonly<{
  issuer: string;
  clientId: string;
  keys: KeySet;
  /** The signature algorithms of the provider's metadata; undefined: RS256. */
  announced: readonly string[] | undefined;
  /** What this program accepts at all. */
  accepted: readonly string[];
  nowMs: number;
}>;

export const logoutTokenCharsMax = 16_384;
/** Clocks of the provider and of this process differ by at most this (seconds). */
const toleranceS = 60;
/** An older token is refused, whatever its expiry says: the log remembers for an hour longer that it was used. */
const ageMax = "23h";
const textCharsMax = 1_000;
const event = "http://schemas.openid.net/event/backchannel-logout";

/** @throws ProviderError: `untrue` if the token is wrong, `silent` if it could not be verified now */
export async function verifyLogoutToken(token: string, rules: LogoutTokenRules): Promise<LogoutToken> {
  const announced = rules.announced ?? ["RS256"];
  try {
    const { payload, protectedHeader } = await jwtVerify(token, rules.keys, {
      issuer: rules.issuer,
      audience: rules.clientId,
      algorithms: rules.accepted.filter((name) => announced.includes(name)),
      requiredClaims: ["iat", "exp", "jti"],
      clockTolerance: toleranceS,
      maxTokenAge: ageMax,
      currentDate: new Date(rules.nowMs),
    });
    if (!/^(?:application\/)?(?:logout\+)?jwt$|^$/i.test(protectedHeader.typ ?? "")) throw wrong("its type is another");
    return contentOf(payload, rules.issuer);
  } catch (cause) {
    if (cause instanceof errors.JWKSNoMatchingKey) throw unpublished(cause);
    throw tokenError("the logout token could not be verified", cause);
  }
}

function contentOf(payload: JWTPayload, issuer: string): LogoutToken {
  const { events } = payload;
  if (!isObject(events) || !Object.hasOwn(events, event) || !isObject(events[event]))
    throw wrong("it does not name the logout event");
  if (Object.hasOwn(payload, "nonce")) throw wrong("it has a nonce");
  const { iat } = payload;
  if (iat === undefined || !(iat >= 0)) throw wrong("its iat is no time");
  const [jti, subject, sid] = [payload.jti, payload.sub, payload["sid"]].map(textOf);
  if (jti === undefined || jti === null) throw wrong("its jti is not plain text");
  if (subject === undefined || sid === undefined) throw wrong("its sub or sid is not plain text");
  if (subject === null && sid === null) throw wrong("it names neither a session nor a person");
  return { issuer, jti, issuedAt: Math.floor(iat * 1_000) as UnixMs, subject, sid };
}

/** Null: absent. Undefined: not plain text of a usual length. */
function textOf(value: unknown): string | null | undefined {
  if (value === undefined) return null;
  const isText = typeof value === "string" && value !== "" && value.length <= textCharsMax && isPlainText(value);
  return isText ? value : undefined;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The provider may have new keys that are not fetched yet. */
function unpublished(cause: Error): ProviderError {
  return new ProviderError("the provider publishes no key of the logout token", { kind: "silent" }, { cause });
}

function wrong(why: string): ProviderError {
  return new ProviderError(`the logout token is wrong: ${why}`, { kind: "untrue" });
}
