/**
 * Command catalog: the commands of a broker, and what it derives from their definitions. Pure.
 *
 * The leader performs a command against the projection at exactly the head, so its decision still holds when its events
 * are recorded behind that head.
 */
import {
  type Command,
  type CommandRequest,
  encode,
  type HeldChange,
  noEpoch,
  noPosition,
  type Projection,
  sourceOf,
  type UnixMs,
  type UserId,
} from "../../events/index.ts";
import type { Access } from "./access.ts";
import { activateConfiguration } from "./cluster/activate-configuration.ts";
import { expireSessions } from "./cluster/expire-sessions.ts";
import { expireMemberships, expireSuspensions } from "./cluster/expire-time-boxes.ts";
import { finalizeUpgrade } from "./cluster/finalize-upgrade.ts";
import { mergeRevocation } from "./cluster/merge-revocation.ts";
import { reassertTightenings } from "./cluster/reassert-tightenings.ts";
import { recordSnapshot } from "./cluster/record-snapshot.ts";
import { retireNodes } from "./cluster/retire-nodes.ts";
import { writeSignalStream } from "./cluster/write-signal-stream.ts";
import type { CommandDefinition, CommandOf, HoldableChange, Submitter } from "./definition.ts";
import type { Fields } from "./fields.ts";
import { changeGroupMembers } from "./group/change-group-members.ts";
import { removeGroup } from "./group/remove-group.ts";
import {
  countMassChange,
  type GuardedChange,
  guardMassChange,
  type MassChangeCount,
} from "./held/guard-mass-change.ts";
import {
  allowMassChanges,
  dropHeldChange,
  expireHeldChanges,
  fieldsOfTemplate,
  releaseHeldChange,
  sourceStream,
} from "./held/held-changes.ts";
import type { MassChangeLimits, Performed, Tools } from "./performed.ts";
import { correlateUser } from "./provisioned/correlate-user.ts";
import { completeDirectorySync, requestDirectorySync, startDirectorySync } from "./provisioned/directory-sync.ts";
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
import { receiveSignal } from "./signal/receive-signal.ts";
import { eraseUser } from "./user/erase-user.ts";
import { requestRefresh } from "./user/request-refresh.ts";
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
  requestRefresh,
  eraseUser,
  changeGroupMembers,
  removeGroup,
  writeProvisionedUser,
  endProvisionedUser,
  writeProvisionedGroup,
  correlateUser,
  requestDirectorySync,
  startDirectorySync,
  completeDirectorySync,
  createScimToken,
  revokeScimToken,
  releaseHeldChange: releaseHeldChange(() => ({
    atRelease: storedCommand,
    access: (command, projection) => accessOfCommand(command, projection),
    perform: (projection, command, tools) => performTyped(projection, command, tools),
  })),
  dropHeldChange,
  allowMassChanges,
  expireHeldChanges,
  receiveSignal,
  expireSessions,
  expireMemberships,
  expireSuspensions,
  activateConfiguration,
  recordSnapshot,
  finalizeUpgrade,
  retireNodes,
  writeSignalStream,
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

export function performCommand(projection: Projection, request: CommandRequest, tools: Tools): Performed {
  const performed = performTyped(projection, request.command, tools);
  const change = guardedChange(request.command, request);
  return change === undefined ? performed : guardMassChange(projection, change, performed, tools);
}

function performTyped<Type extends Command["type"]>(
  projection: Projection,
  command: CommandOf<Type>,
  tools: Tools,
): Performed {
  return definitions[command.type].perform(projection, command, tools);
}

/** What a change would do at this projection, without doing it. Undefined: it is never held. */
export function countChange(
  projection: Projection,
  request: CommandRequest,
  { now, limits }: Readonly<{ now: UnixMs; limits: MassChangeLimits }>,
): Readonly<{ count: MassChangeCount; performed: Performed }> | undefined {
  const change = guardedChange(request.command, request);
  if (change === undefined) return undefined;
  const performed = performTyped(projection, request.command, previewTools(now));
  const events = performed.type === "changes" ? performed.changes.events : [];
  return { performed, count: countMassChange(projection, { ...change, events }, { now, limits }) };
}

/** What a release would do at this projection. Undefined: this build cannot read the held change. */
export function performStored(projection: Projection, held: HeldChange, now: UnixMs): Performed | undefined {
  const command = storedCommand(held, projection);
  return command === undefined ? undefined : performTyped(projection, command, previewTools(now));
}

/** Commands that can be held use the time alone. */
function previewTools(now: UnixMs): Tools {
  return {
    now,
    epoch: noEpoch,
    personKeyOf: () => undefined,
    versionOf: () => 0,
    configOf: () => undefined,
    hasBody: () => false,
    unreadyFor: () => [],
    admittedNodes: () => [],
    lost: { holds: () => true, lacks: () => false, endOfEpoch: () => noPosition, restoredAfter: () => false },
    random: (bytes) => new Uint8Array(bytes),
    wrappingKey: new Uint8Array(),
    vaultKey: new Uint8Array(),
  };
}

function holdableOf<Type extends Command["type"]>(
  command: CommandOf<Type>,
): HoldableChange<CommandOf<Type>> | undefined {
  return definitions[command.type].holdable;
}

function guardedChange<Type extends Command["type"]>(
  command: CommandOf<Type>,
  { commandId, actor }: Pick<CommandRequest, "commandId" | "actor">,
): GuardedChange | undefined {
  const holdable = holdableOf(command);
  if (holdable === undefined) return undefined;
  return {
    commandId,
    actor,
    subject: holdable.subject(command),
    replaces: holdable.replaces?.(command) ?? [],
    isWhole: holdable.isWhole?.(command) ?? false,
    announced: holdable.announced?.(command) ?? 0,
    ...holdable.people(command),
    template: () => encode(holdable.withPeople(command, { added: [], removed: [] })),
  };
}

/** A held command as it is performed at the head; undefined: this build cannot read it. */
export function storedCommand(held: HeldChange, projection: Projection): Command | undefined {
  try {
    const command = parseFields(fieldsOfTemplate(held));
    return command === undefined ? undefined : atRelease(command, projection);
  } catch {
    return undefined; // a template of another build: an operator can only drop it
  }
}

function atRelease<Type extends Command["type"]>(
  command: CommandOf<Type>,
  projection: Projection,
): CommandOf<Type> | undefined {
  return holdableOf(command)?.atRelease(command, projection);
}

export function accessOf({ command, actor }: CommandRequest, projection: Projection): Access {
  const own = accessOfCommand(command, projection);
  const source = sourceOf(actor);
  if (source === null || !mayTake(command)) return own;
  return { reads: own.reads, writes: [...own.writes, sourceStream(source)] };
}

function accessOfCommand<Type extends Command["type"]>(command: CommandOf<Type>, projection: Projection): Access {
  return definitions[command.type].access(command, projection);
}

function mayTake<Type extends Command["type"]>(command: CommandOf<Type>): boolean {
  return holdableOf(command)?.mayTake(command) === true;
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
