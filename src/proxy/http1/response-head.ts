/** Answer head: what the head of an upstream's answer says of the connection that it came on. Pure. */

import type { ResponseLines } from "../message/upstream-call.ts";
import { announcesBody } from "./request-head.ts";
import { checkEveryMs } from "./upstream-call.ts";

/** An upstream's own word (`Keep-Alive: timeout=`) is believed less a second, and up to this. */
const idleHintMsMax = 30_000;

export type ResponseHead = Readonly<{
  status: number;
  lines: ResponseLines;
  /** The connection may go on behind the answer. */
  keepAlive: boolean;
  /** How long it is kept idle then; undefined: its upstream does not say. */
  idleMs: number | undefined;
  /** Of a body whose length is known; undefined: where the answer ends is the parser's to tell. */
  bodyBytes: number | undefined;
}>;

/** @param method of the request */
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
    // A 204 that speaks of a body leaves open where the next answer begins (RFC 9112 §6.3).
    keepAlive: keepAlive && !(status === 204 && announcesBody(raw)),
    idleMs: idleMsOf(raw),
    bodyBytes: withoutBody ? undefined : bodyBytesOf(raw),
  };
}

/** @returns undefined where it is none, or anything else than one plain length */
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

/** @returns undefined when the upstream does not say */
function idleMsOf(lines: readonly string[]): number | undefined {
  for (let i = 0; i < lines.length; i += 2) {
    if (lines[i]?.length !== 10 || lines[i]?.toLowerCase() !== "keep-alive") continue;
    const seconds = /(?:^|[\s,;])timeout=(\d{1,6})/i.exec(lines[i + 1] ?? "")?.[1];
    if (seconds === undefined) return undefined;
    return Math.max(checkEveryMs, Math.min(idleHintMsMax, Number(seconds) * 1_000 - 1_000));
  }
  return undefined;
}
