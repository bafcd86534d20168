/**
 * Receiver credentials: who calls the transmitter (RFC 6750), and the access tokens that a receiver gets for its client
 * credentials (RFC 6749 §4.4).
 *
 * - A credential names one receiver. A receiver reaches its own stream alone.
 * - An access token lasts half an hour, and ends earlier when the client's secret is replaced. It is signed with a
 *   derived key, so every process verifies it and none stores it.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { jwtVerify, SignJWT } from "jose";
import type { SignalReceiverConfig } from "../../../config/index.ts";
import { SignalRequestError } from "./signal-request-error.ts";

export const ssfScopes = ["ssf.manage", "ssf.read"] as const;
export type SsfScope = (typeof ssfScopes)[number];

export type ReceiverCaller = Readonly<{ receiver: SignalReceiverConfig; scopes: ReadonlySet<SsfScope> }>;

export type CredentialDeps = Readonly<{
  receivers: readonly SignalReceiverConfig[];
  issuer: string;
  /** Sign access tokens, the current one first. */
  keys: readonly Uint8Array[];
  nowS: () => number;
}>;

export const accessTokenS = 1_800;
const tokenType = "at+jwt";
const tokenCharsMax = 4_096;

export async function callerOf(deps: CredentialDeps, authorization: string | undefined): Promise<ReceiverCaller> {
  const presented = /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
  if (presented === undefined || presented.length > tokenCharsMax)
    throw new SignalRequestError("invalid_token", "send a bearer token in the header Authorization");
  const byHash = byTokenHash(deps, presented);
  if (byHash !== undefined) return { receiver: byHash, scopes: new Set(ssfScopes) };
  const byToken = await byAccessToken(deps, presented);
  if (byToken === undefined) throw new SignalRequestError("invalid_token", "the token is not valid or has expired");
  return byToken;
}

export function requireScope({ scopes }: ReceiverCaller, needed: SsfScope): void {
  if (scopes.has(needed) || scopes.has("ssf.manage")) return;
  throw new SignalRequestError("insufficient_scope", `the token lacks the scope ${needed}`);
}

/** Every hash is compared, so the time does not depend on which receiver it is. */
function byTokenHash({ receivers }: CredentialDeps, presented: string): SignalReceiverConfig | undefined {
  let found: SignalReceiverConfig | undefined;
  for (const receiver of receivers)
    if (receiver.tokenHash !== null && isHashOf(presented, receiver.tokenHash)) found = receiver;
  return found;
}

function isHashOf(secret: string, hash: string): boolean {
  return timingSafeEqual(createHash("sha256").update(secret).digest(), Buffer.from(hash, "hex"));
}

async function byAccessToken(deps: CredentialDeps, presented: string): Promise<ReceiverCaller | undefined> {
  const { issuer, keys, nowS, receivers } = deps;
  for (const key of keys) {
    try {
      const { payload } = await jwtVerify(presented, key, {
        algorithms: ["HS256"],
        typ: tokenType,
        issuer,
        audience: issuer,
        currentDate: new Date(nowS() * 1_000),
        requiredClaims: ["exp", "sub", "scope"],
      });
      const receiver = receivers.find(({ name }) => name === payload.sub);
      // The secret has been replaced since, or the client was removed.
      if (receiver?.client == null || payload["secret"] !== fingerprint(receiver.client.secretHash)) return undefined;
      const named = String(payload["scope"]).split(" ");
      return { receiver, scopes: new Set(ssfScopes.filter((scope) => named.includes(scope))) };
    } catch {
      // signed with another key: the next one may verify it
    }
  }
  return undefined;
}

const fingerprint = (secretHash: string): string =>
  createHash("sha256").update(`cardea client secret ${secretHash}`).digest("base64url").slice(0, 16);

export type TokenRequest = Readonly<{ authorization: string | undefined; body: unknown }>;

/** The token endpoint (RFC 6749 §3.2). @throws SignalRequestError */
export async function issueAccessToken(deps: CredentialDeps, { authorization, body }: TokenRequest): Promise<object> {
  const form: Readonly<Record<string, unknown>> = typeof body === "object" && body !== null ? { ...body } : {};
  const { id, secret } = clientIn(authorization, form);
  const receiver = deps.receivers.find(({ client }) => client !== null && client.id === id);
  // An unknown client costs as much as a wrong secret.
  const isRight = isHashOf(secret, receiver?.client?.secretHash ?? "0".repeat(64));
  if (receiver === undefined || receiver.client === null || !isRight)
    throw new SignalRequestError("invalid_client", "the client or its secret is not known");
  if (form["grant_type"] !== "client_credentials")
    throw new SignalRequestError("unsupported_grant_type", "use grant_type=client_credentials");
  const scopes = scopesIn(form["scope"]);
  const { issuer, keys, nowS } = deps;
  const [key] = keys;
  if (key === undefined) throw new TypeError("no key signs access tokens");
  const now = nowS();
  const claims = {
    scope: scopes.join(" "),
    client_id: receiver.client.id,
    secret: fingerprint(receiver.client.secretHash),
  };
  const token = await new SignJWT(claims)
    .setProtectedHeader({ alg: "HS256", typ: tokenType })
    .setIssuer(issuer)
    .setAudience(issuer)
    .setSubject(receiver.name)
    .setIssuedAt(now)
    .setExpirationTime(now + accessTokenS)
    .sign(key);
  return { access_token: token, token_type: "Bearer", expires_in: accessTokenS, scope: scopes.join(" ") };
}

function clientIn(
  authorization: string | undefined,
  form: Readonly<Record<string, unknown>>,
): Readonly<{ id: string; secret: string }> {
  const basic = /^Basic +([A-Za-z0-9+/=]{1,2000})$/i.exec(authorization ?? "")?.[1];
  if (basic === undefined) {
    const { client_id: id, client_secret: secret } = form;
    if (typeof id === "string" && typeof secret === "string" && secret.length <= 1_000) return { id, secret };
    throw new SignalRequestError("invalid_client", "send client_id and client_secret, or HTTP basic authentication");
  }
  const text = Buffer.from(basic, "base64").toString("utf8");
  const colon = text.indexOf(":");
  const [id, secret] = [text.slice(0, Math.max(0, colon)), text.slice(colon + 1)].map(formDecoded);
  if (id !== undefined && secret !== undefined) return { id, secret };
  throw new SignalRequestError("invalid_client", "the basic credentials are not form-encoded");
}

/** RFC 6749 §2.3.1: both halves are form-encoded. Undefined: the escapes are not UTF-8. */
function formDecoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part.replaceAll("+", " "));
  } catch {
    return undefined;
  }
}

function scopesIn(scope: unknown): readonly SsfScope[] {
  if (scope === undefined || scope === "") return ssfScopes;
  const named = typeof scope === "string" ? scope.split(" ").filter((each) => each !== "") : [];
  const scopes = ssfScopes.filter((each) => named.includes(each));
  if (scopes.length === 0 || scopes.length !== new Set(named).size)
    throw new SignalRequestError("invalid_scope", `the scopes are ${ssfScopes.join(" and ")}`);
  return scopes;
}
