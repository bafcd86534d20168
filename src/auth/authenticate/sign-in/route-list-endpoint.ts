/**
 * Route list endpoint, `/.pomerium/api/v1/routes`: the routes that a person may use, for command lines and portals
 * (docs/pomerium-behaviour.md §2.2).
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type AuthDeps, headersOf, type RequestContexts, type ReservedContext, sendBehind } from "../context.ts";
import { readOnly } from "./common-endpoints.ts";
import { readRouteSignInStatus, withFreshLease } from "./signed-in.ts";

type SendUnauthenticated = (
  deps: AuthDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  context: ReservedContext,
) => FastifyReply;

export function registerRouteList(
  app: FastifyInstance,
  deps: AuthDeps,
  parts: Readonly<{ contexts: RequestContexts; sendUnauthenticated: SendUnauthenticated }>,
): void {
  const { routesOf } = deps;
  if (routesOf === null) return;
  readOnly(app, "/.pomerium/api/v1/routes", async (request, reply) => {
    const context = parts.contexts.of(request);
    const asking = await withFreshLease(deps, () => readRouteSignInStatus(deps, request, context));
    if (asking.type === "behind") return sendBehind(deps, request, reply, context);
    if (asking.type === "anonymous") return parts.sendUnauthenticated(deps, request, reply, context);
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(headersOf(request))) if (value !== undefined) headers[name] = value;
    const routes = routesOf({
      principal: asking.principal,
      headers,
      ip: context.ip,
      now: deps.clock.wall(),
      origin: new URL(context.origin),
    });
    return reply.header("cache-control", "no-store").send({ routes });
  });
}
