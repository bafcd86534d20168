/**
 * Reply writer: writes local replies, and turns errors into them. The only place where an error becomes HTTP.
 *
 * An unknown error becomes a 500 that reveals nothing. Once a response has begun nothing is written into it: its
 * connection is destroyed, so that the caller cannot take half a response for a whole one.
 */
import type { Page, RenderPage, SignInRedirect } from "../../auth/index.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { HeaderLines } from "../message/header-lines.ts";
import { headerValue } from "../message/header-names.ts";
import type { Condition, LocalReply } from "./local-reply.ts";

export type ReplyContext = Readonly<{
  render: RenderPage;
  /** The headers that the configuration adds to every response. */
  responseHeaders: Readonly<Record<string, string>>;
  /** Whether to close the connection after this reply. */
  connection: "keep" | "close";
  /** Called only if the reply sends the caller to sign in. */
  beginSignIn: () => SignInRedirect;
}>;

/** @returns the length of the body in bytes */
export function writeLocalReply(downstream: Downstream, answer: LocalReply, context: ReplyContext): number {
  if (downstream.status !== 0 || downstream.closed) {
    downstream.destroy();
    return 0;
  }
  const { status, headers, body } = renderLocalReply(answer, context);
  const lines: string[] = [];
  for (const [name, value] of Object.entries(headers))
    for (const one of typeof value === "string" ? [value] : value) lines.push(name, one);
  downstream.writeHead(status, new HeaderLines(lines), null);
  downstream.end(body);
  return body.length;
}

export type RenderedReply = Readonly<{
  status: number;
  /** Lowercase names. */
  headers: Readonly<Record<string, string | string[]>>;
  body: Buffer;
}>;

export function renderLocalReply(answer: LocalReply, context: ReplyContext): RenderedReply {
  const headers: Record<string, string | string[]> = {};
  const put = (all: Readonly<Record<string, string>>): void => {
    for (const [name, value] of Object.entries(all)) headers[name.toLowerCase()] = headerValue(value);
  };
  put(context.responseHeaders);
  let html: string | null = null;
  const renderPage = (page: Page): void => {
    const rendered = context.render(page, answer.reader);
    put(rendered.headers);
    html = rendered.html;
  };
  if (answer.body.type === "html") renderPage(answer.body.page);
  else headers["content-type"] = answer.body.contentType;
  put(answer.headers);
  if (answer.signIn !== null) {
    const { location, setCookies, page } = context.beginSignIn();
    headers["set-cookie"] = [...setCookies];
    if (page !== null && answer.signIn === "keep-address") {
      renderPage(page);
    } else headers["location"] = location;
  }
  if (context.connection === "close") headers["connection"] = "close";
  const body = Buffer.from(html ?? (answer.body.type === "text" ? answer.body.text : ""), "utf8");
  headers["content-length"] = String(body.length);
  return { status: answer.status, headers, body };
}

/** Error codes of undici, Node and the proxy for a connection that could not be made. */
const unreachableCodes: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "ENOENT",
  "EACCES",
  "EAI_AGAIN",
  "ETIMEDOUT",
  "UND_ERR_CONNECT_TIMEOUT",
  "ERR_PROXY_UPSTREAM_CONNECT_TIMEOUT",
  "ERR_PROXY_UPSTREAM_HANDSHAKE",
]);
/** Error codes for a connection that broke, or carried an invalid response. */
const brokenCodes: ReadonlySet<string> = new Set([
  "ECONNRESET",
  "EPIPE",
  "UND_ERR_SOCKET",
  "UND_ERR_INFO",
  "UND_ERR_HEADERS_OVERFLOW",
  "UND_ERR_RES_CONTENT_LENGTH_MISMATCH",
  "UND_ERR_CLOSED",
  "UND_ERR_DESTROYED",
  "ERR_PROXY_UPSTREAM_CLOSED",
  "ERR_PROXY_UPSTREAM_PROTOCOL",
]);
const timeoutCodes: ReadonlySet<string> = new Set([
  "UND_ERR_HEADERS_TIMEOUT",
  "UND_ERR_BODY_TIMEOUT",
  "ERR_PROXY_TIMEOUT",
  "ERR_PROXY_UPSTREAM_IDLE",
]);

export function conditionOf(error: unknown): Condition {
  const code = codeOf(error);
  if (timeoutCodes.has(code)) return { type: "upstream-timeout" };
  const certificate = /^(?:CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|ERR_TLS_|ERR_SSL_|EPROTO|HOSTNAME_MISMATCH)/.test(
    code,
  );
  const nonsense = code.startsWith("HPE_") || (error instanceof Error && error.name === "HTTPParserError");
  if (unreachableCodes.has(code) || certificate) return { type: "upstream-unreachable" };
  if (brokenCodes.has(code) || nonsense) return { type: "upstream-broke" };
  return { type: "internal" };
}

export function codeOf(error: unknown): string {
  return typeof error === "object" && error !== null && "code" in error && typeof error.code === "string"
    ? error.code
    : "";
}
