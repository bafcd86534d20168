/**
 * Log text: what lines of the access log and of the log of decisions are made of.
 *
 * Pure. Texts of a caller are escaped as JSON, so that nobody writes a line of their own; credentials are not shown.
 */
import type { Brand } from "../../events/index.ts";
import { codeOf } from "../reply/write-reply.ts";

/** Text that is JSON already. */
export type JsonText = Brand<string, "JsonText">;

// biome-ignore lint/suspicious/noControlCharactersInRegex: what JSON escapes
const needsEscape = /["\\\u0000-\u001f\u007f-\uffff]/;

/** As JSON. Hardly any text needs more than its quotes. */
export function quote(text: string): JsonText {
  return (needsEscape.test(text) ? JSON.stringify(text) : `"${text}"`) as JsonText;
}

/** ISO 8601; the part down to the second is made once a second. */
export function createTimestampFormatter(): (at: number) => string {
  let second = Number.NaN;
  let prefix = "";
  return (at) => {
    const now = Math.floor(at / 1_000);
    if (now !== second) {
      second = now;
      prefix = new Date(now * 1_000).toISOString().slice(0, -4);
    }
    return `${prefix}${String(Math.floor(at) - now * 1_000).padStart(3, "0")}Z`;
  };
}

export function withoutQuery(url: string): string {
  return url.split(/[?#]/, 1)[0] ?? "";
}

const secretHeaders: ReadonlySet<string> = new Set([
  "authorization",
  "cookie",
  "proxy-authorization",
  "sec-websocket-key",
  "sec-websocket-protocol", // of Kubernetes and others, a token stands among them
  "x-pomerium-authorization",
  "x-pomerium-jwt-assertion",
  "x-pomerium-jwt-assertion-for",
]);

/** Names that services behind us give to credentials of their own. */
const secretName = /token|secret|passw|credential|session|signature|cookie|authorization|api-?key|csrf|xsrf/;

/** Whether a header that is asked for by name may be shown. */
export const showsHeader = (name: string): boolean => !secretHeaders.has(name);

export function shownHeaders(headers: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const shown: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (secretHeaders.has(name) || secretName.test(name)) continue;
    shown[name] = name === "referer" ? withoutQuery(value ?? "") : (value ?? "");
  }
  return shown;
}

/** An error as a line of the process's own log shows it. */
export function describeError(error: unknown): Readonly<{ name?: string; code?: string; stack?: string | undefined }> {
  return error instanceof Error ? { name: error.name, code: codeOf(error), stack: error.stack } : {};
}
