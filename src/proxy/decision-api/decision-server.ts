/**
 * Decision server: makes decisions for other proxies and services (docs/decisions.md).
 *
 *   /forward-auth, /auth-request, /ext-authz/…   by the proxies that `decision_api` names
 *   /access/v1/…                                 by the keys of `decision_api.keys`
 *   gRPC, on an address of its own               ext-authz-server.ts
 *
 * - It evaluates no policy itself and forwards nothing.
 * - Every failure is a reply that permits nothing.
 * - The permitted clients follow the configuration in force. The addresses are those with which the process started.
 */
import { constants } from "node:crypto";
import { createServer as createPlainServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { setImmediate } from "node:timers/promises";
import { TLSSocket } from "node:tls";
import Fastify from "fastify";
import { Counter, type Registry } from "prom-client";
import type { DecisionApiConfig, HostPort } from "../../config/index.ts";
import { withoutJsonSchemas } from "../../replication/runtime/index.ts";
import type { ApiDecision } from "./api-decision.ts";
import { registerAuthzen } from "./authzen-http.ts";
import { createDecisionServices, type DecisionServices, requestIdPattern } from "./decision-service.ts";
import { type ExternalAuthReply, externalAuthReplyOf } from "./external-auth-reply.ts";
import { type ExternalAuthForm, parseExternalAuth } from "./external-auth-request.ts";
import type { DecisionApiDeps } from "./request-decider.ts";

export type DecisionServer = Readonly<{
  /** Null: not configured. */
  address: HostPort | null;
  grpcAddress: HostPort | null;
  close(): Promise<void>;
}>;

const bodyBytesMax = 1_024 * 1_024;
/** Bytes of request headers; enough for the cookies of every service on a host. */
const headerBytesMax = 64 * 1_024;

export async function startDecisionServer(
  options: Readonly<{
    listen: DecisionApiConfig;
    /** The dependencies of the configuration in force; the same object until it changes. */
    deps: () => DecisionApiDeps;
    registry: Registry;
    requestId: () => string;
  }>,
): Promise<DecisionServer> {
  const { listen } = options;
  const answered = new Counter({
    name: "cardea_served_decisions_total",
    help: "Decisions for other proxies and services, by interface and result.",
    labelNames: ["form", "result"],
    registers: [options.registry],
  });
  const serving = createDecisionServices({ ...options, answered, pause: () => setImmediate() });
  const http = listen.address === null ? null : await startHttp(listen, listen.address, serving);
  const grpc = listen.grpcAddress === null ? null : await startGrpc(listen, listen.grpcAddress, serving);
  return {
    address: http?.address ?? null,
    grpcAddress: grpc?.address ?? null,
    async close() {
      serving.close();
      await Promise.all([http?.close(), grpc?.close()]);
    },
  };
}

/** Loads the gRPC libraries only if they are used. */
async function startGrpc(listen: DecisionApiConfig, address: HostPort, serving: DecisionServices) {
  const { startExtAuthz } = await import("./ext-authz-server.ts");
  return startExtAuthz(listen, address, serving);
}

async function startHttp(
  { tls, clientCa }: DecisionApiConfig,
  address: HostPort,
  serving: DecisionServices,
): Promise<Readonly<{ address: HostPort; close(): Promise<void> }>> {
  const app = Fastify({
    logger: false,
    schemaController: withoutJsonSchemas,
    genReqId: serving.requestId,
    bodyLimit: bodyBytesMax,
    forceCloseConnections: "idle", // a query that is cut off becomes a denial
    trustProxy: false,
    serverFactory(handler) {
      const both = (req: IncomingMessage, res: ServerResponse): void => {
        const path = gatewayPath(req.url ?? "");
        if (path === undefined) handler(req, res);
        else answerGateway(serving, req, res, path);
      };
      if (tls === null) return createPlainServer({ maxHeaderSize: headerBytesMax }, both);
      // Clients with a key have no certificate, so the handshake does not require one. A resumed session would reuse an
      // old verification result.
      const certificates =
        clientCa === null
          ? {}
          : {
              ca: clientCa,
              requestCert: true,
              rejectUnauthorized: false,
              secureOptions: constants.SSL_OP_NO_TICKET,
            };
      const { cert, key } = tls;
      return createTlsServer(
        { maxHeaderSize: headerBytesMax, cert, key, minVersion: "TLSv1.2", ...certificates },
        both,
      );
    },
  });
  registerAuthzen(app, serving, tls === null ? "http" : "https");
  await app.listen({ host: address.host, port: address.port });
  const { port } = app.server.address() as AddressInfo;
  return { address: { host: address.host, port }, close: () => app.close() };
}

type Asked = Readonly<{ form: ExternalAuthForm; redirects: boolean; target: string }>;

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

async function gateway(serving: DecisionServices, req: IncomingMessage, asked: Asked): Promise<ExternalAuthReply> {
  const { form } = asked;
  const peer = req.socket.remoteAddress ?? "";
  const { deps, decider, access } = serving.current();
  const id = serving.requestId();
  const reply = (verdict: ApiDecision, requestId: string, result: string = verdict.type): ExternalAuthReply => {
    serving.decisions.inc({ form, result });
    return externalAuthReplyOf(verdict, { ...asked, requestId, now: deps.clock.wall(), deps });
  };
  if (!hasCertificate(req) && !access.isTrusted(peer)) {
    deps.logger.debug(
      { peer, form },
      "refused a decision query: the peer is not one of the proxies that decision_api names",
    );
    return reply({ type: "bad_request", reason: "untrusted-proxy" }, id, "untrusted");
  }
  const read = parseExternalAuth(
    { form, method: req.method ?? "", target: asked.target, rawHeaders: req.rawHeaders },
    { isTrusted: access.isTrusted, isRouteHost: decider.isRouteHost, listenPort: req.socket.localPort ?? 0 },
  );
  if (read.type === "refused") {
    deps.logger.warn(
      { peer, form, header: read.reason },
      "a proxy omitted a fact about the request or sent contradictory ones; denied",
    );
    decider.recordRefused({ requestId: id, reason: read.reason });
    return reply({ type: "bad_request", reason: read.reason }, id);
  }
  const given = req.headers["x-request-id"];
  const own = typeof given === "string" && requestIdPattern.test(given) ? given : id;
  const verdict = await decider.decide({
    described: read.described,
    subject: "credential",
    requestId: own,
    withIdentity: true,
    isAbandoned: () => req.socket.destroyed,
  });
  return reply(verdict, own);
}

/** Whether the client has a certificate of `client_ca`, the only authority here. */
function hasCertificate({ socket }: IncomingMessage): boolean {
  return socket instanceof TLSSocket && socket.authorized;
}

function answerGateway(serving: DecisionServices, req: IncomingMessage, res: ServerResponse, asked: Asked): void {
  req.resume(); // bodies are ignored
  gateway(serving, req, asked).then(
    (answer) => send(res, answer),
    (error: unknown) => {
      serving.current().deps.logger.error({ error: String(error) }, "could not make a decision; answered 503");
      send(res, { status: 503, headers: [["retry-after", "1"]], body: "" });
    },
  );
}

function send(res: ServerResponse, { status, headers, body }: ExternalAuthReply): void {
  res.statusCode = status;
  for (const [name, value] of headers) res.setHeader(name, value);
  res.setHeader("content-length", Buffer.byteLength(body));
  res.end(body);
}
