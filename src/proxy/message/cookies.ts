/**
 * Cookies: ours never reach an upstream, and no upstream sets or reads ours. Others keep their order and bytes.
 *
 * Pure. Ours are the session cookie and everything whose name starts with its name and `_` (nonce, csrf, authenticate),
 * with or without a cookie prefix, in any case: the upstream's parser may be lenient.
 */
export type OwnCookies = Readonly<{
  /** The header without ours; undefined when nothing is left of it. */
  strip(header: string): string | undefined;
  /** Whether a `Set-Cookie` value would set one of ours. */
  isOwn(setCookie: string): boolean;
}>;

export function ownCookies(cookieName: string): OwnCookies {
  const ownName = baseName(cookieName);
  const isOwnName = (name: string): boolean => {
    const candidate = baseName(name.trim());
    return candidate === ownName || candidate.startsWith(`${ownName}_`);
  };
  const nameOf = (pair: string): string => {
    const equals = pair.indexOf("=");
    return equals < 0 ? pair : pair.slice(0, equals);
  };
  return {
    strip(header) {
      if (!header.toLowerCase().includes(ownName)) return header;
      const foreignPairs = header.split(";").filter((pair) => !isOwnName(nameOf(pair)));
      const rest = foreignPairs.join(";").trim();
      return rest === "" ? undefined : rest;
    },
    // Some browsers keep `=_pomerium=x` as a cookie without a name, and send it back as `_pomerium=x`.
    isOwn: (setCookie) => isOwnName(nameOf((setCookie.split(";", 1)[0] ?? "").replace(/^[\s=]+/, ""))),
  };
}

function baseName(name: string): string {
  return name.toLowerCase().replace(/^__(?:host|secure)-/, "");
}
