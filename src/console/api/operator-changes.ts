/**
 * Operator changes: commands to the broker, answered with the requested receipt.
 *
 * A change in the log is never answered as a failure, even if its receipt is not available: the answer names its link,
 * and the receipt can be requested again. A name that matches several people changes nothing.
 */
import type { FastifyReply, FastifyRequest } from "fastify";
import type { z } from "zod";
import {
  type Command,
  type CommandId,
  type CommandOutcome,
  type CommandResult,
  type Link,
  parseCommandId,
  parseGroupId,
  parseNodeId,
  parseSessionId,
  type SessionId,
} from "../../events/index.ts";
import type { LocalResult, Receipt, ReceiptWait, Replica } from "../../replication/index.ts";
import { BrokerUnavailableError, formatUnavailable, promiseOf } from "../../replication/wire/index.ts";
import { answerPreview } from "./held/blast-radius.ts";
import { revokeInRegion, sendLocalChange } from "./local-changes.ts";
import { refusalStatus } from "./operator-errors.ts";
import {
  badRequest,
  isKnownRegion,
  nameIn,
  type OperatorApiDeps,
  type RegisterRoute,
  requireOperator,
  tryParse,
  unknownRegion,
} from "./operator-route.ts";
import {
  finalizeSchema,
  groupRemovalSchema,
  manySchema,
  membersSchema,
  retireSchema,
  timeBoxEnd,
  timeoutMsOf,
  waitSchema,
} from "./operator-schemas.ts";
import { eachUser, findAtHead, readToHead, sendNameProblem } from "./person-names.ts";
import { authorizeCommand, type CommandOptions, type CommandRefusal } from "./roles/authorize-command.ts";
import { outOfScope } from "./roles/authorize-operation.ts";
import { scopeOfGroups } from "./roles/scope-of-groups.ts";
import { sessionsMatching, sessionsNamed } from "./session-choice.ts";

const unknownNamedMax = 100;
const manyBytesMax = 1024 * 1024;

export type ChangeAnswer = Readonly<{
  /** Null: no command was needed. */
  commandId: CommandId | null;
  changed: boolean;
  /** What a complete receipt of this change means. */
  promise: string;
  link: Link;
  /** Null: not requested, or the change is in the log and its receipt was not available. */
  receipt: Receipt | null;
}>;

export type RevokedManyAnswer = ChangeAnswer &
  Readonly<{
    /** How many sessions were named, or matched the filter. */
    named: number;
    /** The first hundred sessions that this node does not know. */
    unknown: readonly SessionId[];
    /** More sessions match the filter: repeat the request. */
    more: boolean;
  }>;

