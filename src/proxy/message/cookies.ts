/**
 * Cookies: the proxy's own cookies never reach an upstream, and no upstream sets or reads them. Others keep their
 * order and bytes.
 *
 * Pure. The proxy's own are the session cookie and every cookie whose name starts with that name and `_` (nonce,
 * csrf, authenticate), with or without a cookie prefix, in any case: the upstream's parser may be lenient.
 */
export type OwnCookies = Readonly<{
  /** The header without the proxy's cookies; undefined: nothing is left. */
  strip(header: string): string | undefined;
  /** Whether a `Set-Cookie` value would set a cookie of the proxy. */
  isOwn(setCookie: string): boolean;
}>;

export function ownCookies(cookieName: string): OwnCookies {
  const ownName = baseName(cookieName);
  const isOwnName = (name: string): boolean => {
    if (name.length < ownName.length) return false;
    const candidate = baseName(name.trim());
    return candidate === ownName || candidate.startsWith(`${ownName}_`);
  };
  const nameOf = (pair: string): string => {
    const equals = pair.indexOf("=");
    return equals < 0 ? pair : pair.slice(0, equals);
  };
  return {
    strip(header) {
      let kept: string | undefined;
      let isWhole = true;
      for (let start = 0; start <= header.length; ) {
        const semicolon = header.indexOf(";", start);
        const end = semicolon < 0 ? header.length : semicolon;
        const pair = header.slice(start, end);
        if (isOwnName(nameOf(pair))) isWhole = false;
        else kept = kept === undefined ? pair : `${kept};${pair}`;
        start = end + 1;
      }
      if (isWhole) return header;
      const rest = (kept ?? "").trim();
      return rest === "" ? undefined : rest;
    },
    // Some browsers keep `=_pomerium=x` as a cookie without a name, and send it back as `_pomerium=x`.
    isOwn: (setCookie) => isOwnName(nameOf((setCookie.split(";", 1)[0] ?? "").replace(/^[\s=]+/, ""))),
  };
}

function baseName(name: string): string {
  return name.toLowerCase().replace(/^__(?:host|secure)-/, "");
}
