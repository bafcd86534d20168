/**
 * Command catalog: the commands of a broker, and what it derives from their definitions. Pure.
 *
 * The leader performs a command against the projection at exactly the head, so its decision still holds when its events
 * are recorded behind that head.
 */
import type { Command, CommandRequest, Projection, UserId } from "../../events/index.ts";
import type { Access } from "./access.ts";
import { activateConfiguration } from "./cluster/activate-configuration.ts";
import { expireSessions } from "./cluster/expire-sessions.ts";
import { expireMemberships, expireSuspensions } from "./cluster/expire-time-boxes.ts";
import { finalizeUpgrade } from "./cluster/finalize-upgrade.ts";
import { mergeRevocation } from "./cluster/merge-revocation.ts";
import { reassertTightenings } from "./cluster/reassert-tightenings.ts";
import { recordSnapshot } from "./cluster/record-snapshot.ts";
import { retireNodes } from "./cluster/retire-nodes.ts";
import type { CommandDefinition, CommandOf, Submitter } from "./definition.ts";
import type { Fields } from "./fields.ts";
import { changeGroupMembers } from "./group/change-group-members.ts";
import { removeGroup } from "./group/remove-group.ts";
import type { Performed, Tools } from "./performed.ts";
import { correlateUser } from "./provisioned/correlate-user.ts";
import { createScimToken, revokeScimToken } from "./provisioned/scim-tokens.ts";
import { writeProvisionedGroup } from "./provisioned/write-provisioned-group.ts";
import { endProvisionedUser, writeProvisionedUser } from "./provisioned/write-provisioned-user.ts";
import { createSession } from "./session/create-session.ts";
import { keepTokens } from "./session/keep-tokens.ts";
import { recordLogout } from "./session/record-logout.ts";
import { refreshSession } from "./session/refresh-session.ts";
import { revokeSession } from "./session/revoke-session.ts";
import { revokeSessions } from "./session/revoke-sessions.ts";
import { startRefresh } from "./session/start-refresh.ts";
import { eraseUser } from "./user/erase-user.ts";
import { restoreUser } from "./user/restore-user.ts";
import { revokeUserSessions } from "./user/revoke-user-sessions.ts";
import { suspendUser } from "./user/suspend-user.ts";

const definitions: { readonly [Type in Command["type"]]: CommandDefinition<Type> } = {
  createSession,
  refreshSession,
  startRefresh,
  keepTokens,
  revokeSession,
  revokeSessions,
  revokeUserSessions,
  recordLogout,
  suspendUser,
  restoreUser,
  eraseUser,
  changeGroupMembers,
  removeGroup,
  writeProvisionedUser,
  endProvisionedUser,
  writeProvisionedGroup,
  correlateUser,
  createScimToken,
  revokeScimToken,
  expireSessions,
  expireMemberships,
  expireSuspensions,
  activateConfiguration,
  recordSnapshot,
  finalizeUpgrade,
  retireNodes,
  reassertTightenings,
  mergeRevocation,
};

/** @returns undefined when no command has this type @throws MalformedCommandError, or an error of the id parsers */
export function parseFields(fields: Fields): Command | undefined {
  const type = fields["type"];
  return isCommandType(type) ? definitions[type].schema(fields) : undefined;
}

function isCommandType(type: unknown): type is Command["type"] {
  return typeof type === "string" && Object.hasOwn(definitions, type);
}

export function performCommand(projection: Projection, { command }: CommandRequest, tools: Tools): Performed {
  return performTyped(projection, command, tools);
}

function performTyped<Type extends Command["type"]>(
  projection: Projection,
  command: CommandOf<Type>,
  tools: Tools,
): Performed {
  return definitions[command.type].perform(projection, command, tools);
}

export function accessOf<Type extends Command["type"]>(command: CommandOf<Type>, projection: Projection): Access {
  return definitions[command.type].access(command, projection);
}

/** The person whose key performing a command may need. */
export function personOf<Type extends Command["type"]>(
  command: CommandOf<Type>,
  projection: Projection,
): UserId | undefined {
  return definitions[command.type].person?.(command, projection);
}

/** True for a final denial of a credential or a person: these commands overtake the others. */
export function isTightening({ type }: Command): boolean {
  return definitions[type].tightens === true;
}

export function maySubmit<Type extends Command["type"]>(role: Submitter, command: CommandOf<Type>): boolean {
  const { permission, isPermitted } = definitions[command.type];
  return permission.includes(role) && isPermitted?.(role, command) !== false;
}

/** The roles that may submit each command. */
export function submittersOfCommands(): Readonly<Record<Command["type"], readonly Submitter[]>> {
  const entries = Object.entries(definitions).map(([type, { permission }]) => [type, permission]);
  return Object.fromEntries(entries) as Record<Command["type"], readonly Submitter[]>;
}
