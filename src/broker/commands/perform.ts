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

export function perform(ledger: Projection, { command }: CommandRequest, tools: Tools): Performed {
  switch (command.type) {
    case "createSession":
      return createSession(ledger, command, tools);
    case "refreshSession":
      return refreshSession(ledger, command, tools);
    case "startRefresh":
      return startRefresh(ledger, command, tools);
    case "keepTokens":
      return keepTokens(ledger, command, tools);
    case "revokeSession":
      return revokeSession(ledger, command);
    case "revokeSessions":
      return revokeSessions(ledger, command);
    case "revokeUserSessions":
      return revokeUserSessions(ledger, command);
    case "suspendUser":
      return suspendUser(ledger, command);
    case "restoreUser":
      return restoreUser(ledger, command);
    case "eraseUser":
      return eraseUser(ledger, command);
    case "changeGroupMembers":
      return changeGroupMembers(ledger, command);
    case "removeGroup":
      return removeGroup(ledger, command);
    case "expireSessions":
      return expireSessions(ledger, command, tools);
    case "activateConfiguration":
      return activateConfiguration(command, tools);
    case "recordSnapshot":
      return recordSnapshot(command);
    case "finalizeUpgrade":
      return finalizeUpgrade(ledger, command, tools);
    case "reassertTightenings":
      return reassert(ledger, command, tools);
    default:
      return unreachable(command);
  }
}
