/**
 * Sign-in unavailable: the answer in place of a redirect to the identity provider, while no session can be recorded
 * (sign-in-gate.ts).
 */
import type { FastifyReply, FastifyRequest } from "fastify";
import { type ErrorPage, handlerErrorJson } from "../../reply/page.ts";
import { type AuthDeps, type ReservedContext, sendPage } from "../context.ts";
import { parameter } from "./signed-url.ts";

/** The words and the wait of a sign-in that is refused because it could not be recorded. */
export const signInUnavailable = {
  title: "You can't sign in right now",
  description:
    "New sign-ins can't be recorded at the moment, so you were not sent to your identity provider. People who are already signed in can continue.",
  retryAfterS: 5,
} as const;

/** A path of the same host that continues with a sign-in that the browser already has, and starts none. */
export function existingSignInPath(target: string): string {
  const query = new URLSearchParams({ [parameter.redirectUri]: target, [parameter.account]: "existing" });
  return `/.pomerium/sign_in?${query}`;
}

/**
 * Answers 503 in place of a redirect to the identity provider.
 * @param of.existing the path that continues with an existing sign-in; null: the caller has none, or wants another
 */
export function sendSignInUnavailable(
  deps: AuthDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  of: Readonly<{ context: ReservedContext; retryUrl: string | null; existing: string | null }>,
): FastifyReply {
  const { hostname: host, requestId } = of.context;
  const page: ErrorPage = {
    type: "error",
    status: 503,
    condition: "sign-in-paused",
    ...signInUnavailable,
    reasons: [],
    explain: null,
    at: deps.clock.wall(),
    host,
    requestId,
    retryUrl: of.retryUrl,
    existingSignInUrl: of.existing,
  };
  reply.header("retry-after", String(signInUnavailable.retryAfterS));
  if (request.headers.accept === "application/json")
    return reply
      .code(503)
      .header("cache-control", "no-store")
      .header("x-pomerium-intercepted-response", "true")
      .type("application/json")
      .send(handlerErrorJson(page));
  // The address of this page may hold a signed URL: links on it must not send it as a referrer.
  const { context } = of;
  return sendPage({ deps, request, reply, context }, 503, page, { "referrer-policy": "no-referrer" });
}
