/**
 * Authorization of commands: what a caller may do with a role depends on the people and groups that the command names.
 * Every command of the operator API passes here.
 *
 * - No role makes itself or others greater: who is in a group that gives a role, and whether a person with a role is
 *   suspended, is decided by the roles that include it.
 * - A command of a browser's session that is dangerous, or that ends the caller's own access, is confirmed by a value
 *   that the person has typed. A token is held by a program, which asks its own user.
 */
import { type Principal, signInAgainUrl } from "../../../auth/index.ts";
import type { Command, GroupId, UserId } from "../../../events/index.ts";
import type { Operator, OperatorApiDeps } from "../operator-route.ts";
import { profileOfUser } from "../operator-views.ts";
import { outOfScope } from "./authorize-operation.ts";
import { grantsOf, type OperatorRole, operatorRoles, type RouteScope, scopeFor } from "./operator-roles.ts";
import { scopeOfGroups } from "./scope-of-groups.ts";
import { isFreshSignIn, staleSignIn } from "./step-up.ts";

export type CommandRefusal = Readonly<{
  status: 400 | 403;
  error: string;
  code: "confirm-required" | "role-required" | "out-of-scope" | "sign-in-again";
  /** With `role-required`. */
  role?: OperatorRole;
  /** With `sign-in-again`. */
  signInUrl?: string;
  /** With `confirm-required`: what has to be typed. */
  confirm?: string;
}>;
type Deps = Pick<OperatorApiDeps, "replica" | "roles" | "now" | "routePolicies" | "stepUp">;

export const sessionsUnconfirmedMax = 25;

export type CommandOptions = Readonly<{
  /** What the caller has typed. */
  confirm?: string | undefined;
  /** The command is about everything of its kind. */
  all?: boolean;
  /** The handler has checked that all the command touches is within the caller's groups of routes. */
  confined?: boolean;
}>;

/** @returns undefined: permitted */
export function authorizeCommand(
  deps: Deps,
  caller: Operator,
  command: Command,
  { confirm: given, all = false, confined = false }: CommandOptions = {},
): CommandRefusal | undefined {
  if (caller.scope !== null && !confined && !isConfined(deps, caller.scope, command))
    return { status: 403, error: outOfScope(caller.scope), code: "out-of-scope" };
  const needed = roleForCommand(deps, command);
  if (needed !== null && scopeFor(caller.grants, needed) !== null)
    return {
      status: 403,
      error:
        command.type === "requestDirectorySync"
          ? `a run that may remove many people at once needs the role ${needed}`
          : `this concerns people with the role ${needed}, or a group that gives it, so it needs that role for all routes`,
      code: "role-required",
      role: needed,
    };
  const { person } = caller;
  if (isUnchecked(command) && person !== undefined && !isFreshSignIn(person, deps.stepUp(), deps.now()))
    return {
      status: 403,
      error: staleSignIn(person, deps.stepUp()),
      code: "sign-in-again",
      signInUrl: signInAgainUrl(),
    };
  const confirmation = confirmationFor(deps, caller, command, { all });
  if (confirmation === null || isConfirmed(confirmation, given)) return undefined;
  const { expected, why } = confirmation;
  return { status: 400, error: `${why} To confirm, type ${expected}.`, code: "confirm-required", confirm: expected };
}

/** Whether all that a command touches is within a scope. What is not known to be is not. */
function isConfined(deps: Deps, scope: RouteScope, command: Command): boolean {
  return command.type === "changeGroupMembers" && scopeOfGroups(deps, scope)(command.groupId);
}

/** A run of a directory that makes every removal is a release of what would be held. */
function isUnchecked(command: Command): boolean {
  return command.type === "requestDirectorySync" && command.removals;
}

// --- roles

/** The role without which a command is refused, besides that of its operation; null: there is none. */
function roleForCommand(deps: Deps, command: Command): OperatorRole | null {
  const { replica, roles } = deps;
  switch (command.type) {
    case "changeGroupMembers":
      return command.added.length + command.removed.length === 0 ? null : roleOfGroup(command.groupId, roles());
    case "decideAccessRequest": {
      const request = replica.projection.accessRequests.get(command.requestId);
      return command.decision === "denied" || request === undefined ? null : roleOfGroup(request.groupId, roles());
    }
    case "requestDirectorySync":
      return isUnchecked(command) ? "administrator" : null;
    case "suspendUser":
    case "restoreUser":
      return roleOfPerson(deps, command.userId);
    default:
      return null;
  }
}

/** The highest role that membership of a group gives; null: none. */
function roleOfGroup(groupId: GroupId, roles: ReturnType<Deps["roles"]>): OperatorRole | null {
  const member = { groups: new Set([groupId]), profile: undefined } as unknown as Principal;
  const granted = grantsOf(member, roles);
  return operatorRoles.findLast((role) => granted.some((grant) => grant.role === role)) ?? null;
}

/** The role of a person above viewer, who changes nothing; null: none. */
function roleOfPerson({ replica, roles, now }: Deps, userId: UserId): OperatorRole | null {
  const profile = profileOfUser(replica, userId);
  const groups = replica.projection.groupsOf(userId, now());
  const granted = grantsOf({ groups, profile } as unknown as Principal, roles());
  const role = operatorRoles.findLast((one) => granted.some((grant) => grant.role === one)) ?? "viewer";
  return role === "viewer" ? null : role;
}

