/**
 * Permissions: what each role may ask of a broker. Checked for every call, whether it came over the network or from a part
 * of the same process, and again by the leader when another broker hands it on. Pure.
 */
import { type Command, type CommandRequest, unreachable } from "../../events/index.ts";
import type { Role } from "../../replication/index.ts";

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
  | "announce";

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
  announce: new Set(["broker"]),
};

export function mayAsk(role: Role, request: Request): boolean {
  return allowed[request].has(role);
}

/** @returns why not, in plain words; undefined when the role may */
export function refuseCommand(role: Role, { command, actor }: CommandRequest): string | undefined {
  if (!mayCommand(role, command)) return `a process in the role ${role} may not ask for ${command.type}`;
  if (actor.startsWith("operator:") && role !== "operator") return `a process in the role ${role} is no operator`;
  return undefined;
}

const ofBroker: ReadonlySet<Command["type"]> = new Set([
  "expireSessions",
  "recordSnapshot",
  "activateConfiguration",
  "refreshSession",
  "revokeSession",
  "reassertTightenings",
]);

function mayCommand(role: Role, command: Command): boolean {
  switch (role) {
    case "proxy":
    case "authorize":
      return command.type === "activateConfiguration" || command.type === "reassertTightenings";
    case "authenticate":
      return ofAuthenticate(command);
    case "operator":
      return !["createSession", "refreshSession", "expireSessions", "recordSnapshot", "reassertTightenings"].includes(
        command.type,
      );
    case "broker": // its duties, and what its own copy of the log has seen
      return ofBroker.has(command.type);
    default:
      return unreachable(role);
  }
}

function ofAuthenticate(command: Command): boolean {
  switch (command.type) {
    case "createSession":
    case "refreshSession":
    case "revokeSession":
    case "revokeUserSessions":
    case "activateConfiguration":
    case "reassertTightenings":
      return true;
    case "changeGroupMembers":
      return command.source === "idp";
    default:
      return false;
  }
}

export class ForbiddenError extends Error {
  readonly code = "ERR_BROKER_FORBIDDEN";
  readonly role: Role;
  constructor(role: Role, request: Request) {
    super(`a process in the role ${role} may not ask for this: ${request}`);
    this.name = "ForbiddenError";
    this.role = role;
  }
}
