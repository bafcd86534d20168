/**
 * Perform: commands to events.
 *
 * Pure. A command is carried out against the ledger at exactly the head, so what it decides is still true when its events
 * are recorded behind that head. It may be refused, and it may find that there is nothing to do; it never throws over what
 * somebody asked for.
 */
import { type CommandRequest, type Projection, unreachable } from "../../events/index.ts";
import { activateConfiguration, expireSessions, finalizeUpgrade, recordSnapshot } from "./cluster-commands.ts";
import { changeGroupMembers, removeGroup } from "./group-commands.ts";
import type { Performed, Tools } from "./performed.ts";
import { reassert } from "./reassert-commands.ts";
import {
  createSession,
  keepTokens,
  refreshSession,
  revokeSession,
  revokeSessions,
  startRefresh,
} from "./session-commands.ts";
import { eraseUser, restoreUser, revokeUserSessions, suspendUser } from "./user-commands.ts";

export function perform(projection: Projection, { command }: CommandRequest, tools: Tools): Performed {
  switch (command.type) {
    case "createSession":
      return createSession(projection, command, tools);
    case "refreshSession":
      return refreshSession(projection, command, tools);
    case "startRefresh":
      return startRefresh(projection, command, tools);
    case "keepTokens":
      return keepTokens(projection, command, tools);
    case "revokeSession":
      return revokeSession(projection, command);
    case "revokeSessions":
      return revokeSessions(projection, command);
    case "revokeUserSessions":
      return revokeUserSessions(projection, command);
    case "suspendUser":
      return suspendUser(projection, command);
    case "restoreUser":
      return restoreUser(projection, command);
    case "eraseUser":
      return eraseUser(projection, command);
    case "changeGroupMembers":
      return changeGroupMembers(projection, command);
    case "removeGroup":
      return removeGroup(projection, command);
    case "expireSessions":
      return expireSessions(projection, command, tools);
    case "activateConfiguration":
      return activateConfiguration(command, tools);
    case "recordSnapshot":
      return recordSnapshot(command);
    case "finalizeUpgrade":
      return finalizeUpgrade(projection, command, tools);
    case "reassertTightenings":
      return reassert(projection, command, tools);
    default:
      return unreachable(command);
  }
}
