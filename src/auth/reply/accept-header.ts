/**
 * Accept header: selects the response format that a caller prefers (RFC 9110 §12.5.1).
 *
 * - The highest quality wins. At equal quality, the range that is first in the header wins.
 * - Within one range, the first offer wins.
 *
 * Pure.
 */
type Range = Readonly<{ type: string; subtype: string; quality: number }>;
const rangesMax = 50;
const redirectOffers = [
  "text/html",
  "application/json",
  "text/plain",
  "application/grpc-web-text",
  "application/grpc-web+proto",
  "application/grpc+proto",
] as const;

/** @returns the preferred offer; undefined: none is acceptable, or the header is malformed */
export function bestMatch<Offer extends string>(accept: string, offers: readonly Offer[]): Offer | undefined {
  const ranges = parseAccept(accept);
  if (ranges === undefined) return undefined;
  let best: Readonly<{ offer: Offer; quality: number; order: number }> | undefined;
  for (const offer of offers) {
    const order = mostSpecific(ranges, offer);
    const quality = ranges[order]?.quality ?? 0;
    if (quality === 0) continue;
    if (best === undefined || quality > best.quality || (quality === best.quality && order < best.order)) {
      best = { offer, quality, order };
    }
  }
  return best?.offer;
}

/**
 * Whether a caller that sends no `Sec-Fetch-Mode` is a browser: it names HTML in `Accept`, or its user agent contains
 * Mozilla. curl, git and HTTP libraries do neither. A client that cannot show a sign-in page must not be redirected to
 * one: its error would explain nothing.
 */
export function isBrowser({
  accept,
  userAgent,
}: Readonly<Record<"accept" | "userAgent", string | undefined>>): boolean {
  return /\b(?:text\/html|application\/xhtml\+xml)\b/i.test(accept ?? "") || /^Mozilla\//.test(userAgent ?? "");
}

/**
 * docs/pomerium-behaviour.md §6.6: a missing, malformed or unspecific `Accept` counts as a browser's; otherwise HTML
 * must be preferred.
 */
export function acceptsRedirect(accept: string | undefined): boolean {
  const best = accept === undefined ? undefined : bestMatch(accept, redirectOffers);
  return best === undefined || best === "text/html";
}

function mostSpecific(ranges: readonly Range[], offer: string): number {
  const [type, subtype] = offer.split("/");
  const forms: readonly ((range: Range) => boolean)[] = [
    (r) => r.type === type && r.subtype === subtype,
    (r) => r.type === type && r.subtype === "*",
    (r) => r.type === "*" && r.subtype === "*",
  ];
  for (const form of forms) {
    const at = ranges.findIndex(form);
    if (at >= 0) return at;
  }
  return -1;
}

function parseAccept(accept: string): readonly Range[] | undefined {
  const ranges: Range[] = [];
  for (const item of accept.split(",").slice(0, rangesMax)) {
    const [media = "", ...parameters] = item.split(";").map((part) => part.trim());
    const [, type, subtype] = /^([\w!#$&^.+*-]+)\/([\w!#$&^.+*-]+)$/.exec(media.toLowerCase()) ?? [];
    if (type === undefined || subtype === undefined) return undefined;
    const weight = parameters.find((parameter) => /^q=/i.test(parameter))?.slice(2);
    const quality = weight === undefined ? 1 : Number(weight);
    if (!(quality >= 0 && quality <= 1)) return undefined;
    ranges.push({ type, subtype, quality });
  }
  return ranges;
}