// --- confirmations

export type TypedConfirmation = Readonly<{
  /** What the person has to type. A number confirms at most so many. */
  expected: string;
  /** What the command does, as a sentence. */
  why: string;
}>;

/** What a browser's session has to confirm; null: nothing, or the caller is a token. */
export function confirmationFor(
  deps: Deps,
  caller: Pick<Operator, "person" | "grants">,
  command: Command,
  { all = false }: Readonly<{ all?: boolean }> = {},
): TypedConfirmation | null {
  const { person } = caller;
  if (person === undefined) return null;
  const { replica } = deps;
  const isSelf = "userId" in command && command.userId === person.userId;
  const own = isSelf ? ` This ends your own access.${lastOf(deps, caller)}` : "";
  switch (command.type) {
    case "eraseUser":
      return { expected: nameOf(deps, command.userId), why: `Erasing a person cannot be undone.${own}` };
    case "removeGroup": {
      const gives = roleOfGroup(command.groupId, deps.roles());
      const also = gives === null ? "" : ` It gives the role ${gives}.`;
      return { expected: command.groupId, why: `This removes the group and every membership of it.${also}` };
    }
    case "releaseHeldChange": {
      const people = replica.projection.massChanges.heldChange(command.heldId)?.people;
      if (people === undefined) return null; // the broker says that there is no such change
      return { expected: String(people), why: `This makes a change that takes a group from ${people} people.` };
    }
    case "retireNodes": {
      const { nodes, region } = command;
      const expected = region ?? (nodes.length === 1 ? nodes[0] : undefined) ?? String(nodes.length);
      return { expected, why: "Retired nodes are no longer counted as absent." };
    }
    case "finalizeUpgrade":
      return { expected: String(command.level), why: "Older builds can neither hold a lease nor lead afterwards." };
    case "requestDirectorySync":
      return isUnchecked(command)
        ? { expected: command.directory, why: "This run makes every removal, also of many people at once." }
        : null;
    case "revokeSessions":
      return manySessions(command.sessionIds.length, all);
    case "revokeUserSessions":
      return manySessions(activeSessions(deps, command.userId), false);
    case "suspendUser":
      return isSelf ? { expected: nameOf(deps, person.userId), why: own.trim() } : null;
    case "changeGroupMembers":
      return leavesOwnRole(deps, caller, command)
        ? { expected: nameOf(deps, person.userId), why: `You would lose a role.${lastOf(deps, caller)}` }
        : null;
    default:
      return null;
  }
}

function isConfirmed({ expected }: TypedConfirmation, given: string | undefined): boolean {
  if (given === undefined) return false;
  const typed = given.trim();
  // A number that has shrunk since the person saw it is still confirmed; one that has grown is not.
  if (/^\d{1,9}$/.test(expected)) return /^\d{1,9}$/.test(typed) && Number(typed) >= Number(expected);
  return typed === expected;
}

function manySessions(count: number, all: boolean): TypedConfirmation | null {
  if (count <= sessionsUnconfirmedMax && !all) return null;
  return { expected: String(count), why: `This revokes ${count} ${count === 1 ? "session" : "sessions"}.` };
}

function activeSessions({ replica, now }: Deps, userId: UserId): number {
  const { projection } = replica;
  return projection.sessionsOf(userId).filter((id) => {
    const standing = projection.sessionStatus(id);
    return standing.status === "active" && standing.session.expiresAt > now();
  }).length;
}

/** The name that a person types for another: the e-mail, or else the user id. */
function nameOf({ replica }: Deps, userId: UserId): string {
  const email = profileOfUser(replica, userId)?.email ?? "";
  return email === "" ? userId : email;
}

function leavesOwnRole(
  { roles, replica, now }: Deps,
  { person, grants }: Pick<Operator, "person" | "grants">,
  command: Extract<Command, { type: "changeGroupMembers" }>,
): boolean {
  if (person === undefined || !command.removed.includes(person.userId)) return false;
  const groups = new Set(replica.projection.groupsOf(person.userId, now()));
  groups.delete(command.groupId);
  const left = grantsOf({ groups, profile: profileOfUser(replica, person.userId) } as unknown as Principal, roles());
  return left.length < grants.length;
}

const membersLookedAtMax = 1_000;

/** A sentence for the last administrator who is known here. The command line needs no session, so a way back exists. */
function lastOf({ replica, roles, now }: Deps, { person, grants }: Pick<Operator, "person" | "grants">): string {
  if (person === undefined || scopeFor(grants, "administrator") !== null) return "";
  const { projection } = replica;
  for (const entry of roles().administrators) {
    if (typeof entry !== "string") continue;
    const group = entry.startsWith("group:") ? (entry.slice("group:".length) as GroupId) : undefined;
    if (group === undefined) {
      if (entry !== `email:${person.email}` && entry !== `sub:${person.subject}`) return "";
      continue;
    }
    let looked = 0;
    for (const userId of projection.membersOf(group)) {
      looked += 1;
      if (looked > membersLookedAtMax) return "";
      const isActive = projection.user(userId)?.status === "active" && projection.groupsOf(userId, now()).has(group);
      if (userId !== person.userId && isActive) return "";
    }
  }
  return " You are the last administrator: only the command line with the configuration can undo this.";
}
