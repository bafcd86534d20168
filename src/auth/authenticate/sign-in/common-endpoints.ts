/**
 * Common endpoints: paths that every host answers without a session (docs/pomerium-behaviour.md §2.3), and shared error
 * responses.
 */
import { hash } from "node:crypto";
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod } from "fastify";
import { bestMatch } from "../../reply/accept-header.ts";
import { signInChallenge, signInHint } from "../../reply/sign-in-hint.ts";
import { type AuthDeps, headersOf, type RequestContexts, type ReservedContext, sendProblem } from "../context.ts";
import { readCredential } from "../credentials/credentials.ts";

export const backchannelLogoutPath = "/.pomerium/backchannel_logout";

/** Adds a GET and HEAD route; its handler must not change or start anything. */
export function readOnly(app: FastifyInstance, url: string, handler: RouteHandlerMethod): void {
  app.route({ method: ["GET", "HEAD"], url, handler });
}

export function registerCommon(app: FastifyInstance, deps: AuthDeps, contexts: RequestContexts): void {
  app.addHook("onSend", async (_request, reply, payload) => {
    if (!reply.hasHeader("cache-control")) reply.header("cache-control", "no-store");
    return payload;
  });

  const { withCaller } = deps;
  if (withCaller !== undefined) {
    // Reading a body loses the context that `handle` began.
    // A request that a page makes within the process has none of its own, and keeps the one of the page.
    app.addHook("preHandler", (request, _reply, done) => {
      const context = contexts.find(request);
      if (context === undefined) done();
      else withCaller(context.ip, done);
    });
  }

  for (const path of ["/ping", "/healthz"]) {
    readOnly(app, path, (_request, reply) => reply.type("text/plain; charset=utf-8").send("OK\n"));
  }

  for (const path of ["/.well-known/pomerium", "/.well-known/pomerium/"]) {
    readOnly(app, path, (request, reply) => {
      const { origin } = contexts.of(request);
      return reply.header("access-control-allow-origin", "*").send({
        issuer: `${origin}/`,
        authentication_callback_endpoint: new URL("/oauth2/callback", deps.settings.authenticateUrl).href,
        jwks_uri: `${origin}/.well-known/pomerium/jwks.json`,
        frontchannel_logout_uri: `${origin}/.pomerium/sign_out`,
        backchannel_logout_uri: new URL(backchannelLogoutPath, deps.settings.authenticateUrl).href,
      });
    });
  }

  const jwks = JSON.stringify(deps.jwks);
  const etag = `"${hash("sha256", jwks, "hex").slice(0, 16)}"`;
  readOnly(app, "/.well-known/pomerium/jwks.json", (request, reply) => {
    reply.header("access-control-allow-origin", "*").header("cache-control", "max-age=60").header("etag", etag);
    if (holds(request.headers["if-none-match"], etag)) return reply.code(304).send();
    return reply.type("application/json").send(jwks);
  });

  app.setNotFoundHandler((request, reply) => {
    const path = (request.raw.url ?? "/").split("?", 1)[0] ?? "/";
    const allowed = ["GET", "HEAD", "POST"].filter((method) => app.hasRoute({ method: method as "GET", url: path }));
    const wrongMethod = allowed.length > 0 && !allowed.includes(request.method);
    if (wrongMethod) reply.header("allow", allowed.join(", "));
    return sendProblem(deps, request, reply, contexts.of(request), {
      status: wrongMethod ? 405 : 404,
      condition: wrongMethod ? "handler-method" : "page-not-found",
      title: wrongMethod ? "Method not allowed" : "Not found",
      description: wrongMethod
        ? `This address accepts only ${allowed.join(", ")}.`
        : "There is no page at this address.",
    });
  });

  app.setErrorHandler((error: unknown, request, reply) => {
    const status = statusOf(error);
    if (status >= 500) {
      const what = error instanceof Error ? { name: error.name, message: error.message } : {};
      deps.log.warn(
        { error: what, requestId: contexts.of(request).requestId },
        "request handler failed; answered with an error page",
      );
    }
    return sendProblem(deps, request, reply, contexts.of(request), {
      status,
      condition: status >= 500 ? "handler-failed" : "handler-unreadable",
      title: status >= 500 ? "Something went wrong" : "Bad request",
      description:
        status >= 500 ? "An internal error occurred. The request was not forwarded." : "The request could not be read.",
    });
  });
}

/** 401 for a caller that is not redirected. Programs get sign-in instructions as text, unless they prefer JSON. */
export function sendUnauthorized(request: FastifyRequest, reply: FastifyReply, context: ReservedContext): FastifyReply {
  const headers = headersOf(request);
  reply
    .code(401)
    .header("cache-control", "no-store")
    .header("www-authenticate", signInChallenge)
    .header("x-pomerium-intercepted-response", "true");
  const wantsText =
    headers["sec-fetch-mode"] === undefined &&
    bestMatch(headers["accept"] ?? "*/*", ["text/plain", "application/json"]) === "text/plain";
  if (!wantsText) return reply.send({ error: "Unauthenticated", request_id: context.requestId });
  const query = (request.raw.url ?? "").split("?", 2)[1] ?? "";
  const credential = readCredential(headers, query, "") === undefined ? "none" : "refused";
  return reply.type("text/plain; charset=utf-8").send(signInHint(context.origin, credential));
}

/** Whether `If-None-Match` matches: weak comparison over a list, or `*` (RFC 9110 §13.1.2). */
function holds(ifNoneMatch: string | undefined, etag: string): boolean {
  return (ifNoneMatch ?? "").split(",").some((tag) => tag.trim() === "*" || tag.trim().replace(/^W\//, "") === etag);
}

function statusOf(error: unknown): number {
  const status =
    typeof error === "object" && error !== null && "statusCode" in error && typeof error.statusCode === "number"
      ? error.statusCode
      : 500;
  return status >= 400 && status <= 599 ? status : 500;
}
