/**
 * Header names: which belong to one connection only, and which could be mistaken for a statement about who is asking.
 *
 * Pure. Names are compared folded: servers behind us may read `X_Pomerium-Claim.Email` as `X-Pomerium-Claim-Email`, and some
 * (lighttpd, older Apache) do so with every character that is no letter or digit.
 */

/** One connection's own (RFC 9110 §7.6.1), in either direction. */
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

/** Its letters and digits, in lowercase. */
export function foldName(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, "");
}

/** Names that the caller's hop declared its own; undefined when `Connection` says nothing of the kind. */
export function connectionHeaderNames(connection: string | undefined): ReadonlySet<string> | undefined {
  if (connection === undefined) return undefined;
  const value = connection.toLowerCase();
  if (value === "keep-alive" || value === "close" || value === "upgrade") return undefined;
  return new Set(value.split(",").map((name) => name.trim()));
}

/** Statements about the caller, the scheme or the path that only a trusted proxy may make: ours, or none. */
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

/** True of what no caller may tell an upstream through us, by a folded name. */
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
