/**
 * Log text: the formatting shared by the access log and the authorize log. Pure.
 *
 * Text from a caller is escaped as JSON, so a caller cannot forge a line. Credentials are not shown.
 */
import type { Brand } from "../../events/index.ts";
import { codeOf } from "../reply/write-reply.ts";

/** Text that is already JSON. */
export type JsonText = Brand<string, "JsonText">;

// biome-ignore lint/suspicious/noControlCharactersInRegex: what JSON escapes
const needsEscape = /["\\\u0000-\u001f\u007f-\uffff]/;

/** Formats text as a JSON string. Fast path: most text needs no escapes. */
export function quoteJson(text: string): JsonText {
  return (needsEscape.test(text) ? JSON.stringify(text) : `"${text}"`) as JsonText;
}

/** Returns a formatter for ISO 8601 timestamps. It formats the part down to the second once a second. */
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

/** Header names that upstream services use for their own credentials. */
const secretName = /token|secret|passw|credential|session|signature|cookie|authorization|api-?key|csrf|xsrf/;

/** Whether a header that the configuration names may be shown. */
export const showsHeader = (name: string): boolean => !secretHeaders.has(name);

export function shownHeaders(headers: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const shown: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (secretHeaders.has(name) || secretName.test(name)) continue;
    shown[name] = name === "referer" ? withoutQuery(value ?? "") : (value ?? "");
  }
  return shown;
}

/** The fields of an error for a line of the process log. */
export function describeError(error: unknown): Readonly<{ name?: string; code?: string; stack?: string | undefined }> {
  return error instanceof Error ? { name: error.name, code: codeOf(error), stack: error.stack } : {};
}
