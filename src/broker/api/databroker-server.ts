/**
 * Databroker server: the HTTP API of one broker, for nodes, services and other brokers.
 *
 * Every call but the two health checks needs a service token, and the token's role decides what it may request. Bodies
 * and query strings have personal data and ids: they are never logged, and an error reveals only its kind. The server
 * bounds bodies, time and connections; the broker answers.
 */
import { randomBytes } from "node:crypto";
import type { AddressInfo } from "node:net";
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import {
  CodedError,
  decode,
  InvalidIdError,
  isSignalReceiverName,
  MalformedEventError,
  parseBrokerId,
  parseCommandId,
  parseConfigHash,
  parseLink,
  parseSessionId,
  unreachable,
} from "../../events/index.ts";
import type { Clock, Databroker, Logger, ReceiptTarget, ReceiptWait } from "../../replication/index.ts";
import { type HistoryRequest, LogUnavailableError, parseHistoryRequest } from "../../replication/log/index.ts";
import { withoutJsonSchemas } from "../../replication/runtime/index.ts";
import type { SnapshotSupply } from "../../replication/snapshot/index.ts";
import {
  BrokerUnavailableError,
  formatLeaseRefusal,
  formatUnavailable,
  homeRetryAfterMs,
  MalformedMessageError,
  notHomeBody,
} from "../../replication/wire/index.ts";
import { MalformedCommandError, parseCommandRequest } from "../commands/parse-command.ts";
import { ForbiddenError, mayRequest, refuseCommand } from "../commands/permissions.ts";
import { LeaseMessageRejectedError } from "../core/lease-message-error.ts";
import type { GossipMessage, Presence } from "../core/messages.ts";
import { pageEventsMax, pageWaitMsMax } from "../state/page-server.ts";
import type { Broker } from "./broker-handle.ts";
import { guardCalls } from "./call-guard.ts";
import { gossipOf } from "./gossip-routes.ts";
import { createReceiptLines, jsonLinesType } from "./receipt-lines.ts";
import { addRegionRoutes } from "./region-routes.ts";
import { UnauthenticatedError } from "./service-token.ts";
import { addSnapshotRoutes } from "./snapshot-routes.ts";
import { encodeBody, formatFor, jsonType, msgpackType } from "./wire-bodies.ts";

export type DatabrokerServerOptions = Readonly<{
  broker: Broker;
  cluster: string;
  secret: Uint8Array;
  previousSecret?: Uint8Array | null;
  listen: Readonly<{ host: string; port: number }>;
  /** PEM; null: plain HTTP. */
  tls?: Readonly<{ cert: string; key: string }> | null;
  clock: Clock;
  logger: Logger;
  /** Null: this broker has no snapshots, and nodes read the log from its beginning. */
  snapshots?: SnapshotSupply | null;
}>;

export type DatabrokerServer = Readonly<{
  url: string;
  port: number;
  /** Requests answered, by status class (2xx, 4xx, 5xx); calls refused as not authentic; calls refused as replayed. */
  metrics: () => Readonly<Record<string, number>>;
  /** Accepts no new requests, waits briefly for those in flight, and ends. */
  close: () => Promise<void>;
}>;

const commandBytesMax = 1024 * 1024;
const historyBytesMax = 64 * 1_024;
/** An envelope of a node: a certificate of at most 2 KB and ids. It may wait with 40,000 others. */
const leaseBytesMax = 8 * 1024;
const presenceBytesMax = 64 * 1024;
const receiptMsMax = 120_000;
/** Longer than any wait that a request may name. */
const requestMsMax = 150_000;
const keepAliveMs = 10_000;
const closeMsMax = 2_000;

/** The request is malformed. */
class BadRequestError extends CodedError<"ERR_BROKER_BAD_REQUEST"> {
  override readonly code = "ERR_BROKER_BAD_REQUEST";
}

