/**
 * Decision server: where other proxies and services ask for decisions (docs/decisions.md).
 *
 *   /forward-auth, /auth-request, /ext-authz/…   by the addresses of `decision_api.trusted_proxies`
 *   /access/v1/…                                 by the keys of `decision_api.keys`
 *
 * It knows nothing of policies and carries nothing. Whatever goes wrong here is an answer that permits nothing.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { createServer as createPlainServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { Counter, type Registry } from "prom-client";
import { matcherOfBlocks } from "../../auth/index.ts";
import type { DecisionApiConfig, HostPort } from "../../config/index.ts";
import { detailsOf } from "../visit.ts";
import { ReachedHandles } from "../who-asks.ts";
import { type Authzen, AuthzenError, createAuthzen } from "./authzen.ts";
import { createDecisionPoint, type DecisionPoint, type DecisionPorts, type Verdict } from "./decision-point.ts";
import { type GatewayAnswer, gatewayAnswer } from "./gateway-answer.ts";
import { type GatewayForm, readGatewayRequest } from "./gateway-request.ts";

export type DecisionServer = Readonly<{ address: HostPort; close(): Promise<void> }>;

const bodyBytesMax = 1_024 * 1_024;
/** The cookies of every service that a host has may be in it. */
const headerBytesMax = 64 * 1_024;
const requestIdPattern = /^[A-Za-z0-9._:+/=@-]{1,128}$/;

export async function startDecisionServer(
  options: Readonly<{
    listen: DecisionApiConfig;
    /** Of the configuration in force; the same object until it changes. */
    ports: () => DecisionPorts;
    registry: Registry;
    requestId: () => string;
  }>,
): Promise<DecisionServer> {
  const { listen, registry, requestId } = options;
  const matcher = matcherOfBlocks(listen.trustedProxies);
  if (matcher === undefined) throw new TypeError("decision_api.trusted_proxies");
  const isTrusted = listen.trustedProxies.length === 0 ? () => false : matcher.matches;
  const answered = new Counter({
    name: "cardea_served_decisions_total",
    help: "Decisions that other proxies and services asked for, by how they asked and what they were told.",
    labelNames: ["form", "result"],
    registers: [registry],
  });
  const made = new WeakMap<DecisionPorts, Served>();
  const reached = new ReachedHandles();
  const stopListening = options.ports().replica.onChange((change) => {
    if (change.rebuilt) reached.forget();
  });

  function served(): Served {
    const ports = options.ports();
    let known = made.get(ports);
    if (known === undefined) {
      const point = createDecisionPoint(ports, reached);
      known = { ports, point, authzen: createAuthzen(ports, point) };
      made.set(ports, known);
    }
    return known;
  }

  // --- proxies

  async function gateway(req: IncomingMessage, asked: Asked): Promise<GatewayAnswer> {
    const { form } = asked;
    const peer = req.socket.remoteAddress ?? "";
    const told = (verdict: Verdict, id: string, result: string = verdict.type): GatewayAnswer => {
      answered.inc({ form, result });
      const { render, explain, clock } = ports;
      return gatewayAnswer(verdict, {
        ...{ ...asked, requestId: id, now: clock.wall(), render, explain },
        details: (routeId) => detailsOf(ports, routeId),
        administrators: ports.config.administrators,
      });
    };
    const { ports, point } = served();
    const id = requestId();
    if (!isTrusted(peer)) {
      ports.logger.debug({ peer, form }, "asked for a decision, and is not among decision_api.trusted_proxies");
      return told({ type: "bad_request", reason: "untrusted-proxy" }, id, "untrusted");
    }
    const read = readGatewayRequest(
      { form, method: req.method ?? "", target: asked.target, rawHeaders: req.rawHeaders },
      isTrusted,
    );
    if (read.type === "refused") {
      ports.logger.warn({ peer, form, header: read.reason }, "a proxy did not say what it was asked for");
      return told({ type: "bad_request", reason: read.reason }, id);
    }
    const given = req.headers["x-request-id"];
    const own = typeof given === "string" && requestIdPattern.test(given) ? given : id;
    const verdict = await point.ask({
      described: read.described,
      ...{ whose: "credential", requestId: own, introduces: true, abandoned: () => req.socket.destroyed },
    });
    return told(verdict, own);
  }

  function answerGateway(req: IncomingMessage, res: ServerResponse, asked: Asked): void {
    req.resume(); // nobody looks at a body
    gateway(req, asked).then(
      (answer) => send(res, answer),
      (error: unknown) => {
        options.ports().logger.error({ error: String(error) }, "a decision could not be made");
        send(res, { status: 503, headers: [["retry-after", "1"]], body: "" });
      },
    );
  }

  // --- services

  const app = Fastify({
    logger: false,
    genReqId: requestId,
    bodyLimit: bodyBytesMax,
    forceCloseConnections: "idle", // a question that is cut off is a denial to somebody
    trustProxy: false,
    serverFactory(handler) {
      const both = (req: IncomingMessage, res: ServerResponse): void => {
        const asked = gatewayPath(req.url ?? "");
        if (asked === undefined) handler(req, res);
        else answerGateway(req, res, asked);
      };
      return listen.tls === null
        ? createPlainServer({ maxHeaderSize: headerBytesMax }, both)
        : createTlsServer(
            { maxHeaderSize: headerBytesMax, cert: listen.tls.cert, key: listen.tls.key, minVersion: "TLSv1.2" },
            both,
          );
    },
  });
  registerAuthzen(app, { keys: listen.keys, scheme: listen.tls === null ? "http" : "https", served, answered });
  await app.listen({ host: listen.address.host, port: listen.address.port });
  const { port } = app.server.address() as AddressInfo;
  return {
    address: { host: listen.address.host, port },
    async close() {
      stopListening();
      await app.close();
    },
  };
}

