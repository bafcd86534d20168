/**
 * Cookie names: what the cookies beside the session's own are called.
 *
 * They bind a browser to what it began, so a sibling host (`evil.example.com` beside `app.example.com`) must not be
 * able to plant them. On https they carry the `__Host-` prefix, which browsers take only from the very host, on path
 * `/` (RFC 6265bis §4.1.3.2). On http (this machine alone) browsers refuse that prefix, so there they do not. Pure.
 */
export type OwnCookie =
  /** Route host: the browser that a callback must find again. */
  | "nonce"
  /** Route host: how many sign-ins in a row came back without a session that counts (sign-in-returns.ts). */
  | "returns"
  /** Authenticate host: the browser that began a sign-in at the identity provider. */
  | "csrf"
  /** Authenticate host: who is signed in there. */
  | "authenticate";

/** @param sessionCookie the configured `cookie_name` */
export function ownCookie(sessionCookie: string, kind: OwnCookie, origin: Readonly<{ protocol: string }>): string {
  const bare = sessionCookie.replace(/^__(?:Host|Secure)-/i, "");
  return `${origin.protocol === "https:" ? "__Host-" : ""}${bare}_${kind}`;
}
