/**
 * Signed URLs: how the proxy and the authenticate service redirect a browser to each other with parameters that no one
 * else can set.
 *
 * Pomerium's form (docs/pomerium-behaviour.md §1.1): HMAC-SHA-512/256 over the URL with its query sorted bytewise, then
 * the issue time, one space, and the expiry, in seconds. Every parameter is covered, so none can be added, dropped or
 * changed. Pure.
 */
import { createHmac, timingSafeEqual } from "node:crypto";

export const signedForS = 300;
const leewayS = 60;

export const parameter = {
  redirectUri: "pomerium_redirect_uri",
  callbackUri: "pomerium_callback_uri",
  idpId: "pomerium_idp_id",
  programmatic: "pomerium_programmatic",
  sessionEncrypted: "pomerium_session_encrypted",
  session: "pomerium_session",
  jwt: "pomerium_jwt",
  /** Cardea's: the client at an identity provider that the person has chosen. */
  chosenIdpId: "pomerium_chosen_idp_id",
  /** Further hosts that a visitor is signed in to, separated by commas. */
  additionalHosts: "pomerium_additional_hosts",
  traceparent: "pomerium_traceparent",
  tracestate: "pomerium_tracestate",
  /** Cardea's: SHA-256 of the nonce cookie that the callback requires. */
  nonce: "pomerium_nonce",
  /** Cardea's: the link that the proxy had applied when it refused the credential and started the sign-in. */
  seen: "pomerium_seen",
  /** Cardea's: the number of consecutive sign-ins that returned without a session; see sign-in-returns.ts. */
  returns: "pomerium_returns",
  /** Cardea's: `another` for a signed-in person who wants another account, `existing` for one who starts no sign-in. */
  account: "pomerium_account",
  /** Cardea's: the longest time since the sign-in of a session that may be used, in seconds (`session_lifetime`). */
  sessionAge: "pomerium_session_age",
  /** Cardea's: the longest time that a session may have been unused, in seconds (`session_idle_lifetime`). */
  sessionIdle: "pomerium_session_idle",
  /** Cardea's: the id of the session that a sign-out ends. It is no credential. */
  endSession: "pomerium_end_session",
  /** Cardea's: what a form of the account page ends. */
  scope: "pomerium_scope",
  /** Cardea's: the session of the browser that the form was made for. */
  ownSession: "pomerium_own_session",
  issued: "pomerium_issued",
  expiry: "pomerium_expiry",
  signature: "pomerium_signature",
} as const;

/** Signs a URL for five minutes. */
export function signUrl(url: URL, key: Uint8Array, nowS: number): URL {
  const parameters = new Map(url.searchParams);
  parameters.delete(parameter.signature);
  parameters.set(parameter.issued, String(nowS));
  parameters.set(parameter.expiry, String(nowS + signedForS));
  const base = baseOf(url);
  const mac = signatureOf(base, parameters, key);
  parameters.set(parameter.signature, mac);
  return new URL(`${base}?${serialise(parameters)}`);
}

export type UrlProblem = "unsigned" | "bad signature" | "expired" | "from the future";

/** Checks a signed URL as it was received. @param keys the current key first; older ones during a rotation */
export function checkSignedUrl(url: URL, keys: readonly Uint8Array[], nowS: number): "valid" | UrlProblem {
  const parameters = new Map<string, string>();
  for (const [name, value] of url.searchParams) {
    // Another reader could take the other value of a repeated parameter.
    if (parameters.has(name)) return "bad signature";
    parameters.set(name, value);
  }
  const signature = parameters.get(parameter.signature);
  const issued = seconds(parameters.get(parameter.issued));
  const expiry = seconds(parameters.get(parameter.expiry));
  if (signature === undefined || issued === undefined || expiry === undefined) return "unsigned";
  parameters.delete(parameter.signature);
  const base = baseOf(url);
  if (!keys.some((key) => sameText(signature, signatureOf(base, parameters, key)))) return "bad signature";
  if (nowS > expiry + leewayS) return "expired";
  if (nowS < issued - leewayS) return "from the future";
  return "valid";
}

function seconds(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,12}$/.test(text) ? Number(text) : undefined;
}

function signatureOf(base: string, parameters: ReadonlyMap<string, string>, key: Uint8Array): string {
  const issued = parameters.get(parameter.issued) ?? "";
  const expiry = parameters.get(parameter.expiry) ?? "";
  const message = `${base}?${serialise(parameters)}${issued} ${expiry}`;
  const mac = createHmac("sha512-256", key).update(message).digest("base64");
  return mac.replaceAll("+", "-").replaceAll("/", "_"); // base64url with padding
}

/** Scheme, host and path. The root path is empty, as in the test vector. */
function baseOf(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname === "/" ? "" : url.pathname}`;
}

/** Query in Go's form: keys sorted bytewise, space as `+`, all but letters, digits and `-_.~` escaped. */
function serialise(parameters: ReadonlyMap<string, string>): string {
  return [...parameters]
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .map(([name, value]) => `${escapeQuery(name)}=${escapeQuery(value)}`)
    .join("&");
}

function escapeQuery(text: string): string {
  return encodeURIComponent(text)
    .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll("%20", "+");
}

function sameText(a: string, b: string): boolean {
  const x = Buffer.from(a);
  const y = Buffer.from(b);
  return x.length === y.length && timingSafeEqual(x, y);
}
