/**
 * SignInRequest: what a signed sign-in URL asks for, and how the answer goes back. Pure.
 *
 * The proxy makes it, for a host that it routes; authenticate believes it because it is signed.
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
  idpId: string;
  /** Hosts of other routes that the person is led through before they are where they wanted to be. */
  additionalHosts: readonly string[];
  programmatic: "programmatic" | "browser";
  /** SHA-256 (base64url) of the nonce cookie on the route's host; "" for programmatic sign-in. */
  nonceHash: string;
  /** `another`: whoever is signed in on the authenticate host is not handed over; the identity provider asks again. */
  account: "current" | "another";
  /**
   * What the proxy had applied when it refused a credential. Authenticate must have reached it before it judges: else
   * the two could send a revoked person back and forth.
   */
  seen: Link | null;
  /** How many sign-ins in a row have come back without a session before this one; see sign-in-returns.ts. */
  returns: number;
  /** Of the trace that this sign-in belongs to. */
  trace: TraceText | null;
}>;

export function nonceHashOf(nonce: string): string {
  return hash("sha256", nonce, "base64url");
}

export function signInUrl(authenticateUrl: URL, request: SignInRequest, key: Uint8Array, nowS: number): URL {
  const url = new URL("/.pomerium/sign_in", authenticateUrl);
  url.searchParams.set(parameter.redirectUri, request.redirectUri.href);
  url.searchParams.set(parameter.idpId, request.idpId);
  if (request.additionalHosts.length > 0)
    url.searchParams.set(parameter.additionalHosts, request.additionalHosts.join(","));
  addTrace(url, request.trace);
  if (request.callbackUri !== null) url.searchParams.set(parameter.callbackUri, request.callbackUri.href);
  if (request.programmatic === "programmatic") url.searchParams.set(parameter.programmatic, "true");
  if (request.nonceHash !== "") url.searchParams.set(parameter.nonce, request.nonceHash);
  if (request.returns > 0) url.searchParams.set(parameter.returns, String(request.returns));
  if (request.account === "another") url.searchParams.set(parameter.account, "another");
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
    idpId: searchParams.get(parameter.idpId) ?? "",
    additionalHosts: additionalHostsOf(url),
    trace: traceOf(url),
    programmatic: searchParams.get(parameter.programmatic) === "true" ? "programmatic" : "browser",
    nonceHash: searchParams.get(parameter.nonce) ?? "",
    returns: parseReturns(searchParams.get(parameter.returns)),
    account: searchParams.get(parameter.account) === "another" ? "another" : "current",
    seen: parseOptionalLink(searchParams.get(parameter.seen)),
  };
}

/** Of a URL whose signature has been checked. */
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

/** Where a finished sign-in is handed to the route's host. */
export function callbackUrl(request: SignInRequest, sessionEncrypted: string, key: Uint8Array, nowS: number): URL {
  const url = new URL(request.callbackUri ?? new URL("/.pomerium/callback/", request.redirectUri));
  url.searchParams.set(parameter.sessionEncrypted, sessionEncrypted);
  url.searchParams.set(parameter.redirectUri, request.redirectUri.href);
  if (request.programmatic === "programmatic") url.searchParams.set(parameter.programmatic, "true");
  if (request.nonceHash !== "") url.searchParams.set(parameter.nonce, request.nonceHash);
  if (request.returns > 0) url.searchParams.set(parameter.returns, String(request.returns));
  // Present, even if empty, where the person is on their way through several hosts.
  const leads = request.additionalHosts.length > 0 || url.origin !== request.redirectUri.origin;
  if (leads && request.programmatic === "browser")
    url.searchParams.set(parameter.additionalHosts, request.additionalHosts.join(","));
  addTrace(url, request.trace);
  return signUrl(url, key, nowS);
}

/** Where somebody on their way through several hosts begins to be signed in to the next one. */
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
