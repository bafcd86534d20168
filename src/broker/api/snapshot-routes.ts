/**
 * Snapshot routes: serve a booting node the newest manifest, its packed chunks, and the wrapped keys of the people in
 * it.
 *
 * Only for roles that may read the log. The content proves itself: manifests are signed, and chunks are named by their
 * hash; like every answer, it is sealed. A chunk is small enough to be read whole.
 */

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import {
  encode,
  InvalidIdError,
  noPosition,
  type Position,
  parseHash,
  parsePosition,
  parseUnixMs,
  parseUserId,
} from "../../events/index.ts";
import { keysPage, type SnapshotSupply } from "../../replication/snapshot/index.ts";
import { BrokerUnavailableError } from "../../replication/wire/index.ts";
import { ForbiddenError, mayRequest } from "../commands/permissions.ts";
import type { CallOrigin } from "./leader-router.ts";

const immutable = "private, max-age=86400, immutable";
/** Chunks in memory at once, over all callers. The others retry, or ask the next broker. */
const sendingMax = 16;

/**
 * @param of.supply null: this broker has no snapshots, as with a log in memory, which can be read whole
 * @param of.originOf throws unless the caller is authenticated
 */
export function addSnapshotRoutes(
  app: FastifyInstance,
  of: Readonly<{ supply: SnapshotSupply | null; originOf: (request: FastifyRequest) => CallOrigin }>,
): void {
  let sending = 0;

  function mayRead(request: FastifyRequest): void {
    const { role } = of.originOf(request).caller;
    if (!mayRequest(role, "read")) throw new ForbiddenError(role, "read");
  }

  function supplyFor(request: FastifyRequest): SnapshotSupply {
    mayRead(request);
    if (of.supply === null) throw new BrokerUnavailableError("this broker stores no snapshots");
    return of.supply;
  }

  app.get("/v1/snapshot", async (request, reply) => {
    mayRead(request);
    const manifest = of.supply === null ? null : await manifestFor(request.query, of.supply);
    const answer = reply.header("cache-control", "no-store");
    return manifest === null ? answer.code(204).send() : octets(answer, manifest);
  });

  app.get("/v1/snapshot/chunks/:hash", async (request, reply) => {
    const supply = supplyFor(request);
    const hash = parseHash(field(request.params, "hash"));
    if (sending >= sendingMax) throw new BrokerUnavailableError("this broker is sending too many chunks; try again");
    sending += 1;
    reply.raw.once("close", () => {
      sending -= 1;
    });
    const packed = await supply.chunk(hash);
    if (packed === undefined) return reply.code(404).header("cache-control", "no-store").send(Buffer.of());
    return octets(reply.header("cache-control", immutable), packed);
  });

  app.get("/v1/snapshot/events/:position", async (request, reply) => {
    const supply = supplyFor(request);
    const at = position(field(request.params, "position") ?? "");
    if (sending >= sendingMax) throw new BrokerUnavailableError("this broker is sending too many chunks; try again");
    sending += 1;
    reply.raw.once("close", () => {
      sending -= 1;
    });
    const packed = (await supply.eventsAt?.(at)) ?? null;
    const answer = reply.header("cache-control", "no-store");
    return packed === null ? answer.code(404).send(Buffer.of()) : octets(answer, packed);
  });

  app.get("/v1/keys", async (request, reply) => {
    const supply = supplyFor(request);
    const after = field(request.query, "after");
    const keys = await supply.keysAfter(after === undefined ? null : parseUserId(after), keysPage);
    return reply
      .header("content-type", "application/msgpack")
      .header("cache-control", "no-store")
      .send(Buffer.from(encode(keys)));
  });
}

/** The newest manifest, that after a position, or the newest one that is not later than a position or a time. */
async function manifestFor(query: unknown, supply: SnapshotSupply): Promise<Uint8Array | null> {
  const upTo = field(query, "up_to");
  if (upTo !== undefined) return (await supply.manifestUpTo?.({ position: position(upTo) })) ?? null;
  const recordedBy = field(query, "recorded_by");
  if (recordedBy !== undefined) return (await supply.manifestUpTo?.({ at: parseUnixMs(Number(recordedBy)) })) ?? null;
  const newerThan = field(query, "newer_than");
  return supply.manifest(newerThan === undefined ? noPosition : position(newerThan));
}

function octets(reply: FastifyReply, bytes: Uint8Array): FastifyReply {
  return reply.header("content-type", "application/octet-stream").send(Buffer.from(bytes));
}

function position(text: string): Position {
  if (!/^\d{1,16}$/.test(text)) throw new InvalidIdError("position");
  return parsePosition(Number(text));
}

function field(fields: unknown, name: string): string | undefined {
  const value: unknown =
    typeof fields === "object" && fields !== null && Object.hasOwn(fields, name)
      ? Reflect.get(fields, name)
      : undefined;
  return typeof value === "string" ? value : undefined;
}
