/**
 * SignInRequest: the content of a signed sign-in URL, and the URLs that carry the result back. Pure.
 *
 * The proxy makes it, for a host that it routes. The authenticate host accepts it because of the signature.
 */
import { hash } from "node:crypto";
import { formatLink, type Link, parseLink } from "../../../events/index.ts";
import { parseHttpUrl } from "../context.ts";
import { addTrace, type TraceText, traceOf } from "../provider/trace-text.ts";
import { parseReturns } from "./sign-in-returns.ts";
import { parameter, signUrl } from "./signed-url.ts";

export type SignInRequest = Readonly<{
  redirectUri: URL;
  /** Null: `/.pomerium/callback/` on the redirect's host. */
  callbackUri: URL | null;
  /** The clients at identity providers among which the person chooses; empty: the defaults. */
  idpIds: readonly string[];
  /** The one that the person has chosen; null: not yet. */
  chosenIdpId: string | null;
  /** Hosts of other routes that the browser also signs in to before it reaches the target. */
  additionalHosts: readonly string[];
  programmatic: "programmatic" | "browser";
  /** SHA-256 (base64url) of the nonce cookie on the route's host; "" for programmatic sign-in. */
  nonceHash: string;
  /**
   * `another`: ignores the session on the authenticate host; the identity provider prompts again. `again`: the same,
   * and the provider has to say when the person authenticated. `existing`: uses that session, and starts no sign-in
   * without one.
   */
  account: "current" | "another" | "again" | "existing";
  /**
   * Link that the proxy had applied when it refused a credential. The authenticate host must reach it before it
   * decides; otherwise the two could redirect a revoked person back and forth. Null: none.
   */
  seen: Link | null;
  /** Number of consecutive sign-ins before this one that returned without a session; see sign-in-returns.ts. */
  returns: number;
  /** Trace context of this sign-in; null: none. */
  trace: TraceText | null;
  /** The longest time since the sign-in of a session that is used for it; absent: its expiry decides. */
  sessionMsMax?: number;
  /** The longest time that a session that is used for it may have been unused; absent: no bound by the route. */
  idleMsMax?: number;
}>;

export function nonceHashOf(nonce: string): string {
  return hash("sha256", nonce, "base64url");
}

export function signInUrl(authenticateUrl: URL, request: SignInRequest, key: Uint8Array, nowS: number): URL {
  const url = new URL("/.pomerium/sign_in", authenticateUrl);
  url.searchParams.set(parameter.redirectUri, request.redirectUri.href);
  url.searchParams.set(parameter.idpId, request.idpIds.join(","));
  if (request.additionalHosts.length > 0)
    url.searchParams.set(parameter.additionalHosts, request.additionalHosts.join(","));
  if (request.chosenIdpId !== null) url.searchParams.set(parameter.chosenIdpId, request.chosenIdpId);
  addTrace(url, request.trace);
  if (request.callbackUri !== null) url.searchParams.set(parameter.callbackUri, request.callbackUri.href);
  if (request.programmatic === "programmatic") url.searchParams.set(parameter.programmatic, "true");
  if (request.nonceHash !== "") url.searchParams.set(parameter.nonce, request.nonceHash);
  if (request.returns > 0) url.searchParams.set(parameter.returns, String(request.returns));
  if (request.account !== "current") url.searchParams.set(parameter.account, request.account);
  if (request.sessionMsMax !== undefined)
    url.searchParams.set(parameter.sessionAge, String(Math.ceil(request.sessionMsMax / 1_000)));
  if (request.idleMsMax !== undefined)
    url.searchParams.set(parameter.sessionIdle, String(Math.ceil(request.idleMsMax / 1_000)));
  if (request.seen !== null && request.seen.position > 0)
    url.searchParams.set(parameter.seen, formatLink(request.seen));
  return signUrl(url, key, nowS);
}