export function registerChanges(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("POST /sessions/:id/revoke", async (request, reply, { actor }) => {
    const sessionId = tryParse(parseSessionId, (request.params as { id: string }).id);
    if (sessionId === undefined) return reply.code(400).send({ error: "not a session id" });
    return submitChange(deps, request, reply, actor, { type: "revokeSession", sessionId, reason: "operator" });
  });

  route(
    "POST /sessions/revoke",
    async (request, reply, { actor }) => {
      const body = manySchema.safeParse(request.body ?? {});
      if (!body.success) return badRequest(reply, body.error);
      const { sessionIds: named, filter, ...wait } = body.data;
      if ((named === undefined) === (filter === undefined))
        return reply.code(400).send({ error: "give either sessionIds or a filter" });
      // Sessions that began elsewhere just before would stay otherwise. Without a leader, this node's copy counts.
      if (named === undefined) await readToHead(deps);
      const chosen = named === undefined ? sessionsMatching(deps, filter ?? {}) : sessionsNamed(named);
      if ("error" in chosen) return reply.code(400).send({ error: chosen.error });
      const { sessionIds, more } = chosen;
      const unknown = sessionIds.filter((id) => deps.replica.projection.session(id) === undefined);
      const counted = { named: sessionIds.length, unknown: unknown.slice(0, unknownNamedMax), more };
      const command = { type: "revokeSessions", sessionIds, reason: "operator" } as const;
      const answer =
        sessionIds.length === 0
          ? unchangedAnswer(deps.replica, command)
          : await submitChange(deps, request, reply, actor, command, { ...wait, all: filter?.all === true });
      if (!isChange(answer)) return answer;
      // The next request must not select the same sessions again.
      if (more) await deps.replica.waitFor(answer.link, 2_000);
      return { ...answer, ...counted };
    },
    { bodyBytesMax: manyBytesMax },
  );

  route("POST /cluster/finalize", async (request, reply, { actor }) => {
    const body = finalizeSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const { level, ...wait } = body.data;
    return submitChange(deps, request, reply, actor, { type: "finalizeUpgrade", level }, wait);
  });

  route("POST /cluster/retire", async (request, reply, { actor }) => {
    const body = retireSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const { nodes: names, region = null, ...wait } = body.data;
    const nodes = names.map((name) => tryParse(parseNodeId, name)).filter((node) => node !== undefined);
    if (nodes.length < names.length) return reply.code(400).send({ error: "a name is not that of a node" });
    if ((region === null) === (nodes.length === 0))
      return reply.code(400).send({ error: "name either nodes or a region" });
    return submitChange(deps, request, reply, actor, { type: "retireNodes", nodes, region }, wait);
  });

  route("POST /snapshots", async (_request, reply) => {
    const position = await deps.databroker.takeSnapshot();
    return reply.code(202).send({ position });
  });

  route("POST /groups/:group/members", async (request, reply, { actor, scope }) => {
    const groupId = tryParse(parseGroupId, nameIn((request.params as { group: string }).group));
    const body = membersSchema.safeParse(request.body ?? {});
    if (groupId === undefined) return reply.code(400).send({ error: "not a group id" });
    if (!body.success) return badRequest(reply, body.error);
    const { add, remove, reason, until, forMs, dryRun, ...wait } = body.data;
    const end = timeBoxEnd({ until, forMs }, deps.now());
    if (typeof end === "string") return reply.code(400).send({ error: end });
    // Before the names are looked up: what is refused anyway must not tell who exists.
    if (scope !== null && !scopeOfGroups(deps, scope)(groupId))
      return sendRefusal(reply, { status: 403, error: outOfScope(scope), code: "out-of-scope" });
    const added = await findAtHead(deps, () => eachUser(deps.replica, add, "verified"));
    const removed = await findAtHead(deps, () => eachUser(deps.replica, remove, "any"));
    if ("error" in added) return sendNameProblem(reply, added);
    if ("error" in removed) return sendNameProblem(reply, removed);
    if (added.userIds.length + removed.userIds.length === 0)
      return reply.code(400).send({ error: "name at least one user to add or remove" });
    const why = reason === undefined ? {} : { reason };
    const change = { added: added.userIds, removed: removed.userIds, ...end, ...why };
    const command = { type: "changeGroupMembers", groupId, source: "operator", ...change } as const;
    if (dryRun === true) return answerPreview(deps, actor, command);
    return submitChange(deps, request, reply, actor, command, wait);
  });

  route("POST /groups/:group/remove", async (request, reply, { actor }) => {
    const groupId = tryParse(parseGroupId, nameIn((request.params as { group: string }).group));
    const body = groupRemovalSchema.safeParse(request.body ?? {});
    if (groupId === undefined) return reply.code(400).send({ error: "not a group id" });
    if (!body.success) return badRequest(reply, body.error);
    const { dryRun, ...wait } = body.data;
    const command = { type: "removeGroup", groupId } as const;
    if (dryRun === true) return answerPreview(deps, actor, command);
    return submitChange(deps, request, reply, actor, command, wait);
  });
}

export async function submitChange(
  deps: OperatorApiDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  actor: string,
  command: Command,
  given?: z.infer<typeof waitSchema> & Pick<CommandOptions, "all" | "confined">,
): Promise<unknown> {
  const body = given === undefined ? waitSchema.safeParse(request.body ?? {}) : { success: true as const, data: given };
  if (!body.success) return badRequest(reply, body.error);
  const { region } = body.data;
  if (region !== undefined && !(await isKnownRegion(deps, region)))
    return reply.code(404).send({ error: unknownRegion(region) });
  const commandId = tryParse(parseCommandId, body.data.commandId ?? deps.uuid());
  if (commandId === undefined) return reply.code(400).send({ error: "commandId must be a lowercase UUID" });
  const caller = await requireOperator(deps, request, reply);
  if (caller === undefined) return reply;
  const refusal = authorizeCommand(deps, caller, command, body.data);
  if (refusal !== undefined) return sendRefusal(reply, refusal);
  deps.log.info({ actor, commandId, ...loggedCommand(command) }, "operator command");
  const result = await submitCommand(deps, { commandId, actor, command });
  const waiting = { wait: body.data.wait, timeoutMs: timeoutMsOf(body.data) };
  if (result.type === "unavailable") {
    const local = await revokeInRegion(deps, { commandId, actor, command }, result);
    if (local?.type === "local") return sendLocalChange(deps, reply, local, waiting);
    if (local !== undefined) return sendFailure(reply, local.type === "refused" ? local : joinFailures(result, local));
  }
  if (result.type !== "done") return sendFailure(reply, result);
  const { changed, link } = result;
  const receipt = await receiptOf(deps, link, { ...waiting, region: region ?? deps.region });
  const answer: ChangeAnswer = { commandId, changed, promise: promiseFor(command), link, receipt };
  return answer;
}

export function sendRefusal(reply: FastifyReply, { status, ...body }: CommandRefusal): FastifyReply {
  return reply.code(status).send(body);
}

export function isChange(answer: unknown): answer is ChangeAnswer {
  return typeof answer === "object" && answer !== null && "changed" in answer;
}