export async function startDatabrokerServer(options: DatabrokerServerOptions): Promise<DatabrokerServer> {
  const { broker, cluster, clock, secret } = options;
  const answered = { requests2xx: 0, requests4xx: 0, requests5xx: 0 };
  const app = createApp(options.tls ?? null, (request, body) => guard.checkBody(request, body));
  const guard = guardCalls(app, {
    cluster,
    brokerId: broker.brokerId,
    secret,
    clock,
    random: (bytes: number) => randomBytes(bytes),
    previousSecret: options.previousSecret ?? null,
  });
  const streamReceipt = createReceiptLines(clock.monotonic);

  /** The broker in the caller's role. */
  function databroker(request: FastifyRequest): Databroker {
    return broker.databrokerFor(guard.originOf(request));
  }

  app.post("/v1/commands", { bodyLimit: commandBytesMax }, async (request, reply) => {
    const callOrigin = guard.originOf(request);
    const command = parseCommandRequest(request.body);
    const message = refuseCommand(callOrigin.caller.role, command);
    if (message !== undefined) {
      const { commandId } = command;
      return send(request, reply.code(403), { type: "refused", commandId, code: "forbidden", message });
    }
    const result = await broker.databrokerFor(callOrigin).submit(command);
    return send(request, result.type === "unavailable" ? unavailable(reply, result.retryAfterMs) : reply, result);
  });

  app.get("/v1/events", async (request, reply) => {
    const port = databroker(request);
    const query = queryOf(request);
    const over = new AbortController();
    reply.raw.once("close", () => over.abort());
    const outcome = await port.read(parseLink(query("after")), {
      limit: whole(query("limit") ?? "1000", { min: 1, max: pageEventsMax }),
      waitMs: whole(query("wait") ?? "0", { min: 0, max: pageWaitMsMax }),
      signal: over.signal,
    });
    switch (outcome.type) {
      case "page":
        return send(request, reply, outcome);
      case "forked":
        return send(request, reply.code(409), outcome);
      case "truncated":
        return send(request, reply.code(410), outcome);
      default:
        return unreachable(outcome);
    }
  });

  app.post("/v1/history", { bodyLimit: historyBytesMax }, async (request, reply) => {
    const port = databroker(request);
    return send(request, reply, await port.history(historyAsked(request.body)));
  });

  app.post("/v1/leases", { bodyLimit: leaseBytesMax }, async (request, reply) => {
    const port = databroker(request);
    if (!(request.body instanceof Uint8Array)) throw new BadRequestError("expected an envelope");
    const grant = await port.lease(request.body);
    if (grant === null) return reply.code(204).send();
    return reply.header("content-type", "application/octet-stream").send(grant);
  });

  app.get("/v1/receipts/:target", async (request, reply) => {
    const port = databroker(request);
    const query = queryOf(request);
    const region = query("region");
    const seen = query("seen");
    const target = targetOf(parameter(request, "target"));
    const options = {
      wait: waitOf(query("wait") ?? "all"),
      timeoutMs: whole(query("timeout") ?? "10000", { min: 0, max: receiptMsMax }),
      ...(region === undefined ? {} : { region }),
    };
    if (request.headers.accept?.includes(jsonLinesType) === true)
      return streamReceipt(reply, port, { target, asked: options });
    return send(request, reply, await port.receipt(target, { ...options, ...(seen === undefined ? {} : { seen }) }));
  });

  app.post("/v1/brokers", { bodyLimit: presenceBytesMax }, async (request, reply) => {
    const { role, name } = guard.originOf(request).caller;
    if (!mayRequest(role, "announce")) throw new ForbiddenError(role, "announce");
    return send(request, reply, broker.receiveGossip(presenceOf(request.body, name), tidingsOf(request.body)));
  });

  app.get("/v1/status", async (request, reply) => {
    const { nodes } = request.query as Readonly<{ nodes?: unknown }>;
    const status = databroker(request).status(nodes === "omitted" ? { nodes } : undefined);
    return send(request, reply, await status);
  });

  app.get("/v1/configurations", async (request, reply) =>
    send(request, reply, { configurations: await databroker(request).configurations() }),
  );
  app.get("/v1/configurations/:hash", async (request, reply) => {
    const port = databroker(request);
    const stored = await port.configuration(parseConfigHash(parameter(request, "hash")));
    return stored === undefined ? send(request, reply.code(404), { error: "not-found" }) : send(request, reply, stored);
  });
  app.get("/v1/configurations/:hash/held", async (request, reply) => {
    const port = databroker(request);
    return send(request, reply, { held: await port.holdsConfiguration(parseConfigHash(parameter(request, "hash"))) });
  });

  app.get("/v1/sessions/:id/tokens", async (request, reply) => {
    const port = databroker(request);
    const tokens = await port.tokens(parseSessionId(parameter(request, "id")));
    return tokens === undefined ? send(request, reply.code(404), { error: "not-found" }) : send(request, reply, tokens);
  });

  app.get("/v1/signals/:receiver", async (request, reply) => {
    const receiver = parameter(request, "receiver");
    const found = isSignalReceiverName(receiver) ? await databroker(request).storedSignalStream(receiver) : undefined;
    return found === undefined ? send(request, reply.code(404), { error: "not-found" }) : send(request, reply, found);
  });

  addRegionRoutes(app, { broker, originOf: guard.originOf, send });
  addSnapshotRoutes(app, { supply: options.snapshots ?? null, originOf: guard.originOf });
  app.post("/v1/snapshot", async (request, reply) =>
    send(request, reply, { position: await databroker(request).takeSnapshot() }),
  );

  app.get("/healthz", async (_request, reply) => reply.type("text/plain").send("OK"));
  app.get("/readyz", async (_request, reply) => {
    const { ready, reasons } = broker.ready();
    return reply
      .code(ready ? 200 : 503)
      .type("text/plain")
      .send(ready ? "OK" : reasons.join("\n"));
  });

  app.setNotFoundHandler(async (_request, reply) => json(reply.code(404), { error: "not-found" }));
  app.setErrorHandler(async (error, _request, reply) => refuse(error, reply, options.logger));
  app.addHook("onResponse", async (_request, reply) => {
    if (reply.statusCode < 400) answered.requests2xx += 1;
    else if (reply.statusCode < 500) answered.requests4xx += 1;
    else answered.requests5xx += 1;
  });

  await app.listen({ host: options.listen.host, port: options.listen.port }); // Fastify changes the options object
  const { port } = app.server.address() as AddressInfo;
  const host = options.listen.host.includes(":") ? `[${options.listen.host}]` : options.listen.host;
  return {
    url: `${options.tls ? "https" : "http"}://${host}:${port}`,
    port,
    metrics: () => ({ ...answered, callsRefused: guard.refused(), callsReplayed: guard.replayed() }),
    async close() {
      const impatient = setTimeout(() => app.server.closeAllConnections(), closeMsMax);
      try {
        await app.close();
      } finally {
        clearTimeout(impatient);
      }
    },
  };
}

