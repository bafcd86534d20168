/**
 * OAuth client: access tokens for directories, by client credentials or by a signed assertion.
 *
 * - RFC 6749 §4.4, RFC 7521, RFC 7523. Tokens stay in memory, and are requested again a minute before they expire.
 * - An assertion is valid for five minutes, and a few seconds before it was signed, because clocks differ a little.
 * - A refused assertion may mean a wrong clock, so the message then names the difference to the server's `Date`.
 */
import { createPrivateKey, type KeyObject, randomUUID } from "node:crypto";
import { SignJWT } from "jose";
import * as z from "zod";
import { DirectoryError } from "../../directory-error.ts";
import type { DirectoryAnswer, DirectoryHttp } from "../../directory-fetch.ts";

export type AccessToken = Readonly<{ value: string; expiresAtMs: number }>;

export type AccessTokens = Readonly<{
  /** @throws DirectoryError */
  get(signal: AbortSignal): Promise<string>;
  /** Forgets the token: the directory refuses it. */
  drop(): void;
}>;

const renewBeforeMs = 60_000;
const assertionMs = 300_000;
const clockToleranceMs = 10_000;
/** Beyond this, providers refuse assertions. */
const clockDifferenceMaxMs = 30_000;
/** A token that claims to live longer is requested again anyway. */
const tokenMsMax = 24 * 3_600_000;

export function createAccessTokens(
  options: Readonly<{ request: (signal: AbortSignal) => Promise<AccessToken>; now: () => number }>,
): AccessTokens {
  let held: AccessToken | undefined;
  return {
    async get(signal) {
      if (held === undefined || held.expiresAtMs - renewBeforeMs <= options.now()) held = await options.request(signal);
      return held.value;
    },
    drop() {
      held = undefined;
    },
  };
}

const tokenAnswer = z.object({
  access_token: z
    .string()
    .min(1)
    .max(16_384)
    .regex(/^[\x21-\x7e]+$/),
  token_type: z.string().regex(/^bearer$/i),
  expires_in: z.coerce.number().positive(),
});

/** @throws DirectoryError: `unauthorized` names the server's error code */
export async function requestToken(
  options: Readonly<{
    http: DirectoryHttp;
    url: URL;
    form: Readonly<Record<string, string>>;
    now: () => number;
    signal: AbortSignal;
  }>,
): Promise<AccessToken> {
  const { http, url, now } = options;
  const askedAt = now();
  const answer = await http.request({
    url,
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams(options.form).toString(),
    signal: options.signal,
    accept: [400, 401, 403],
  });
  if (answer.status >= 400) throw refusedCredentials(answer, { host: url.host, now: now() });
  const parsed = tokenAnswer.safeParse(answer.json());
  if (!parsed.success) throw new DirectoryError(`${url.host} answered without a bearer token`, { kind: "malformed" });
  const { access_token, expires_in } = parsed.data;
  return { value: access_token, expiresAtMs: askedAt + Math.min(tokenMsMax, expires_in * 1_000) };
}

/** For an answer of 400, 401 or 403 to a request with credentials. */
export function refusedCredentials(
  answer: DirectoryAnswer,
  { host, now }: Readonly<{ host: string; now: number }>,
): DirectoryError {
  const aheadMs = now - Date.parse(answer.headers.get("date") ?? "");
  const clock =
    Math.abs(aheadMs) > clockDifferenceMaxMs
      ? `; the clock here is ${Math.round(Math.abs(aheadMs) / 1_000)} s ${aheadMs > 0 ? "ahead of" : "behind"} its own`
      : "";
  return new DirectoryError(`${host} refuses the credentials (${errorCodeOf(answer)})${clock}`, {
    kind: "unauthorized",
  });
}

/** RFC 6749 §5.2: only the code, never a text of the server, which may quote what was sent. */
function errorCodeOf(answer: DirectoryAnswer): string {
  try {
    const { error } = z.object({ error: z.string().regex(/^[a-z_]{1,64}$/) }).parse(answer.json());
    return error;
  } catch (error) {
    if (error instanceof z.ZodError || error instanceof DirectoryError) return String(answer.status);
    throw error;
  }
}

export type Assertion = Readonly<{
  key: KeyObject;
  header: Readonly<{ alg: string; typ: "JWT"; kid?: string; "x5t#S256"?: string }>;
  issuer: string;
  subject?: string;
  audience?: string;
  claims?: Readonly<Record<string, string>>;
  lifeMs?: number;
}>;

export function signAssertion(assertion: Assertion, nowMs: number): Promise<string> {
  const issuedAt = Math.floor((nowMs - clockToleranceMs) / 1_000);
  const jwt = new SignJWT({ ...assertion.claims })
    .setProtectedHeader(assertion.header)
    .setIssuer(assertion.issuer)
    .setIssuedAt(issuedAt)
    .setNotBefore(issuedAt)
    .setExpirationTime(Math.floor((nowMs + (assertion.lifeMs ?? assertionMs)) / 1_000))
    .setJti(randomUUID());
  if (assertion.subject !== undefined) jwt.setSubject(assertion.subject);
  if (assertion.audience !== undefined) jwt.setAudience(assertion.audience);
  return jwt.sign(assertion.key);
}

export const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/** A PEM private key as a setting. @param kinds `rsa` of 2,048 bits and more, or `ec` on P-256 */
export function privateKey(kinds: readonly ("rsa" | "ec")[]): z.ZodType<KeyObject> {
  return z.string().transform((pem, context) => {
    const refuse = (message: string): never => {
      context.addIssue({ code: "custom", message });
      return z.NEVER;
    };
    let key: KeyObject;
    try {
      key = createPrivateKey(pem);
    } catch {
      return refuse("is not a PEM private key without a passphrase");
    }
    const { modulusLength = 0, namedCurve } = key.asymmetricKeyDetails ?? {};
    const isRsa = key.asymmetricKeyType === "rsa" && modulusLength >= 2_048;
    const isP256 = key.asymmetricKeyType === "ec" && namedCurve === "prime256v1";
    if ((isRsa && kinds.includes("rsa")) || (isP256 && kinds.includes("ec"))) return key;
    return refuse(
      `must be ${kinds.includes("ec") ? "an RSA key of 2048 bits or more, or P-256" : "an RSA key of 2048 bits or more"}`,
    );
  });
}

export function algorithmOf(key: KeyObject): "RS256" | "ES256" {
  return key.asymmetricKeyType === "ec" ? "ES256" : "RS256";
}
