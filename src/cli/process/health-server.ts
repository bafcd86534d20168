/**
 * Health server: `/healthz`, `/readyz` and `/metrics` on a separate listener, loopback by default.
 *
 * A password or client certificate protects only `/metrics`: supervisors check health without credentials.
 */
import { constants, createHash, timingSafeEqual } from "node:crypto";
import { createServer as createPlainServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { Readable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { TLSSocket } from "node:tls";
import Fastify, { type FastifyInstance, type FastifyRequest } from "fastify";
import type { Registry } from "prom-client";
import type { Config, HostPort } from "../../config/index.ts";
import { withoutJsonSchemas } from "../../replication/runtime/index.ts";
import { type ProcessReadiness, readyForAll } from "./readiness.ts";

export async function startHealthServer(options: {
  listen: HostPort;
  registry: Registry;
  readiness: () => ProcessReadiness | Promise<ProcessReadiness>;
  /** Updates the gauges; called before each read. */
  collect: () => void;
  /** More metrics in Prometheus' text format, produced while they are sent. */
  moreMetrics: () => Iterable<string> | AsyncIterable<string>;
  access: Config["metrics"];
}): Promise<FastifyInstance> {
  const { tls, clientCa, basicAuth } = options.access;
  const app = Fastify({
    logger: false,
    schemaController: withoutJsonSchemas,
    forceCloseConnections: true,
    serverFactory: (handler) =>
      tls === null
        ? createPlainServer(handler)
        : createTlsServer(
            {
              cert: tls.cert,
              key: tls.key,
              minVersion: "TLSv1.2",
              ...(clientCa === null ? {} : clientCertificateOptions(clientCa)),
            },
            handler,
          ),
  });
  app.get("/healthz", (_request, reply) => reply.type("text/plain; charset=utf-8").send("OK\n"));
  app.get("/readyz", async (request, reply) => {
    const { routes } = request.query as Readonly<{ routes?: unknown }>;
    if (routes !== undefined && routes !== "all")
      return reply.code(400).send({ ready: false, reasons: ["routes: the only value is all"] });
    const found = await options.readiness();
    const readiness = routes === "all" ? readyForAll(found) : found;
    return reply
      .code(readiness.ready ? 200 : 503)
      .header("cache-control", "no-store")
      .send(readiness);
  });
  app.get("/metrics", async (request, reply) => {
    if (clientCa !== null && !hasClientCertificate(request))
      return reply.code(403).type("text/plain").send("a client certificate is required\n");
    if (basicAuth !== null && !hasPassword(request, basicAuth))
      return reply
        .code(401)
        .header("www-authenticate", 'Basic realm="metrics"')
        .type("text/plain")
        .send("a user name and password are required\n");
    options.collect();
    const first = await options.registry.metrics();
    return reply
      .type(options.registry.contentType)
      .send(Readable.from(yieldBetweenPieces(`${first}\n`, options.moreMetrics())));
  });
  // Each worker has its own listener, although workers share all others.
  await app.listen({ host: options.listen.host, port: options.listen.port, exclusive: true });
  return app;
}

/** Yields to the event loop between pieces, so that a scrape of thousands of routes does not delay requests. */
async function* yieldBetweenPieces(
  first: string,
  more: Iterable<string> | AsyncIterable<string>,
): AsyncGenerator<string> {
  yield first;
  for await (const piece of more) {
    yield piece;
    await setImmediate();
  }
}

/** No session tickets: a resumed session would reuse an old verdict, for example on a certificate that has expired. */
function clientCertificateOptions(clientCa: string) {
  return { ca: clientCa, requestCert: true, rejectUnauthorized: false, secureOptions: constants.SSL_OP_NO_TICKET };
}

function hasClientCertificate({ raw }: FastifyRequest): boolean {
  return raw.socket instanceof TLSSocket && raw.socket.authorized && raw.socket.getPeerX509Certificate() !== undefined;
}

function hasPassword({ headers }: FastifyRequest, expected: string): boolean {
  const given = /^Basic +([A-Za-z0-9+/_-]+=*)$/i.exec(headers.authorization ?? "")?.[1] ?? "";
  const digest = (text: string | Buffer): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(Buffer.from(given, "base64")), digest(expected));
}
