/**
 * Accept: which of our forms a caller would rather have (RFC 9110 §12.5.1).
 *
 * Pure. The highest quality wins; at equal quality the range that stands first in the header does, and within one range
 * the form that we offer first.
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

/** @returns the offer that is liked best; undefined when none is acceptable, or the header cannot be read */
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
 * Whether a caller that says nothing of `Sec-Fetch-Mode` is a browser: it names HTML in `Accept`, or calls itself
 * Mozilla, as every browser does. curl, git and the HTTP libraries accept anything (or nothing in particular) and do
 * neither. A client that follows a redirect to a sign-in page without being able to show it ends in an error that
 * explains nothing.
 */
export function isBrowser({
  accept,
  userAgent,
}: Readonly<Record<"accept" | "userAgent", string | undefined>>): boolean {
  return /\b(?:text\/html|application\/xhtml\+xml)\b/i.test(accept ?? "") || /^Mozilla\//.test(userAgent ?? "");
}

/**
 * docs/pomerium-behaviour.md §6.6: a missing, unreadable or unhelpful `Accept` is a browser's; otherwise HTML must be
 * liked best.
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
