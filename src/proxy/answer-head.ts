/** Answer head: what the lines of an upstream's answer say of the connection that they came on. Pure. */
import type { RawLines } from "./http1-parser.ts";
import { lookEveryMs } from "./upstream-http1-call.ts";

/** An upstream's own word (`Keep-Alive: timeout=`) is believed less a second, and up to this. */
const idleMsMax = 30_000;

/** @returns undefined where it is none, or anything else than one plain length */
export function bodyBytesOf(raw: RawLines): number | undefined {
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
export function idleMsOf(lines: RawLines): number | undefined {
  for (let i = 0; i < lines.length; i += 2) {
    if (lines[i]?.length !== 10 || lines[i]?.toLowerCase() !== "keep-alive") continue;
    const seconds = /(?:^|[\s,;])timeout=(\d{1,6})/i.exec(lines[i + 1] ?? "")?.[1];
    if (seconds === undefined) return undefined;
    return Math.max(lookEveryMs, Math.min(idleMsMax, Number(seconds) * 1_000 - 1_000));
  }
  return undefined;
}
