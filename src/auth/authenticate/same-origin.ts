/**
 * Same origin: whether a request can have come from a page of another site. Pure.
 *
 * Fetch Metadata says so in every current browser; before it there are `Origin` and `Referer`. A request that says
 * nothing is no browser's, or was typed: neither can be made by somebody else's page.
 */
export function isFromElsewhere(headers: Readonly<Record<string, string | undefined>>, origin: string): boolean {
  const site = headers["sec-fetch-site"];
  if (site !== undefined) return site !== "same-origin" && site !== "none";
  if (headers["origin"] !== undefined) return headers["origin"] !== origin;
  const referer = headers["referer"];
  return referer !== undefined && (!URL.canParse(referer) || new URL(referer).origin !== origin);
}
