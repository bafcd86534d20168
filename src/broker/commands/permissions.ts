/**
 * Permissions: what each role may request from a broker. Pure. Every call is checked, also within one process, and the
 * leader checks a forwarded call again.
 */
import { CodedError, type Command, type CommandRequest, type MergeRevocation } from "../../events/index.ts";
import { type Role, revocationIn } from "../../replication/wire/index.ts";
import { isOwnCommand, maySubmit, submittersOfCommands } from "./catalog.ts";
import type { Submitter } from "./definition.ts";

export type Request =
  | "submit"
  | "read"
  | "lease"
  | "receipt"
  | "status"
  | "takeSnapshot"
  | "history"
  | "configurations"
  | "holdsConfiguration"
  | "tokens"
  | "signalStream"
  | "announce"
  | "exchangeRevocations";

const allowed: Readonly<Record<Request, ReadonlySet<Role>>> = {
  submit: new Set(["broker", "proxy", "authorize", "authenticate", "operator"]),
  read: new Set(["broker", "proxy", "authorize", "authenticate", "operator"]),
  lease: new Set(["broker", "proxy", "authorize", "authenticate"]),
  receipt: new Set(["broker", "authenticate", "operator"]),
  status: new Set(["broker", "proxy", "authorize", "authenticate", "operator"]),
  takeSnapshot: new Set(["operator"]),
  history: new Set(["broker", "operator"]),
  configurations: new Set(["broker", "operator"]),
  holdsConfiguration: new Set(["broker", "proxy", "authorize", "authenticate", "operator"]),
  tokens: new Set(["authenticate", "proxy"]), // a proxy for routes that forward them
  signalStream: new Set(["broker", "authenticate", "operator"]), // it may hold a receiver's credential
  announce: new Set(["broker"]),
  exchangeRevocations: new Set(["broker"]),
};

export function mayRequest(role: Role, request: Request): boolean {
  return allowed[request].has(role);
}

/** @returns why the role may not; undefined: it may */
export function refuseCommand(role: Submitter, { command, actor }: CommandRequest): string | undefined {
  if (!maySubmit(role, command)) return `a process in the role ${role} may not submit ${command.type}`;
  if (command.type === "mergeRevocation") return refuseMerge(command, actor); // its broker has signed the actor
  if (actor.startsWith("operator:") && role !== "operator") return `a process in the role ${role} is not an operator`;
  if (!isOwnCommand(command, actor)) return `${command.type} names another person than its actor`;
  return undefined;
}

function refuseMerge({ envelope }: MergeRevocation, actor: string): string | undefined {
  return revocationIn(envelope).actor === actor ? undefined : "a revocation is recorded under its own actor alone";
}

/**
 * A process activates configurations in its own name only. A regional broker forwards those of its nodes in its own
 * name, after it has checked them itself.
 * @param isRegional whether a regional broker of this name holds a lease
 */
export function refuseActivation(
  command: Command,
  caller: string,
  isRegional: (name: string) => boolean,
): string | undefined {
  if (command.type !== "activateConfiguration" || command.nodeId === caller || isRegional(caller)) return undefined;
  return "a process may activate a configuration only in its own name";
}

/** What a role may request and submit, for the documentation. */
export function permissionTable(): Readonly<{
  requests: Readonly<Record<Request, readonly Role[]>>;
  commands: Readonly<Record<Command["type"], readonly Submitter[]>>;
}> {
  const lists = <Name extends string, Who>(sets: Readonly<Record<Name, ReadonlySet<Who>>>) =>
    Object.fromEntries(Object.entries<ReadonlySet<Who>>(sets).map(([name, set]) => [name, [...set]])) as Record<
      Name,
      Who[]
    >;
  return { requests: lists(allowed), commands: submittersOfCommands() };
}

export class ForbiddenError extends CodedError<"ERR_BROKER_FORBIDDEN"> {
  override readonly code = "ERR_BROKER_FORBIDDEN";
  readonly role: Role;
  constructor(role: Role, request: Request) {
    super(`a process in the role ${role} may not request ${request}`);
    this.role = role;
  }
}
