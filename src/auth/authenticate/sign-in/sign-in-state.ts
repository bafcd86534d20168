/**
 * Sign-in state: what must be known again when somebody comes back from the identity provider, sealed into the OAuth
 * `state`.
 *
 * It holds where to go, the OIDC nonce and the PKCE verifier, and the hash of a cookie of the browser that began. One
 * small cookie serves every tab, so a browser that restores thirty tabs does not grow a header that no server takes, as
 * it would with a cookie for each attempt. It opens only here, only for half an hour, and only with that cookie.
 */

import { parseHttpUrl } from "../context.ts";
import { nonceHashOf, type SignInRequest } from "./sign-in-request.ts";
import { parseReturns } from "./sign-in-returns.ts";
import type { ValueCipher } from "./value-cipher.ts";

/** How long a person may take at the identity provider (a slow second factor). */
export const stateMaxAgeS = 30 * 60;
const purpose = "sign-in state";
/**
 * Servers refuse request lines of 8 KiB, and the state is most of one. Browsers keep longer addresses themselves
 * (kept-address.ts).
 */
const stateCharsMax = 7_000;

export type SignInSecrets = Readonly<{ nonce: string; verifier: string }>;
export type SignInState = SignInSecrets & Readonly<{ request: SignInRequest }>;

export async function sealState(box: ValueCipher, state: SignInState, browser: string): Promise<string> {
  let sealed = "";
  for (const redirectUri of shortenedUrls(state.request.redirectUri)) {
    const { callbackUri, idpId, programmatic, nonceHash, additionalHosts, returns } = state.request;
    sealed = await box.seal(purpose, {
      browser: nonceHashOf(browser),
      nonce: state.nonce,
      verifier: state.verifier,
      to: redirectUri.href,
      idp: idpId,
      ...(callbackUri === null ? {} : { callback: callbackUri.href }),
      ...(programmatic === "programmatic" ? { programmatic: true } : {}),
      ...(nonceHash === "" ? {} : { hash: nonceHash }),
      ...(returns === 0 ? {} : { returns: String(returns) }),
      ...(additionalHosts.length === 0 ? {} : { also: additionalHosts }),
    });
    if (sealed.length <= stateCharsMax) break;
  }
  return sealed;
}

/** An address too long to be carried loses its query, then its path: better to land near than not at all. */
function shortenedUrls(url: URL): readonly URL[] {
  const path = new URL(url.pathname, url);
  return [url, path, new URL("/", url)];
}

export type OpenedState =
  | Readonly<{ type: "ours"; state: SignInState }>
  /** Made here, for another browser: where to begin again is all that may be taken from it. */
  | Readonly<{ type: "of-another-browser"; request: SignInRequest }>
  | Readonly<{ type: "unknown" }>;

export async function openState(box: ValueCipher, sealed: string, browser: string | undefined): Promise<OpenedState> {
  const value = await box.open(purpose, sealed, stateMaxAgeS);
  if (typeof value !== "object" || value === null) return { type: "unknown" };
  const fields = value as Readonly<Record<string, unknown>>;
  const { nonce, verifier } = fields;
  const request = requestOf(fields);
  if (request === undefined || typeof nonce !== "string" || typeof verifier !== "string") return { type: "unknown" };
  if (browser === undefined || fields["browser"] !== nonceHashOf(browser)) {
    return { type: "of-another-browser", request };
  }
  return { type: "ours", state: { nonce, verifier, request } };
}

function requestOf(fields: Readonly<Record<string, unknown>>): SignInRequest | undefined {
  const text = (name: string): string | undefined => {
    const field = fields[name];
    return typeof field === "string" ? field : undefined;
  };
  const redirectUri = parseHttpUrl(text("to"));
  const callbackUri = fields["callback"] === undefined ? null : parseHttpUrl(text("callback"));
  if (redirectUri === undefined || callbackUri === undefined) return undefined;
  return {
    redirectUri,
    callbackUri,
    idpId: text("idp") ?? "",
    programmatic: fields["programmatic"] === true ? "programmatic" : "browser",
    nonceHash: text("hash") ?? "",
    returns: parseReturns(text("returns")),
    additionalHosts: Array.isArray(fields["also"]) ? fields["also"].filter((host) => typeof host === "string") : [],
    trace: null,
    account: "current",
    seen: null,
  };
}
