/**
 * Credentials: the positions of a session handle in a request (docs/pomerium-behaviour.md §3.3), in this order: cookie,
 * header, query.
 *
 * The first position with a value wins. If that value is malformed, the credential is invalid and later positions are
 * not tried. Pure.
 */
import { CodedError } from "../../../events/index.ts";

export type CredentialSource = "cookie" | "header" | "query";
export type Credential = Readonly<{ token: string; source: CredentialSource }>;

/**
 * @param headers lowercase names; lines of one name joined
 * @param query the raw query without `?`
 */
export function readCredential(
  headers: Readonly<Record<string, string | undefined>>,
  query: string,
  cookieName: string,
): Credential | undefined {
  const cookie = cookieValue(headers["cookie"], cookieName);
  if (cookie !== undefined && cookie !== "") return { token: cookie, source: "cookie" };
  const own = headers["x-pomerium-authorization"];
  if (own !== undefined && own !== "") return { token: own, source: "header" };
  const authorization = headers["authorization"] ?? "";
  const scheme = /^(?:Pomerium (.*)|Bearer Pomerium-(.*))$/i.exec(authorization);
  if (scheme !== null) return { token: scheme[1] ?? scheme[2] ?? "", source: "header" };
  if (query.includes("pomerium_session=")) {
    const inQuery = new URLSearchParams(query).get("pomerium_session");
    if (inQuery !== null) return { token: inQuery, source: "query" };
  }
  return undefined;
}

/** The value of the first cookie of that name (RFC 6265 §5.4 order); undefined: none. */
export function cookieValue(header: string | undefined, name: string): string | undefined {
  if (header === undefined) return undefined;
  for (let start = 0; start < header.length; ) {
    const semicolon = header.indexOf(";", start);
    const end = semicolon < 0 ? header.length : semicolon;
    const equals = header.indexOf("=", start);
    if (equals > start && equals < end && header.slice(start, equals).trim() === name) {
      const value = header.slice(equals + 1, end).trim();
      return value.startsWith('"') && value.endsWith('"') && value.length >= 2 ? value.slice(1, -1) : value;
    }
    start = end + 1;
  }
  return undefined;
}

/** Names of the cookies in a header that start with a prefix, in the order sent. */
export function cookieNames(header: string | undefined, prefix: string): string[] {
  return (header ?? "")
    .split(";")
    .map((pair) => pair.slice(0, Math.max(0, pair.indexOf("="))).trim())
    .filter((name) => name.startsWith(prefix));
}

export type CookieOptions = Readonly<{
  domain: string | null;
  path: string;
  httpOnly: boolean;
  sameSite: "strict" | "lax" | "none";
  /** Seconds; 0 deletes the cookie. */
  maxAgeS: number;
}>;

const sameSiteWord = { strict: "Strict", lax: "Lax", none: "None" } as const;

/** Bound of a cookie's name and value together (bytes). Browsers and servers in front drop or refuse long cookies. */
export const cookieBytesMax = 1_024;

export class CookieTooLongError extends CodedError<"ERR_AUTH_COOKIE_TOO_LONG"> {
  override readonly code = "ERR_AUTH_COOKIE_TOO_LONG";
  constructor(name: string, bytes: number) {
    super(`the cookie ${name} takes ${bytes} bytes, more than ${cookieBytesMax}`);
  }
}

/**
 * One `Set-Cookie` value. Always Secure: browsers accept it on http://*.localhost too.
 * @throws CookieTooLongError
 */
export function setCookie(name: string, value: string, options: CookieOptions): string {
  const bytes = Buffer.byteLength(`${name}=${value}`);
  if (bytes > cookieBytesMax) throw new CookieTooLongError(name, bytes);
  return [
    `${name}=${value}`,
    `Path=${options.path}`,
    ...(options.domain === null || name.startsWith("__Host-") ? [] : [`Domain=${options.domain}`]),
    `Max-Age=${options.maxAgeS}`,
    ...(options.maxAgeS === 0 ? ["Expires=Thu, 01 Jan 1970 00:00:00 GMT"] : []),
    ...(options.httpOnly ? ["HttpOnly"] : []),
    "Secure",
    `SameSite=${sameSiteWord[options.sameSite]}`,
  ].join("; ");
}
