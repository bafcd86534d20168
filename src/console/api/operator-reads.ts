/** Operator reads: sessions, users and groups from this node's projection; nodes and receipts from the brokers. */
import { type CommandId, parseCommandId, parseGroupId, parseLink } from "../../events/index.ts";
import { type ReceiptTarget, regionLags } from "../../replication/index.ts";
import { lastKnownAfter, noReceiptWithoutHome } from "./last-known.ts";
import { describeMemberships } from "./operator-provisioning.ts";
import {
  badRequest,
  isKnownRegion,
  nameIn,
  type OperatorApiDeps,
  type RegisterRoute,
  requireOperator,
  sendHomeUnreachable,
  tryParse,
  unknownRegion,
} from "./operator-route.ts";
import { listSchema, receiptSchema, sessionsSchema, timeoutMsOf } from "./operator-schemas.ts";
import { describeGroup, describeSession, describeUser, findUsers, isRecord } from "./operator-views.ts";
import { createReceiptStream, eventStreamType } from "./receipt-stream.ts";
import { scopeOfGroups } from "./roles/scope-of-groups.ts";

export function registerReads(route: RegisterRoute, deps: OperatorApiDeps): void {
  const { replica } = deps;
  const streamReceipt = createReceiptStream(deps);
  route("GET /sessions", async (request, reply) => {
    const query = sessionsSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const { status, user } = query.data;
    const users = user === undefined ? undefined : new Set(findUsers(replica, user, "any"));
    const found = limited(replica.projection.sessions(), query.data.limit, (session) => {
      if (users !== undefined && (session.userId === null || !users.has(session.userId))) return undefined;
      const described = describeSession(replica, session, { now: deps.now(), idle: deps.idle });
      return status === "all" || described.status === status ? described : undefined;
    });
    return { sessions: found.items, more: found.more, applied: replica.applied };
  });
  route("GET /users", async (request, reply) => {
    const query = listSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const found = limited(replica.projection.users(), query.data.limit, (user) =>
      isRecord(replica, user.userId)
        ? undefined
        : describeUser(replica, user, { now: deps.now(), idle: deps.idle, known: deps.providers }),
    );
    return { users: found.items, more: found.more, applied: replica.applied };
  });
  route("GET /groups", async (request, reply) => {
    const query = listSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const found = limited(replica.projection.groups(), query.data.limit, (group) =>
      describeGroup(replica, group, deps.now()),
    );
    return { groups: found.items, more: found.more, applied: replica.applied };
  });
  route("GET /users/:user", async (request, reply) => {
    const name = nameIn((request.params as { user: string }).user);
    const found = findUsers(replica, name, "any");
    const users = found.map((id) => replica.projection.user(id)).filter((user) => user !== undefined);
    if (users.length === 0) return reply.code(404).send({ error: `no user matches ${JSON.stringify(name)}` });
    return {
      users: users.map((user) => ({
        ...describeUser(replica, user, { now: deps.now(), idle: deps.idle, known: deps.providers }),
        memberships: user.status === "erased" ? [] : describeMemberships(replica, user.userId),
      })),
      applied: replica.applied,
    };
  });
  route("GET /groups/:group", async (request, reply, { scope }) => {
    const groupId = tryParse(parseGroupId, nameIn((request.params as { group: string }).group));
    const group = groupId === undefined ? undefined : replica.projection.group(groupId);
    if (groupId === undefined || group === undefined || !scopeOfGroups(deps, scope)(groupId))
      return reply.code(404).send({ error: "there is no such group" });
    return { group: describeGroup(replica, group, deps.now()), applied: replica.applied };
  });
  route("GET /nodes", async () => {
    const status = await deps.databroker.status();
    const signInProviders = deps.signInProviders?.() ?? [];
    return { ...status, regions: status.regions ?? regionLags(status.nodes), signInProviders };
  });
  route("GET /receipts/:target", async (request, reply, caller) => {
    const target = parseTarget((request.params as { target: string }).target);
    const query = receiptSchema.safeParse(request.query);
    if (target === undefined)
      return reply.code(400).send({ error: "name the receipt as command:<uuid> or link:<epoch.position.hash>" });
    if (!query.success) return badRequest(reply, query.error);
    const { wait, region = deps.region } = query.data;
    if (query.data.region !== undefined && !(await isKnownRegion(deps, region)))
      return reply.code(404).send({ error: unknownRegion(region) });
    const options = { wait, timeoutMs: timeoutMsOf(query.data), region };
    try {
      return request.headers.accept?.includes(eventStreamType) === true
        ? await streamReceipt(request, reply, caller, { target, options })
        : await deps.databroker.receipt(target, options);
    } catch (error) {
      const lastKnown = await lastKnownAfter(error, deps);
      if (lastKnown === null) throw error;
      if ((await requireOperator(deps, request, reply)) === undefined) return reply;
      return sendHomeUnreachable(reply, { error: noReceiptWithoutHome, lastKnown });
    }
  });
}

/** `more`: the limit left out others. */
function limited<T, View>(
  all: Iterable<T>,
  limit: number,
  view: (one: T) => View | undefined,
): Readonly<{ items: readonly View[]; more: boolean }> {
  const items: View[] = [];
  for (const one of all) {
    const seen = view(one);
    if (seen === undefined) continue;
    if (items.length >= limit) return { items, more: true };
    items.push(seen);
  }
  return { items, more: false };
}

function parseTarget(text: string): ReceiptTarget | undefined {
  const colon = text.indexOf(":");
  const [kind, value] = [text.slice(0, colon), text.slice(colon + 1)];
  if (kind === "command") {
    const commandId: CommandId | undefined = tryParse(parseCommandId, value);
    return commandId === undefined ? undefined : { type: "command", commandId };
  }
  if (kind !== "link") return undefined;
  const link = tryParse(parseLink, value);
  return link === undefined ? undefined : { type: "link", link };
}
