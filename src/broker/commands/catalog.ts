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
  originOf,
  type Projection,
  sourceOf,
  type UnixMs,
  type UserId,
} from "../../events/index.ts";
import type { Access } from "./access.ts";
import { decideAccessRequest } from "./access-request/decide-access-request.ts";
import { endAccessRequest } from "./access-request/end-access-request.ts";
import { expireAccessRequests } from "./access-request/expire-access-requests.ts";
import { requestAccess } from "./access-request/request-access.ts";
import { activateConfiguration } from "./cluster/activate-configuration.ts";
import { endIdleSessions } from "./cluster/end-idle-sessions.ts";
import { expireSessions } from "./cluster/expire-sessions.ts";
import { expireMemberships, expireSuspensions } from "./cluster/expire-time-boxes.ts";
import { finalizeUpgrade } from "./cluster/finalize-upgrade.ts";
import { mergeRevocation } from "./cluster/merge-revocation.ts";
import { reassertTightenings } from "./cluster/reassert-tightenings.ts";
import { recordActivity } from "./cluster/record-activity.ts";
import { recordSnapshot } from "./cluster/record-snapshot.ts";
import { retireNodes } from "./cluster/retire-nodes.ts";
import { sealAuditSegment } from "./cluster/seal-audit-segment.ts";
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
  withAnsweredEnded,
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
import { announceEnds } from "./provisioned/announce-ends.ts";
import { correlateUser } from "./provisioned/correlate-user.ts";
import { completeDirectoryPerson, requestDirectoryPerson } from "./provisioned/directory-person.ts";
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
  announceEnds,
  writeProvisionedGroup,
  correlateUser,
  requestDirectorySync,
  requestDirectoryPerson,
  completeDirectoryPerson,
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
  requestAccess,
  decideAccessRequest,
  endAccessRequest,
  expireAccessRequests,
  receiveSignal,
  expireSessions,
  recordActivity,
  endIdleSessions,
  expireMemberships,
  expireSuspensions,
  activateConfiguration,
  recordSnapshot,
  finalizeUpgrade,
  retireNodes,
  writeSignalStream,
  reassertTightenings,
  mergeRevocation,
  sealAuditSegment,
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
  const change = guardedChange(request.command, request, projection);
  if (change !== undefined) return guardMassChange(projection, change, performed, tools);
  const answered = answeredBy(request, projection);
  return answered === undefined ? performed : withAnsweredEnded(projection, answered, performed);
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
  const change = guardedChange(request.command, request, projection);
  if (change === undefined) return undefined;
  const performed = performTyped(projection, request.command, previewTools(now));
  const events = performed.type === "changes" ? performed.changes.events : [];
  return { performed, count: countMassChange(projection, { ...change, events }, { now, limits }) };
}

/** What a command that uses the time alone would do at this projection, without doing it. */
export function performUncounted(projection: Projection, command: Command, now: UnixMs): Performed {
  return performTyped(projection, command, previewTools(now));
}

/**
 * What a release would do at this projection, and whose access it would end. Undefined: this build cannot read the held
 * change.
 */
export function performStored(
  projection: Projection,
  held: HeldChange,
  now: UnixMs,
): Readonly<{ performed: Performed; ending: readonly UserId[] }> | undefined {
  const command = storedCommand(held, projection);
  if (command === undefined) return undefined;
  return { performed: performTyped(projection, command, previewTools(now)), ending: endingOf(command, projection) };
}

function endingOf<Type extends Command["type"]>(command: CommandOf<Type>, projection: Projection): readonly UserId[] {
  return holdableOf(command)?.ending?.(command, projection) ?? [];
}

/** The held change that a command answers by its effect on a person; undefined: none. */
function answeredBy<Type extends Command["type"]>(
  { command, actor }: Readonly<{ command: CommandOf<Type>; actor: string }>,
  projection: Projection,
): Readonly<{ held: HeldChange; users: readonly UserId[] }> | undefined {
  const answered = definitions[command.type].answers?.(command);
  const held = answered && projection.massChanges.heldAbout(originOf(actor), answered.subject);
  if (answered === undefined || held?.status !== "held") return undefined;
  const users = answered.users.filter((userId) => held.removed.includes(userId));
  return users.length === 0 ? undefined : { held, users };
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
    lost: {
      holds: () => true,
      lacks: () => false,
      mayHold: () => true,
      endOfEpoch: () => noPosition,
      restoredAfter: () => false,
    },
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
  projection: Projection,
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
    ending: holdable.ending?.(command, projection) ?? [],
    ...holdable.people(command),
    template: () => encode(holdable.withPeople(command, { added: [], removed: [] })),
  };
}

/** A held command as it is performed at the head; undefined: this build cannot read it. */
export function storedCommand(held: HeldChange, projection: Projection): Command | undefined {
  try {
    const command = parseFields(fieldsOfTemplate(held));
    return command === undefined ? undefined : atRelease(command, held, projection);
  } catch {
    return undefined; // a template of another build: an operator can only drop it
  }
}

function atRelease<Type extends Command["type"]>(
  template: CommandOf<Type>,
  held: Pick<HeldChange, "added" | "removed">,
  projection: Projection,
): CommandOf<Type> | undefined {
  const holdable = holdableOf(template);
  // Only its lists: a held change has a source of its own, which is not that of a membership.
  const { added, removed } = held;
  return holdable?.atRelease(holdable.withPeople(template, { added, removed }), projection);
}

export function accessOf(request: CommandRequest, projection: Projection): Access {
  const { command, actor } = request;
  const own = accessOfCommand(command, projection);
  const source = sourceOf(actor);
  if (source === null || (!mayTake(command) && answeredBy(request, projection) === undefined)) return own;
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

/** False: the command names another actor than the one that submits it. */
export function isOwnCommand<Type extends Command["type"]>(command: CommandOf<Type>, actor: string): boolean {
  return definitions[command.type].isOwn?.(command, actor) !== false;
}

/** The roles that may submit each command. */
export function submittersOfCommands(): Readonly<Record<Command["type"], readonly Submitter[]>> {
  const entries = Object.entries(definitions).map(([type, { permission }]) => [type, permission]);
  return Object.fromEntries(entries) as Record<Command["type"], readonly Submitter[]>;
}
