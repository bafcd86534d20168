/**
 * Cookie names: names of the cookies other than the session cookie.
 *
 * These cookies bind a browser to the flow that it started, so a sibling host (`evil.example.com` beside
 * `app.example.com`) must not be able to set them. On https they have the `__Host-` prefix, which browsers accept only
 * from the host itself, on path `/` (RFC 6265bis §4.1.3.2). Browsers refuse the prefix on http (local machine only), so
 * the names have no prefix there. Pure.
 */
export type OwnCookie =
  /** Route host: identifies the browser that started a sign-in; the callback checks it. */
  | "nonce"
  /** Route host: number of consecutive sign-ins that returned without a valid session (sign-in-returns.ts). */
  | "returns"
  /** Authenticate host: identifies the browser that started a sign-in at the identity provider. */
  | "csrf"
  /** Authenticate host: the session there. */
  | "authenticate"
  /** Authenticate host: what the browser has just ended (ended-sessions.ts). */
  | "ended";

/** @param sessionCookie the configured `cookie_name` */
export function ownCookie(sessionCookie: string, kind: OwnCookie, origin: Readonly<{ protocol: string }>): string {
  const bare = sessionCookie.replace(/^__(?:Host|Secure)-/i, "");
  return `${origin.protocol === "https:" ? "__Host-" : ""}${bare}_${kind}`;
}
