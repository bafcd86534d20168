/**
 * Gateway: forwards requests for the authenticate host to the authenticate service in another process.
 *
 * - It serves only that host; the databroker API is never behind it.
 * - It verifies the service's certificate, retries nothing, and sets `X-Forwarded-*` itself.
 * - While the service does not answer, requests fail at once (authenticate-client.ts).
 */
import httpProxy from "@fastify/http-proxy";
import Fastify from "fastify";
import { bestMatch, type RenderPage, type ReservedContext, type ReservedPathHandler } from "../../auth/index.ts";
import type { Config } from "../../config/index.ts";
import type { Clock } from "../../replication/index.ts";
import { withoutJsonSchemas } from "../../replication/runtime/index.ts";
import { foldName, hopByHopNames, isReservedName } from "../message/header-names.ts";
import { localReplyFor } from "../reply/local-reply.ts";
import { defaultReplyFormat } from "../reply/reply-format.ts";
import { conditionOf, renderLocalReply } from "../reply/write-reply.ts";
import { connectAuthenticate } from "./authenticate-client.ts";

export type Gateway = Readonly<{ handle: ReservedPathHandler; close(): Promise<void> }>;

export async function createGateway(options: {
  upstream: URL;
  config: Pick<Config, "certificateAuthority" | "setResponseHeaders">;
  clock: Clock;
  render: RenderPage;
}): Promise<Gateway> {
  const { upstream, config } = options;
  const service = connectAuthenticate(upstream, options);
  const app = Fastify({
    logger: false,
    schemaController: withoutJsonSchemas,
    trustProxy: false,
    forceCloseConnections: true,
    bodyLimit: 1_048_576,
  });
  const contexts = new WeakMap<object, ReservedContext>();

  app.addHook("onRequest", async (request, reply) => {
    const path = request.raw.url?.split("?", 1)[0] ?? "/";
    if (path === "/v1" || path.startsWith("/v1/")) return reply.code(404).send({ error: "Not found" });
    const problem = service.problem();
    if (problem !== null) throw problem;
    return undefined;
  });
  app.setErrorHandler((error, request, reply) => {
    reply.hijack();
    const context = contexts.get(request.raw);
    const accept = request.headers.accept ?? "text/html";
    const found = conditionOf(error instanceof Error && error.cause !== undefined ? error.cause : error);
    const condition = found.type === "internal" ? ({ type: "upstream-broke" } as const) : found;
    const answer = localReplyFor(
      condition,
      {
        ...defaultReplyFormat,
        method: request.method,
        prefers: bestMatch(accept, ["text/html", "application/json"]) === "text/html" ? "html" : "json",
      },
      {
        requestId: context?.requestId ?? "",
        at: options.clock.wall(),
        host: context?.hostname ?? null,
        url: null,
        explain: null,
        user: null,
        details: [],
      },
    );
    if (reply.raw.headersSent) {
      reply.raw.destroy();
      return;
    }
    const { status, headers, body } = renderLocalReply(answer, {
      render: options.render,
      responseHeaders: config.setResponseHeaders,
      connection: "close",
      beginSignIn: () => ({ location: "/", setCookies: [], page: null }),
    });
    reply.raw.writeHead(status, headers).end(request.method === "HEAD" ? undefined : body);
  });
  await app.register(httpProxy, {
    upstream: upstream.origin,
    prefix: "/",
    disableCache: true,
    disableRequestLogging: true,
    undici: service.dispatcher as never, // its types know options only; a dispatcher is taken as it is
    replyOptions: {
      retryDelay: () => null,
      rewriteRequestHeaders(request, headers) {
        const context = contexts.get(request.raw);
        const kept = Object.entries(headers).filter(([name]) => !hopByHopNames.has(name) && !isForgeable(name));
        return {
          ...Object.fromEntries(kept),
          host: request.raw.headers.host,
          "x-forwarded-for": context?.ip ?? "",
          "x-forwarded-proto": context?.origin.startsWith("http:") === true ? "http" : "https",
          "x-forwarded-host": request.raw.headers.host,
          "x-request-id": context?.requestId ?? "",
        };
      },
      rewriteHeaders: (headers) =>
        Object.fromEntries(Object.entries(headers).filter(([name]) => !hopByHopNames.has(name.toLowerCase()))),
    },
  });
  await app.ready();
  return {
    handle(req, res, context) {
      contexts.set(req, context);
      app.routing(req, res);
    },
    async close() {
      await app.close();
      await service.close();
    },
  };
}

/** Whether only a proxy may set the header. The caller may send the service's own credential header. */
function isForgeable(name: string): boolean {
  const folded = foldName(name);
  return isReservedName(folded) && folded !== "xpomeriumauthorization";
}