/** Reads a sign-in URL whose signature has been checked. */
export function parseSignInUrl(url: URL): SignInRequest | undefined {
  const { searchParams } = url;
  const redirectUri = parseHttpUrl(searchParams.get(parameter.redirectUri));
  const callback = searchParams.get(parameter.callbackUri);
  const callbackUri = callback === null ? null : parseHttpUrl(callback);
  if (redirectUri === undefined || callbackUri === undefined) return undefined;
  return {
    redirectUri,
    callbackUri,
    idpIds: parseIdpIds(searchParams.get(parameter.idpId)),
    chosenIdpId: searchParams.get(parameter.chosenIdpId),
    additionalHosts: additionalHostsOf(url),
    trace: traceOf(url),
    programmatic: searchParams.get(parameter.programmatic) === "true" ? "programmatic" : "browser",
    nonceHash: searchParams.get(parameter.nonce) ?? "",
    returns: parseReturns(searchParams.get(parameter.returns)),
    account: parseAccount(searchParams.get(parameter.account)),
    seen: parseOptionalLink(searchParams.get(parameter.seen)),
    ...parseSeconds("sessionMsMax", searchParams.get(parameter.sessionAge)),
    ...parseSeconds("idleMsMax", searchParams.get(parameter.sessionIdle)),
  };
}

function parseSeconds(
  name: "sessionMsMax" | "idleMsMax",
  text: string | null,
): Pick<SignInRequest, "sessionMsMax" | "idleMsMax"> {
  return text !== null && /^\d{1,9}$/.test(text) ? { [name]: Number(text) * 1_000 } : {};
}

/** @param text ids with commas between them */
function parseIdpIds(text: string | null): readonly string[] {
  return (text ?? "").split(",").filter((id) => id !== "");
}

function parseAccount(text: string | null): SignInRequest["account"] {
  return text === "another" || text === "again" || text === "existing" ? text : "current";
}

/** Reads the additional hosts of a URL whose signature has been checked. */
export function additionalHostsOf({ searchParams }: URL): readonly string[] {
  return (searchParams.get(parameter.additionalHosts) ?? "").split(",").filter((host) => host !== "");
}

function parseOptionalLink(text: string | null): Link | null {
  try {
    return text === null ? null : parseLink(text);
  } catch {
    return null;
  }
}

/** Signed URL that delivers a finished sign-in to the route's host. */
export function callbackUrl(request: SignInRequest, sessionEncrypted: string, key: Uint8Array, nowS: number): URL {
  const url = new URL(request.callbackUri ?? new URL("/.pomerium/callback/", request.redirectUri));
  url.searchParams.set(parameter.sessionEncrypted, sessionEncrypted);
  url.searchParams.set(parameter.redirectUri, request.redirectUri.href);
  if (request.programmatic === "programmatic") url.searchParams.set(parameter.programmatic, "true");
  if (request.nonceHash !== "") url.searchParams.set(parameter.nonce, request.nonceHash);
  if (request.returns > 0) url.searchParams.set(parameter.returns, String(request.returns));
  // Present, even if empty, while the browser is redirected through several hosts.
  const leads = request.additionalHosts.length > 0 || url.origin !== request.redirectUri.origin;
  if (leads && request.programmatic === "browser")
    url.searchParams.set(parameter.additionalHosts, request.additionalHosts.join(","));
  addTrace(url, request.trace);
  return signUrl(url, key, nowS);
}

/** Signed URL that starts the sign-in on the next of several hosts. */
export function nextHostUrl(
  origin: string,
  leads: Readonly<{ to: URL; rest: readonly string[]; trace: TraceText | null }>,
  key: Uint8Array,
  nowS: number,
): URL {
  const url = new URL("/.pomerium/sign_in", origin);
  url.searchParams.set(parameter.redirectUri, leads.to.href);
  url.searchParams.set(parameter.additionalHosts, leads.rest.join(","));
  addTrace(url, leads.trace);
  return signUrl(url, key, nowS);
}
