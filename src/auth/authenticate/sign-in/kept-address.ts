/**
 * Kept address: preserves an address that is too long for the redirects of a sign-in.
 *
 *   /x?long ── page keeps the address in the tab ──→ sign_in ──→ provider ──→ callback ──→ /.pomerium/return ── page
 *   ──→ /x?long
 *
 * - The redirects carry the short URL of `/.pomerium/return` instead of the address, signed and bound to the browser
 *   like any other.
 * - The browser keeps the address in `sessionStorage`, one per tab and origin. The server stores nothing.
 * - The page at `/.pomerium/return` leads only to an address of its own origin that this tab kept under the id in its
 *   URL. Otherwise it leads to the path without its query.
 * - Only the request for the address itself contains it; no other request or response line does. Load balancers refuse
 *   lines of 4 to 8 KiB.
 *
 * Pure.
 */
import { parameter } from "./signed-url.ts";

/**
 * An address with a longer query encoding (characters) stays in the browser. Redirects contain it twice, the second
 * time in base64.
 */
const redirectCharsMax = 2_000;
/** Longest fallback path (characters). Beyond it, the page leads to `/` if the address is gone. */
const fallbackCharsMax = 1_000;

export const returnPath = "/.pomerium/return";
export const scriptPath = "/.pomerium/address.js";

export function isTooLongForRedirect(address: URL): boolean {
  return encodeURIComponent(address.href).length > redirectCharsMax;
}

/** Final URL of a sign-in whose address the browser keeps under `id`. */
export function returnUrlOf(address: URL, id: string): URL {
  const url = new URL(returnPath, address.origin);
  url.searchParams.set("id", id);
  if (address.pathname.length <= fallbackCharsMax) url.searchParams.set(parameter.redirectUri, address.pathname);
  return url;
}

/** Target of the page at `returnPath` if the tab kept no address: a path of the same origin. */
export function fallbackPathOf(url: URL): string {
  const path = url.searchParams.get(parameter.redirectUri) ?? "/";
  if (!path.startsWith("/") || !URL.canParse(path, url.origin)) return "/";
  const near = new URL(path, url.origin);
  return near.origin === url.origin && !near.pathname.startsWith("//") ? near.pathname : "/";
}

/** Script of both pages. Without it or without storage, sign-in still works and ends at the fallback path. */
export const keepAddressScript = `"use strict";
(() => {
  const key = "pomerium_address";
  const next = document.querySelector("a.first").href;
  const kept = document.querySelector("[data-address]");
  if (kept !== null) {
    const { id, address } = kept.dataset;
    try {
      sessionStorage.setItem(key, id + " " + (location.pathname.startsWith("/.pomerium/") ? address : location.href));
    } catch {}
    location.replace(next);
    return;
  }
  let to = next;
  try {
    const [id, address] = (sessionStorage.getItem(key) ?? "").split(" ");
    sessionStorage.removeItem(key);
    const isOurs = id !== "" && id === new URLSearchParams(location.search).get("id");
    if (isOurs && new URL(address).origin === location.origin) to = address;
  } catch {}
  location.replace(to);
})();
`;
