/**
 * Authorization of operations: the one place where the operator API compares a caller's role with that of an operation.
 *
 * - Every check of a caller passes here: before a body is read, after each wait, and while a stream is open.
 * - A caller whose role is limited to groups of routes is refused wherever the operation does not say that it applies
 *   that limit.
 * - The most dangerous operations need a recent sign-in of the person, where the caller is a session.
 * - A caller never gains by a change of roles during a request, and a caller that loses is refused.
 */
import type { FastifyRequest } from "fastify";
import { signInAgainUrl } from "../../../auth/index.ts";
import type { UnixMs } from "../../../events/index.ts";
import type { OperatorCaller } from "../operator-caller.ts";
import { type Operation, type OperationName, operatorOperations } from "../operator-operations.ts";
import { highestRole, isStillWithin, type OperatorRole, type RouteScope, scopeFor } from "./operator-roles.ts";
import { isFreshSignIn, type StepUp, staleSignIn } from "./step-up.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    operation?: OperationName;
  }
}

type Refused = Extract<OperatorCaller, { type: "refused" }>;
type Admitted = Extract<OperatorCaller, { type: "operator" }>;
/** `scope`: the routes to which this operation is limited for the caller. */
export type AuthorizedCaller = (Admitted & Readonly<{ scope: RouteScope }>) | Refused;

export function authorizeOperations({
  callerOf,
  stepUp,
  now,
}: Readonly<{
  callerOf: (request: FastifyRequest) => Promise<OperatorCaller>;
  stepUp: () => StepUp;
  now: () => UnixMs;
}>): (request: FastifyRequest) => Promise<AuthorizedCaller> {
  const scopes = new WeakMap<FastifyRequest, RouteScope>();
  return async (request) => {
    const caller = await callerOf(request);
    if (caller.type !== "operator") return caller;
    const { operation: name } = request.routeOptions.config;
    const operation: Operation | undefined = name === undefined ? undefined : operatorOperations[name];
    const granted = scopeFor(caller.grants, operation?.role ?? "viewer");
    // Null is every route, so only undefined means that no role suffices.
    const scope = granted === undefined ? scopeOfApprover(caller, operation) : granted;
    if (scope === undefined) return refuseRole(caller, operation?.role ?? "viewer");
    const before = scopes.get(request);
    if (before !== undefined && !isStillWithin(before, scope))
      return refuse(caller, "role-changed", "your rights have changed meanwhile; repeat the request");
    if (scope !== null && operation !== undefined && operation.scoped !== true)
      return refuse(caller, "out-of-scope", outOfScope(scope));
    if (operation?.stepUp === true && caller.person !== undefined) {
      const { person } = caller;
      if (!isFreshSignIn(person, stepUp(), now()))
        return { ...refuse(caller, "sign-in-again", staleSignIn(person, stepUp())), signInUrl: signInAgainUrl() };
    }
    if (before === undefined) scopes.set(request, scope);
    return { ...caller, scope: before === undefined ? scope : before };
  };
}

/** An approver is admitted to no route by a role: the handler looks at the routes that name them. */
function scopeOfApprover({ approves }: Admitted, operation: Operation | undefined): RouteScope | undefined {
  return operation?.approver === true && approves !== undefined ? new Set() : undefined;
}

/** The sentence for an act that is not confined to the caller's routes. It names nothing outside them. */
export function outOfScope(scope: ReadonlySet<string>): string {
  return `your role is limited to the groups of routes ${[...scope].sort().join(", ")}, and this is not confined to them`;
}

function refuseRole(caller: Admitted, role: OperatorRole): Refused {
  const own = highestRole(caller.grants) ?? "none";
  return { ...refuse(caller, "role-required", `this needs the role ${role}; yours is ${own}`), role };
}

function refuse({ actor, person }: Admitted, code: NonNullable<Refused["code"]>, error: string): Refused {
  return { type: "refused", status: 403, error, code, actor, ...(person && { userId: person.userId }) };
}