function createApp(
  tls: Readonly<{ cert: string; key: string }> | null,
  checkBody: (request: FastifyRequest, body: Uint8Array) => void,
): FastifyInstance {
  const bounds = {
    logger: false,
    schemaController: withoutJsonSchemas,
    bodyLimit: commandBytesMax,
    requestTimeout: requestMsMax,
    connectionTimeout: requestMsMax,
    keepAliveTimeout: keepAliveMs,
    routerOptions: { maxParamLength: 500 },
    forceCloseConnections: "idle",
    return503OnClosing: true,
  } as const;
  const app = (
    tls === null ? fastify(bounds) : fastify({ ...bounds, https: { ...tls, minVersion: "TLSv1.2" } })
  ) as FastifyInstance;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    "application/octet-stream",
    { parseAs: "buffer" },
    async (request: FastifyRequest, body: Buffer) => {
      checkBody(request, body);
      return body;
    },
  );
  app.addContentTypeParser(msgpackType, { parseAs: "buffer" }, async (request: FastifyRequest, body: Buffer) => {
    checkBody(request, body);
    return decode(body);
  });
  app.addContentTypeParser(jsonType, { parseAs: "buffer" }, async (request: FastifyRequest, body: Buffer) => {
    checkBody(request, body);
    try {
      return JSON.parse(body.toString("utf8"));
    } catch (cause) {
      throw new BadRequestError("not JSON", { cause });
    }
  });
  return app;
}

function send(request: FastifyRequest, reply: FastifyReply, value: unknown): FastifyReply {
  const format = formatFor(request.headers);
  return reply
    .header("content-type", format === "json" ? jsonType : msgpackType)
    .header("cache-control", "no-store")
    .send(Buffer.from(encodeBody(value, format)));
}

function json(reply: FastifyReply, value: unknown): FastifyReply {
  return reply.header("content-type", jsonType).header("cache-control", "no-store").send(JSON.stringify(value));
}

function unavailable(reply: FastifyReply, retryAfterMs: number): FastifyReply {
  return reply.code(503).header("retry-after", String(Math.max(1, Math.ceil(retryAfterMs / 1_000))));
}

