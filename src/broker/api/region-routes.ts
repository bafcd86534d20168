/**
 * Region routes: what a regional broker serves about the revocations that its region accepts by itself: its store, for
 * the nodes and for the other brokers of the region, and receipts of the region.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { parseCommandId } from "../../events/index.ts";
import type { Databroker } from "../../replication/index.ts";
import { parseStorePosition, type StorePosition } from "../../replication/wire/index.ts";
import { parseCommandRequest } from "../commands/parse-command.ts";
import { ForbiddenError, mayRequest } from "../commands/permissions.ts";
import type { Broker } from "./broker-handle.ts";
import type { CallOrigin } from "./leader-router.ts";

const commandBytesMax = 1024 * 1024;
/** All that a broker may retain, twice. */
const exchangeBytesMax = 10 * 1024 * 1024;
const waitMsMax = 30_000;
const receiptMsMax = 120_000;

/** @param of.originOf throws unless the caller is authenticated @param of.send encodes an answer for the caller */
export function addRegionRoutes(
  app: FastifyInstance,
  of: Readonly<{
    broker: Broker;
    originOf: (request: FastifyRequest) => CallOrigin;
    send: (request: FastifyRequest, reply: FastifyReply, value: object) => FastifyReply;
  }>,
): void {
  const databroker = (request: FastifyRequest): Databroker => of.broker.databrokerFor(of.originOf(request));

  app.get("/v1/denials", async (request, reply) => {
    const { denials } = databroker(request);
    const query = fieldsOf(request.query);
    const over = new AbortController();
    reply.raw.once("close", () => over.abort());
    const options = { waitMs: wholeOf(query["wait"], waitMsMax), signal: over.signal };
    const answer = await (denials === undefined ? { type: "none" } : denials(afterOf(query), options));
    return of.send(request, reply, answer);
  });

  app.post("/v1/local-revocations", { bodyLimit: commandBytesMax }, async (request, reply) => {
    const asked = parseCommandRequest(request.body);
    const { revokeLocally } = databroker(request);
    if (revokeLocally === undefined) return of.send(request, reply.code(404), { error: "not-found" });
    return of.send(request, reply, await revokeLocally(asked));
  });

  app.get("/v1/local-receipts/:commandId", async (request, reply) => {
    const { localReceipt } = databroker(request);
    const commandId = parseCommandId(fieldsOf(request.params)["commandId"]);
    const timeoutMs = wholeOf(fieldsOf(request.query)["timeout"], receiptMsMax);
    const answer = await (localReceipt === undefined ? { type: "unknown" } : localReceipt(commandId, { timeoutMs }));
    return of.send(request, reply, answer);
  });

  app.post("/v1/region/revocations", { bodyLimit: exchangeBytesMax }, async (request, reply) => {
    const { role } = of.originOf(request).caller;
    if (!mayRequest(role, "exchangeRevocations")) throw new ForbiddenError(role, "exchangeRevocations");
    const { exchangeRevocations } = of.broker;
    if (exchangeRevocations === undefined) return of.send(request, reply.code(404), { error: "not-found" });
    return of.send(request, reply, await exchangeRevocations(request.body));
  });
}

function afterOf(query: Readonly<Record<string, unknown>>): StorePosition | null {
  const store = query["store"];
  return store === undefined
    ? null
    : parseStorePosition({ store, seq: wholeOf(query["after"], Number.MAX_SAFE_INTEGER) });
}

function wholeOf(value: unknown, max: number): number {
  return typeof value === "string" && /^\d{1,15}$/.test(value) ? Math.min(max, Number(value)) : 0;
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? Object.fromEntries(Object.entries(value)) : {};
}
