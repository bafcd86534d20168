/** What the operations of the operator API are given, and the small things they share. Pure. */
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Feed } from "../audit/index.ts";
import type { UnixMs } from "../events/index.ts";
import type { Databroker, Replica } from "../replication/index.ts";
import type { OperatorCaller } from "./operator-caller.ts";
import type { OperationName } from "./operator-operations.ts";

export type OperatorApiDeps = Readonly<{
  /** In the operator's role. */
  databroker: Databroker;
  replica: Replica;
  feed: Feed;
  callerOf: (request: FastifyRequest) => Promise<OperatorCaller>;
  /** Whether this node's lease is fresh: without, it may say nothing of anybody's session. */
  fresh: () => boolean;
  now: () => UnixMs;
  /** Settles after this long; early, either way, when the signal aborts. */
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  uuid: () => string;
  region: string;
  log: Readonly<{ info(fields: object, message: string): void }>;
}>;

export type Operator = Extract<OperatorCaller, { type: "operator" }>;
export type RegisterRoute = (
  operation: OperationName,
  handler: (request: FastifyRequest, reply: FastifyReply, caller: Operator) => Promise<unknown>,
  options?: Readonly<{ bodyBytesMax: number }>,
) => void;

/**
 * Asks who this is, now. A body, a name or a receipt may have been long in coming; whoever has lost the right meanwhile changes
 * nothing, and is told nothing.
 * @returns undefined: answered with the refusal
 */
export async function requireOperator(
  { callerOf }: Pick<OperatorApiDeps, "callerOf">,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<Operator | undefined> {
  const caller = await callerOf(request);
  if (caller.type === "operator") return caller;
  if (caller.status === 503) reply.header("retry-after", "1");
  reply.code(caller.status).send({ error: caller.error });
  return undefined;
}

/** Whether a stream may carry another word to this operator; a token rests on no fact, so no lease says that it counts. */
export function mayReceive({ fresh }: Pick<OperatorApiDeps, "fresh">, { reads }: Operator): boolean {
  return reads.length === 0 || fresh();
}

export function tryParse<T>(parser: (value: unknown) => T, value: unknown): T | undefined {
  try {
    return parser(value);
  } catch {
    return undefined;
  }
}

export function badRequest(reply: FastifyReply, error: z.ZodError): FastifyReply {
  return reply.code(400).send({ error: z.prettifyError(error) });
}