/** Turns errors into answers. An unknown error becomes a 500 that reveals nothing. */
function refuse(error: unknown, reply: FastifyReply, logger: Logger): FastifyReply {
  if (error instanceof UnauthenticatedError) {
    const { reason } = error;
    const body = { error: "unauthenticated", ...(reason === null ? {} : { reason }) };
    return json(reply.code(401).header("www-authenticate", "Bearer"), body);
  }
  if (error instanceof ForbiddenError) return json(reply.code(403), { error: "forbidden" });
  if (error instanceof LeaseMessageRejectedError)
    return json(reply.code(403), { error: "no-lease", ...formatLeaseRefusal(error.refusal) });
  if (error instanceof BrokerUnavailableError || error instanceof LogUnavailableError) {
    if (error instanceof BrokerUnavailableError && error.reason === "not-home")
      return json(unavailable(reply, 1_000), { error: "unavailable", ...notHomeBody });
    const why = error instanceof BrokerUnavailableError ? formatUnavailable(error) : {};
    return json(unavailable(reply, why.code === undefined ? 1_000 : homeRetryAfterMs), {
      error: "unavailable",
      ...why,
    });
  }
  if (
    error instanceof MalformedCommandError ||
    error instanceof MalformedEventError ||
    error instanceof MalformedMessageError
  ) {
    return json(reply.code(400), { error: "malformed" });
  }
  if (error instanceof BadRequestError || error instanceof InvalidIdError) {
    return json(reply.code(400), { error: "bad-request", reason: error.message });
  }
  const status = statusOf(error);
  if (status !== undefined) return json(reply.code(status), { error: status === 413 ? "too-large" : "bad-request" });
  logger.error({ err: error }, "a request to the databroker failed");
  return json(reply.code(500), { error: "internal" });
}

/** The status of an error that Fastify raised itself. */
function statusOf(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("statusCode" in error) || typeof error.statusCode !== "number") return undefined;
  return error.statusCode >= 400 && error.statusCode < 500 ? error.statusCode : undefined;
}

function queryOf(request: FastifyRequest): (name: string) => string | undefined {
  return (name) => {
    const value = fieldOf(request.query, name);
    if (value === undefined || typeof value === "string") return value;
    throw new BadRequestError(`${name} is named twice`);
  };
}

function parameter(request: FastifyRequest, name: string): string {
  const value = fieldOf(request.params, name);
  return typeof value === "string" ? value : "";
}

function fieldOf(fields: unknown, name: string): unknown {
  return typeof fields === "object" && fields !== null && Object.hasOwn(fields, name)
    ? Reflect.get(fields, name)
    : undefined;
}

function tidingsOf(body: unknown): GossipMessage {
  try {
    return gossipOf(body);
  } catch (cause) {
    throw new BadRequestError("expected an epoch and addresses", { cause });
  }
}

/** A broker speaks for itself alone. */
function presenceOf(body: unknown, name: string): Presence {
  const [version, reads] = [fieldOf(body, "version"), fieldOf(body, "reads")];
  if (typeof version !== "string" || version.length > 200 || typeof reads !== "number" || !Number.isSafeInteger(reads))
    throw new BadRequestError("expected a version and a level");
  if (fieldOf(body, "brokerId") !== name) throw new BadRequestError("a broker may report only its own presence");
  return { brokerId: parseBrokerId(name), version, reads };
}

function whole(text: string, { min, max }: Readonly<{ min: number; max: number }>): number {
  if (!/^\d{1,9}$/.test(text)) throw new BadRequestError("expected a number");
  return Math.max(min, Math.min(max, Number(text)));
}

function historyAsked(body: unknown): HistoryRequest {
  const parsed = parseHistoryRequest(body);
  if (parsed === undefined) throw new BadRequestError("expected streams, upTo and depth");
  return parsed;
}

function waitOf(text: string): ReceiptWait {
  if (text === "all" || text === "region" || text === "none") return text;
  throw new BadRequestError("wait must be all, region or none");
}

function targetOf(text: string): ReceiptTarget {
  const colon = text.indexOf(":");
  const rest = text.slice(colon + 1);
  switch (text.slice(0, Math.max(0, colon))) {
    case "command":
      return { type: "command", commandId: parseCommandId(rest) };
    case "link":
      return { type: "link", link: parseLink(rest) };
    default:
      throw new BadRequestError("the target must be command:<id> or link:<link>");
  }
}