type Served = Readonly<{ ports: DecisionPorts; point: DecisionPoint; authzen: Authzen }>;
type Asked = Readonly<{ form: GatewayForm; redirects: boolean; target: string }>;

function gatewayPath(url: string): Asked | undefined {
  const question = url.indexOf("?");
  const path = question < 0 ? url : url.slice(0, question);
  if (path === "/auth-request") return { form: "auth-request", redirects: false, target: "" };
  if (path === "/forward-auth") {
    const redirects = new URLSearchParams(url.slice(path.length)).get("sign_in") === "redirect";
    return { form: "forward-auth", redirects, target: "" };
  }
  const prefix = "/ext-authz";
  return url.startsWith(`${prefix}/`)
    ? { form: "ext-authz", redirects: true, target: url.slice(prefix.length) }
    : undefined;
}

function send(res: ServerResponse, { status, headers, body }: GatewayAnswer): void {
  res.statusCode = status;
  for (const [name, value] of headers) res.setHeader(name, value);
  res.setHeader("content-length", Buffer.byteLength(body));
  res.end(body);
}

// --- AuthZEN

type AuthzenParts = Readonly<{
  keys: DecisionApiConfig["keys"];
  scheme: "http" | "https";
  served: () => Served;
  answered: Counter<"form" | "result">;
}>;

function registerAuthzen(app: FastifyInstance, { keys, scheme, served, answered }: AuthzenParts): void {
  const known = Object.values(keys).map(digest);
  app.addHook("onRequest", async (request, reply) => {
    const id = request.headers["x-request-id"];
    if (typeof id === "string" && requestIdPattern.test(id)) reply.header("x-request-id", id);
    reply.header("cache-control", "no-store");
    if (!request.url.startsWith("/access/")) return;
    const given = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? "")?.[1];
    if (given !== undefined && known.filter((key) => timingSafeEqual(key, digest(given))).length > 0) return;
    answered.inc({ form: "authzen", result: "unauthenticated" });
    return reply.code(401).header("www-authenticate", "Bearer").type("text/plain").send("a key is required\n");
  });
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    const status = error instanceof AuthzenError ? 400 : (error.statusCode ?? 500);
    if (status >= 500) served().ports.logger.error({ error: String(error) }, "a decision could not be made");
    return reply
      .code(status)
      .type("text/plain")
      .send(status >= 500 ? "internal error\n" : `${error.message}\n`);
  });
  app.setNotFoundHandler((_request, reply) => reply.code(404).type("text/plain").send("nothing is here\n"));

  app.get("/.well-known/authzen-configuration", (request) => {
    const base = `${scheme}://${request.headers.host ?? "localhost"}`;
    return {
      policy_decision_point: base,
      access_evaluation_endpoint: `${base}/access/v1/evaluation`,
      access_evaluations_endpoint: `${base}/access/v1/evaluations`,
      search_action_endpoint: `${base}/access/v1/search/action`,
      search_resource_endpoint: `${base}/access/v1/search/resource`,
    };
  });

  const idOf = (request: FastifyRequest, reply: FastifyReply): string =>
    String(reply.getHeader("x-request-id") ?? request.id);
  app.post("/access/v1/evaluation", async (request, reply) => {
    const answer = await served().authzen.evaluation(request.body, idOf(request, reply));
    answered.inc({ form: "authzen", result: String(answer.context["result"]) });
    if (answer.context["result"] === "unavailable")
      return reply
        .code(503)
        .header("retry-after", "1")
        .type("text/plain")
        .send(`${String(answer.context["reason"])}\n`);
    return answer;
  });
  app.post("/access/v1/evaluations", async (request, reply) => {
    const answer = await served().authzen.evaluations(request.body, idOf(request, reply));
    for (const { context } of "evaluations" in answer ? answer.evaluations : [answer])
      answered.inc({ form: "authzen", result: String(context["result"]) });
    return answer;
  });
  app.post("/access/v1/search/action", (request) => served().authzen.searchActions(request.body));
  app.post("/access/v1/search/resource", (request) => served().authzen.searchResources(request.body));
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
