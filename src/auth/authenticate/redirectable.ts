/**
 * Redirectable: whether a caller without a session is a person who can be sent to sign in (docs/pomerium-behaviour.md
 * §6.6). Pure.
 *
 * A script (`Sec-Fetch-Mode` other than `navigate`), a program that is no browser, gRPC, and a caller that sent a credential in a
 * header or the query never are.
 */
import { acceptsRedirect, isBrowser } from "../reply/accept-header.ts";

export function isRedirectable(
  request: Readonly<{ method: string; headers: Readonly<Record<string, string | undefined>>; query: string }>,
): boolean {
  const { headers } = request;
  if (request.method !== "GET" && request.method !== "HEAD") return false;
  const mode = headers["sec-fetch-mode"];
  if (mode !== undefined && mode !== "navigate") return false;
  if (/^application\/grpc(?:$|[-+; ])/i.test(headers["content-type"] ?? "")) return false;
  if (headers["x-pomerium-authorization"] !== undefined) return false;
  if (/^(?:pomerium\s|bearer\s+pomerium-)/i.test(headers["authorization"] ?? "")) return false;
  if (/(?:^|&)pomerium_session=/.test(request.query)) return false;
  if (mode === undefined && !isBrowser({ accept: headers["accept"], userAgent: headers["user-agent"] })) return false;
  return acceptsRedirect(headers["accept"]);
}
