/**
 * Header names: which belong to one connection only, and which an upstream could mistake for a statement of the
 * proxy.
 *
 * Pure. Names are compared folded: servers may read `X_Pomerium-Claim.Email` as `X-Pomerium-Claim-Email`, and some
 * (lighttpd, older Apache) do so with every character that is not a letter or digit.
 */

/** They belong to one connection (RFC 9110 §7.6.1), in either direction. */
export const hopByHopNames: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authentication-info",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);

/** Its letters and digits in lowercase. */
export function foldName(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, "");
}

/** The names that a `Connection` header lists; undefined: it lists none. */
export function connectionHeaderNames(connection: string | undefined): ReadonlySet<string> | undefined {
  if (connection === undefined) return undefined;
  const value = connection.toLowerCase();
  if (value === "keep-alive" || value === "close" || value === "upgrade") return undefined;
  return new Set(value.split(",").map((name) => name.trim()));
}

/** Statements about the caller, the scheme or the path that only this proxy may make, by folded name. */
const proxyOnlyNames: ReadonlySet<string> = new Set([
  "forwarded",
  "xrealip",
  "xclientip",
  "xoriginalurl",
  "xoriginaluri",
  "xoriginalhost",
  "xoriginalmethod",
  "xrewriteurl",
  "xrequestid",
  "remoteuser",
  "httpremoteuser",
  "proxy", // becomes HTTP_PROXY in CGI, which programs take for their own setting (httpoxy, CVE-2016-5385)
]);

/** Whether no caller may send a header of this folded name to an upstream. */
export function isReservedName(folded: string): boolean {
  return (
    folded.startsWith("xpomerium") ||
    folded.startsWith("xforwarded") ||
    folded.startsWith("xenvoy") ||
    folded.startsWith("impersonate") ||
    proxyOnlyNames.has(folded)
  );
}

/** Text as header bytes: UTF-8 on the wire, without control characters that would end the line. */
export function headerValue(text: string): string {
  const oneLine = text.replace(controls, " ");
  return beyondAscii.test(oneLine) ? Buffer.from(oneLine, "utf8").toString("latin1") : oneLine;
}
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is replaced
const controls = /[\u0000-\u001f\u007f]/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the range of ASCII
const beyondAscii = /[^\u0000-\u007f]/;