function unchangedAnswer(replica: Replica, command: Command): ChangeAnswer {
  return { commandId: null, changed: false, promise: promiseFor(command), link: replica.applied, receipt: null };
}

/** The event type that a command records, for the promise of its receipt. */
const eventTypeOf: Readonly<Partial<Record<Command["type"], string>>> = {
  revokeSession: "SessionRevoked",
  revokeSessions: "SessionRevoked",
  revokeUserSessions: "UserSessionsRevoked",
  suspendUser: "UserSuspended",
  eraseUser: "UserErased",
  changeGroupMembers: "GroupMembersChanged",
  removeGroup: "GroupRemoved",
  revokeScimToken: "ServiceAccountRevoked",
  endAccessRequest: "GroupMembersChanged",
};

function promiseFor({ type }: Command): string {
  const recorded = eventTypeOf[type];
  return promiseOf(recorded === undefined ? null : [{ type: recorded }]);
}

/** The command as it is logged: ids only, and no long lists. */
function loggedCommand(command: Command): object {
  if (command.type === "revokeSessions") {
    const { type, sessionIds } = command;
    return { command: { type, sessions: sessionIds.length, sessionIds: sessionIds.slice(0, 20) } };
  }
  if (command.type === "createScimToken") {
    const { secretHash: _hash, ...logged } = command;
    return { command: logged };
  }
  // What people write about each other is personal.
  if (command.type === "decideAccessRequest") {
    const { note: _note, ...logged } = command;
    return { command: logged };
  }
  if (command.type !== "changeGroupMembers") return { command };
  return { command: { ...command, added: command.added.slice(0, 20), removed: command.removed.slice(0, 20) } };
}

export async function submitCommand(
  { databroker }: OperatorApiDeps,
  request: Parameters<OperatorApiDeps["databroker"]["submit"]>[0],
): Promise<CommandResult> {
  try {
    return await databroker.submit(request);
  } catch (error) {
    if (!(error instanceof BrokerUnavailableError)) throw error;
    const { commandId } = request;
    return { type: "unavailable", commandId, message: error.message, retryAfterMs: 1_000, ...formatUnavailable(error) };
  }
}

async function receiptOf(
  { databroker }: OperatorApiDeps,
  link: Link,
  { wait, timeoutMs, region }: Readonly<{ wait: ReceiptWait; timeoutMs: number; region: string }>,
): Promise<Receipt | null> {
  if (wait === "none") return null;
  try {
    return await databroker.receipt({ type: "link", link }, { wait, timeoutMs, region });
  } catch (error) {
    if (error instanceof BrokerUnavailableError) return null;
    throw error;
  }
}

type Unavailable = Extract<CommandResult, { type: "unavailable" }>;
type LocalUnavailable = Extract<LocalResult, { type: "unavailable" }>;
/** `reason`: why a region that is cut off did not accept the change by itself. */
type Failure = Extract<CommandResult, { type: "refused" }> | (Unavailable & Readonly<{ reason?: string }>);

/**
 * The answer to a change that neither the leader nor the region has accepted. It is certain that nothing has changed
 * only where both say so.
 */
function joinFailures(leader: Unavailable, { code: reason, message, outcome }: LocalUnavailable): Failure {
  const { type, commandId } = leader;
  const isCutOff = leader.code !== undefined && reason !== "local-home-answers";
  if (!isCutOff) return { type, commandId, message, reason, retryAfterMs: 1_000 };
  return { ...leader, message, reason, outcome: leader.outcome === "none" && outcome === "none" ? "none" : "unknown" };
}

export function sendFailure(reply: FastifyReply, result: Failure): FastifyReply {
  if (result.type === "unavailable") {
    const { commandId, retryAfterMs } = result;
    return reply
      .code(503)
      .header("retry-after", String(Math.max(1, Math.ceil(retryAfterMs / 1_000))))
      .send({ ...whyUnavailable(result), commandId });
  }
  const status = refusalStatus[result.code];
  const { message: error, code, heldId } = result;
  return reply.code(status).send({ error, code, ...(heldId === undefined ? {} : { heldId }) });
}

const cutOffWords: Readonly<Record<CommandOutcome, string>> = {
  none: "this region is cut off from its home region, so the command was not forwarded and nothing has changed",
  unknown:
    "this region was cut off from its home region before the leader answered, so the change may or may not have been made; repeat the command with its id",
};

/** The body of a command in a region that is cut off has a code and an outcome. */
function whyUnavailable({
  message,
  code,
  outcome = "unknown",
  reason,
}: Extract<Failure, { type: "unavailable" }>): object {
  const why = reason === undefined ? {} : { reason };
  if (code === undefined) return { error: message, ...why };
  const error =
    reason === undefined
      ? cutOffWords[outcome]
      : `this region is cut off from its home region, and has not accepted the change by itself: ${message}`;
  return { error, code, outcome, ...why };
}
