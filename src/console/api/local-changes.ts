/**
 * Local changes: the answer to a change that only this region accepted, because it is cut off from the leader, and the
 * receipt of the region. It is a status of its own (202) and has none of the fields of a change that is in the log.
 */
import type { FastifyReply } from "fastify";
import { type CommandId, type CommandRequest, parseCommandId, type UnavailableCode } from "../../events/index.ts";
import type { LocalReceipt, LocalReceiptOutcome, LocalResult, ReceiptWait } from "../../replication/index.ts";
import { BrokerUnavailableError, localCommands } from "../../replication/wire/index.ts";
import { badRequest, type OperatorApiDeps, type RegisterRoute, tryParse } from "./operator-route.ts";
import { timeoutMsOf, timeoutSchema } from "./operator-schemas.ts";

export type LocalChangeAnswer = Readonly<{
  accepted: "region";
  commandId: CommandId;
  region: string;
  broker: string;
  /** Its number in the store of that broker. */
  seq: number;
  /** How many sessions or users it denies: those that the region knew. */
  ids: number;
  promise: string;
  /** Null: not requested, or not available. */
  receipt: LocalReceipt | null;
}>;

const promise =
  "accepted in this region only: nodes of other regions, and the log, learn of it when the region is connected again";

/**
 * Has the region accept a command by itself that the leader could not answer.
 * @param leader.code `home-unreachable`: the region is cut off, so a broker that does not answer may have accepted it
 * @returns undefined: this process's broker is no regional broker, or did not answer
 */
export async function revokeInRegion(
  { databroker }: OperatorApiDeps,
  request: CommandRequest,
  leader: Readonly<{ code?: UnavailableCode | undefined }>,
): Promise<LocalResult | undefined> {
  if (!localCommands.some((type) => type === request.command.type)) return undefined;
  try {
    const result = await databroker.revokeLocally?.(request);
    return result?.type === "unavailable" && result.code === "local-off" ? undefined : result;
  } catch (error) {
    if (!(error instanceof BrokerUnavailableError)) throw error;
    if (leader.code === undefined) return undefined;
    const message = "no broker of this region answered";
    return { type: "unavailable", commandId: request.commandId, code: "local-broker-unreachable", message };
  }
}

/** Answers a change that the log does not have. */
export async function sendLocalChange(
  deps: OperatorApiDeps,
  reply: FastifyReply,
  result: Extract<LocalResult, { type: "local" }>,
  { wait, timeoutMs }: Readonly<{ wait: ReceiptWait; timeoutMs: number }>,
): Promise<FastifyReply> {
  const { commandId, region, broker, seq, ids } = result;
  const outcome = wait === "none" ? null : await localReceiptOf(deps, commandId, timeoutMs);
  const receipt = outcome?.type === "receipt" ? outcome.receipt : null;
  const answer: LocalChangeAnswer = {
    accepted: "region",
    commandId,
    region,
    broker,
    seq,
    ids,
    promise,
    receipt,
  };
  return reply.code(202).send(answer);
}

export function registerLocalReceipts(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /local-receipts/:commandId", async (request, reply) => {
    const commandId = tryParse(parseCommandId, (request.params as { commandId: string }).commandId);
    if (commandId === undefined) return reply.code(400).send({ error: "name the command by its id, a lowercase UUID" });
    const query = timeoutSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const outcome = await localReceiptOf(deps, commandId, timeoutMsOf(query.data));
    if (outcome === null) return reply.code(503).header("retry-after", "1").send({ error: "no broker answers" });
    if (outcome.type === "unknown")
      return reply.code(404).send({ error: "this region holds no revocation of this command: ask for its receipt" });
    return outcome;
  });
}

/** Null: no broker answered. */
async function localReceiptOf(
  { databroker }: OperatorApiDeps,
  commandId: CommandId,
  timeoutMs: number,
): Promise<LocalReceiptOutcome | null> {
  try {
    return (await databroker.localReceipt?.(commandId, { timeoutMs })) ?? { type: "unknown" };
  } catch (error) {
    if (error instanceof BrokerUnavailableError) return null;
    throw error;
  }
}
