/**
 * End sessions: what a person ends themself is recorded in the log. In a region that is cut off from its leader, the
 * region accepts it alone: such a command only tightens (docs/regions.md).
 */
import {
  type Command,
  type CommandRequest,
  type CommandResult,
  type Fact,
  unreachable,
} from "../../../events/index.ts";
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";
import type { AuthDeps } from "../context.ts";
import { submitWithRetry } from "../sign-in/begin-session.ts";

export type EndCommand = Extract<Command, { type: "revokeSession" | "revokeSessions" | "revokeUserSessions" }>;

export type EndResult =
  /** It is in the log. */
  | Extract<CommandResult, { type: "done" }>
  /** Only this region has it. */
  | Fact<"region", unknown>
  /** There is no such session. */
  | Fact<"gone", unknown>
  /** It may not have been recorded. */
  | Fact<"unavailable", unknown>;

export async function endSessions(
  deps: Pick<AuthDeps, "databroker" | "clock" | "sleep" | "log">,
  request: CommandRequest & Readonly<{ command: EndCommand }>,
): Promise<EndResult> {
  const result = await submitWithRetry(deps, request);
  switch (result.type) {
    case "done":
      return result;
    case "refused":
      if (result.code === "not-found") return { type: "gone" };
      deps.log.warn({ code: result.code, command: request.command.type }, "a sign-out was refused; nothing was ended");
      return { type: "unavailable" };
    case "unavailable":
      return (await isAcceptedByRegion(deps, request)) ? { type: "region" } : { type: "unavailable" };
    default:
      return unreachable(result);
  }
}

async function isAcceptedByRegion(
  { databroker }: Pick<AuthDeps, "databroker">,
  request: CommandRequest,
): Promise<boolean> {
  try {
    return (await databroker.revokeLocally?.(request))?.type === "local";
  } catch (error) {
    if (error instanceof BrokerUnavailableError) return false;
    throw error;
  }
}
