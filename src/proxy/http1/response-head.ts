/** Response head: what the head of an upstream's response says about the connection that it arrived on. Pure. */

import type { ResponseLines } from "../message/upstream-call.ts";
import { announcesBody } from "./request-head.ts";
import { checkEveryMs } from "./upstream-call.ts";

/** The upstream's `Keep-Alive: timeout=` is used, less a second, up to this. */
const idleHintMsMax = 30_000;

export type ResponseHead = Readonly<{
  status: number;
  lines: ResponseLines;
  /** The connection may carry another response. */
  keepAlive: boolean;
  /** How long it may then be idle; undefined: the upstream does not say. */
  idleMs: number | undefined;
  /** Length of the body; undefined: the parser reports its end. */
  bodyBytes: number | undefined;
}>;

/** @param method the request's */
export function parseResponseHead(
  status: number,
  lines: ResponseLines,
  keepAlive: boolean,
  method: string,
): ResponseHead {
  const { raw } = lines;
  const withoutBody = method === "HEAD" || status === 204 || status === 304;
  return {
    status,
    lines,
    // After a 204 that announces a body it is ambiguous where the next response begins (RFC 9112 §6.3).
    keepAlive: keepAlive && !(status === 204 && announcesBody(raw)),
    idleMs: idleMsOf(raw),
    bodyBytes: withoutBody ? undefined : bodyBytesOf(raw),
  };
}

/** @returns undefined: 0, or anything but one plain length */
function bodyBytesOf(raw: readonly string[]): number | undefined {
  let length: string | undefined;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? "";
    if (name.length === 17 && name.toLowerCase() === "transfer-encoding") return undefined;
    if (name.length !== 14 || name.toLowerCase() !== "content-length") continue;
    if (length !== undefined) return undefined;
    length = raw[i + 1];
  }
  return length !== undefined && /^[1-9]\d{0,14}$/.test(length) ? Number(length) : undefined;
}

/** @returns undefined: the upstream does not say */
function idleMsOf(lines: readonly string[]): number | undefined {
  for (let i = 0; i < lines.length; i += 2) {
    if (lines[i]?.length !== 10 || lines[i]?.toLowerCase() !== "keep-alive") continue;
    const seconds = /(?:^|[\s,;])timeout=(\d{1,6})/i.exec(lines[i + 1] ?? "")?.[1];
    if (seconds === undefined) return undefined;
    return Math.max(checkEveryMs, Math.min(idleHintMsMax, Number(seconds) * 1_000 - 1_000));
  }
  return undefined;
}
