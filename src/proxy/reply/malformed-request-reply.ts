/**
 * Malformed request reply: the whole response, as text for the wire, to an HTTP/1.1 request that could not be parsed.
 *
 * Pure. The caller's preferred format is unknown. Heads that are too large and requests that are too slow come from
 * browsers, which get a page; everything else comes from programs, which get JSON.
 */
import { STATUS_CODES } from "node:http";
import type { RenderPage } from "../../auth/index.ts";
import type { UnixMs } from "../../events/index.ts";
import { localReplyFor } from "./local-reply.ts";
import { defaultReplyFormat, type ReplyFormat } from "./reply-format.ts";
import { renderLocalReply } from "./write-reply.ts";

export function malformedRequestReply(
  status: number,
  facts: Readonly<{ requestId: string; render: RenderPage; now: number }>,
): string {
  const format: ReplyFormat =
    status === 431 || status === 408 ? { ...defaultReplyFormat, prefers: "html" } : defaultReplyFormat;
  const answer = localReplyFor({ type: "bad-request", status }, format, {
    requestId: facts.requestId,
    at: facts.now as UnixMs,
    host: null,
    url: null,
    explain: null,
    user: null,
    details: [],
  });
  const { headers, body } = renderLocalReply(answer, {
    render: facts.render,
    responseHeaders: {},
    connection: "close",
    beginSignIn() {
      throw new TypeError("a malformed request never leads to sign-in");
    },
  });
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${String(value)}\r\n`);
  return `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Unknown"}\r\n${lines.join("")}\r\n${body.toString("latin1")}`;
}
