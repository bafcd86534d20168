/**
 * Sign-in state: the data of a pending sign-in, sealed into the OAuth `state`.
 *
 * - It holds the target, the provider, the OIDC nonce, the PKCE verifier, and the hash of a cookie of the browser that
 *   started.
 * - One small cookie serves every tab. With a cookie per attempt, a browser that restores thirty tabs would send a
 *   header that servers refuse.
 * - It opens only on this installation, for half an hour, and only with that cookie.
 */

import {
  formatLink,
  type NeededLink,
  type Position,
  parseIncarnationTag,
  parseLink,
  parsePosition,
} from "../../../events/index.ts";
import { parseHttpUrl } from "../context.ts";
import type { SignInSecrets } from "../provider/provider-client.ts";
import { nonceHashOf, type SignInRequest } from "./sign-in-request.ts";
import { parseReturns } from "./sign-in-returns.ts";
import type { ValueCipher } from "./value-cipher.ts";

/** Longest time at the identity provider (seconds); allows for a slow second factor. */
export const stateMaxAgeS = 30 * 60;
const purpose = "sign-in state";
/**
 * Servers refuse request lines of 8 KiB, and the state is most of one. Browsers store longer addresses
 * (kept-address.ts).
 */
const stateCharsMax = 7_000;

export type SignInState = SignInSecrets &
  Readonly<{
    request: SignInRequest;
    /** The client at the provider that was sent the state. No other provider's answer is accepted for it. */
    idpId: string;
  }> &
  SignInBeginning;

export type SignInBeginning = Readonly<{
  /** The position that this host had applied when it sent the browser to the provider; absent: not known. */
  begunAt?: Position;
  /** The link at that position; absent: an older build sealed the state. */
  begunLink?: NeededLink;
}>;

export function beginningAt(link: NeededLink): SignInBeginning {
  return { begunAt: link.position, begunLink: link };
}

export async function sealState(box: ValueCipher, state: SignInState, browser: string): Promise<string> {
  let sealed = "";
  for (const redirectUri of shortenedUrls(state.request.redirectUri)) {
    const { callbackUri, idpIds, programmatic, nonceHash, additionalHosts, returns } = state.request;
    sealed = await box.seal(purpose, {
      browser: nonceHashOf(browser),
      nonce: state.nonce,
      verifier: state.verifier,
      ...(state.begunAt === undefined ? {} : { at: state.begunAt }),
      ...(state.begunLink === undefined ? {} : sealedLink(state.begunLink)),
      to: redirectUri.href,
      idp: state.idpId,
      ...(idpIds.length < 2 ? {} : { idps: idpIds }),
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

/** Shorter forms of an address that is too long: without its query, then without its path. */
function shortenedUrls(url: URL): readonly URL[] {
  const path = new URL(url.pathname, url);
  return [url, path, new URL("/", url)];
}

export type OpenedState =
  | Readonly<{ type: "ours"; state: SignInState }>
  /** Valid, but of another browser: only its request may be used, to restart the sign-in. */
  | Readonly<{ type: "of-another-browser"; request: SignInRequest }>
  | Readonly<{ type: "unknown" }>;

export async function openState(box: ValueCipher, sealed: string, browser: string | undefined): Promise<OpenedState> {
  const value = await box.open(purpose, sealed, stateMaxAgeS);
  if (typeof value !== "object" || value === null) return { type: "unknown" };
  const fields = value as Readonly<Record<string, unknown>>;
  const { nonce, verifier, idp: idpId } = fields;
  const request = requestOf(fields);
  if (request === undefined || typeof nonce !== "string" || typeof verifier !== "string" || typeof idpId !== "string")
    return { type: "unknown" };
  if (browser === undefined || fields["browser"] !== nonceHashOf(browser)) {
    return { type: "of-another-browser", request };
  }
  return { type: "ours", state: { nonce, verifier, idpId, request, ...beginningIn(fields) } };
}

/** Older builds read `at` alone. */
function sealedLink({ incarnation, ...link }: NeededLink): Readonly<Record<string, string>> {
  return { link: formatLink(link), ...(incarnation === undefined ? {} : { of: incarnation }) };
}

function beginningIn({ at, link, of }: Readonly<Record<string, unknown>>): SignInBeginning {
  if (at === undefined) return {};
  if (link === undefined) return { begunAt: parsePosition(at) };
  return beginningAt({ ...parseLink(link), ...(of === undefined ? {} : { incarnation: parseIncarnationTag(of) }) });
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
    idpIds: textsOf(fields["idps"]) ?? [text("idp") ?? ""],
    chosenIdpId: null,
    programmatic: fields["programmatic"] === true ? "programmatic" : "browser",
    nonceHash: text("hash") ?? "",
    returns: parseReturns(text("returns")),
    additionalHosts: textsOf(fields["also"]) ?? [],
    trace: null,
    account: "current",
    seen: null,
  };
}

function textsOf(field: unknown): readonly string[] | undefined {
  return Array.isArray(field) ? field.filter((one) => typeof one === "string") : undefined;
}
