/**
 * Same-origin check: whether a page of another site can have made a request. Pure.
 *
 * Every current browser sends Fetch Metadata; older ones send `Origin` or `Referer`. A request without any of them is
 * not from a browser, or its address was typed, so no other site made it.
 */
export function isFromElsewhere(headers: Readonly<Record<string, string | undefined>>, origin: string): boolean {
  const site = headers["sec-fetch-site"];
  if (site !== undefined) return site !== "same-origin" && site !== "none";
  if (headers["origin"] !== undefined) return headers["origin"] !== origin;
  const referer = headers["referer"];
  return referer !== undefined && (!URL.canParse(referer) || new URL(referer).origin !== origin);
}
