/** List routes: the lists of sessions, people and groups, and one of each. */
import type { FastifyReply } from "fastify";
import { parseGroupId, parseSessionId } from "../../../events/index.ts";
import { describeMemberships } from "../operator-provisioning.ts";
import { badRequest, nameIn, type OperatorApiDeps, type RegisterRoute, tryParse } from "../operator-route.ts";
import { describeSession, describeUser, findUsers } from "../operator-views.ts";
import { isInScope } from "../roles/operator-roles.ts";
import { scopeOfGroups } from "../roles/scope-of-groups.ts";
import { describeListed, GroupIndex, listGroups, listMembers } from "./group-list.ts";
import { groupsCsv, membersCsv, peopleCsv, sessionsCsv } from "./list-columns.ts";
import type { CsvList, CsvWriter } from "./list-csv.ts";
import type { BadCursor, ListPage } from "./list-page.ts";
import { groupMembersSchema, groupSchema, groupsSchema, sessionsSchema, usersSchema } from "./list-schemas.ts";
import { withOrigins, withoutOrigins } from "./member-origin.ts";
import { PeopleListIndex } from "./people-index.ts";
import { listPeople } from "./people-list.ts";
import { SessionListIndex } from "./session-index.ts";
import { listSessions } from "./session-list.ts";
import { startTurns } from "./turns.ts";

export function registerLists(route: RegisterRoute, deps: OperatorApiDeps, sendCsv: CsvWriter): void {
  const { replica } = deps;
  const people = new PeopleListIndex(deps);
  const sessions = new SessionListIndex(deps);
  const groups = new GroupIndex(deps);

  route("GET /sessions", async (request, reply, caller) => {
    const query = sessionsSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    if (query.data.format === "csv") {
      const page = pageOf(query.data, (asked) => listSessions(deps, { people, sessions }, asked));
      return await sendCsv({ request, reply, caller }, { ...sessionsCsv, page }, query.data.after);
    }
    const page = await listSessions(deps, { people, sessions }, query.data);
    return sendPage(reply, page, (items) => ({ sessions: items, applied: replica.applied }));
  });

  route("GET /sessions/:id", async (request, reply) => {
    const id = tryParse(parseSessionId, (request.params as { id: string }).id);
    const session = id === undefined ? undefined : replica.projection.session(id);
    if (session === undefined)
      return reply.code(404).send({ error: "there is no such session: it may have been swept" });
    return {
      session: describeSession(replica, session, { now: deps.now(), idle: deps.idle, known: deps.providers }),
      applied: replica.applied,
    };
  });

  route("GET /users", async (request, reply, caller) => {
    const query = usersSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    if (query.data.format === "csv") {
      const page = pageOf(query.data, (asked) => listPeople(deps, people, asked));
      return await sendCsv({ request, reply, caller }, { ...peopleCsv, page }, query.data.after);
    }
    const page = await listPeople(deps, people, query.data);
    return sendPage(reply, page, (items) => ({ users: items, applied: replica.applied }));
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

  route("GET /groups", async (request, reply, caller) => {
    const query = groupsSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const isVisible = caller.scope === null ? null : scopeOfGroups(deps, caller.scope);
    if (query.data.format === "csv") {
      const counted = { ...query.data, members: "count" } as const;
      const page = pageOf(counted, (asked) => listGroups(deps, groups, asked, isVisible));
      return await sendCsv({ request, reply, caller }, { ...groupsCsv, page }, query.data.after);
    }
    const page = await listGroups(deps, groups, query.data, isVisible);
    return sendPage(reply, page, (items) => ({ groups: items, applied: replica.applied }));
  });

  const groupIn = (params: unknown) => {
    const groupId = tryParse(parseGroupId, nameIn((params as { group: string }).group));
    return groupId === undefined ? undefined : replica.projection.group(groupId);
  };

  route("GET /groups/:group", async (request, reply, { scope }) => {
    const query = groupSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const group = groupIn(request.params);
    if (group === undefined || !scopeOfGroups(deps, scope)(group.groupId)) return unknownGroup(reply);
    const described = await describeListed(deps, group, {
      withMembers: query.data.members === "all",
      turns: startTurns(deps),
    });
    const routes = (deps.routePolicies?.() ?? [])
      .filter(({ policy, routeGroups }) => policy.groupsNamed.includes(group.groupId) && isInScope(scope, routeGroups))
      .map(({ from }) => from);
    return { group: { ...described, routes: [...new Set(routes)] }, applied: replica.applied };
  });

  route("GET /groups/:group/members", async (request, reply, caller) => {
    const query = groupMembersSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const group = groupIn(request.params);
    const { scope } = caller;
    if (group === undefined || !scopeOfGroups(deps, scope)(group.groupId)) return unknownGroup(reply);
    if (query.data.format === "csv") {
      const page = pageOf(query.data, (asked) => listMembers(deps, people, group.groupId, asked));
      return await sendCsv({ request, reply, caller }, { ...membersCsv, page }, query.data.after);
    }
    const page = await listMembers(deps, people, group.groupId, query.data);
    if ("badCursor" in page) return sendPage(reply, page, () => ({}));
    // Who changed a membership is an act, which a limited caller does not see.
    const items = scope === null ? await withOrigins(deps, group.groupId, page.items) : withoutOrigins(page.items);
    return sendPage(reply, { ...page, items }, (members) => ({ members, applied: replica.applied }));
  });
}

/** The rows of one page of a file. */
const csvPageRows = 500;

function pageOf<Query extends object, Item>(
  query: Query,
  list: (asked: Query & Readonly<{ after: string | undefined; limit: number }>) => Promise<ListPage<Item> | BadCursor>,
): CsvList<Item>["page"] {
  return async (after) => {
    const page = await list({ ...query, after: after ?? undefined, limit: csvPageRows });
    return "badCursor" in page ? undefined : page;
  };
}

const unknownGroup = (reply: FastifyReply): FastifyReply => reply.code(404).send({ error: "there is no such group" });

function sendPage<Item>(
  reply: FastifyReply,
  page: ListPage<Item> | BadCursor,
  answer: (items: readonly Item[]) => object,
): object {
  if ("badCursor" in page)
    return reply
      .code(400)
      .send({ error: "`after` is no cursor of this list with these filters: begin again without it", code: "invalid" });
  const { items, next, total } = page;
  return { ...answer(items), more: next !== null, next, total };
}
