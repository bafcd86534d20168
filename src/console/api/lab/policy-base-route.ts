/**
 * Base of the policy lab: `GET /policy/base`, the policy of a route as YAML, from the stored text of a configuration,
 * which has no secrets.
 */
import { stringify } from "yaml";
import { type PastConfiguration, readStoredConfiguration } from "../../../audit/index.ts";
import type { RouteConfig } from "../../../config/index.ts";
import { MalformedConfigBodyError } from "../../../events/index.ts";
import { findConfiguration } from "../operator-configurations.ts";
import { badRequest, type OperatorApiDeps, type RegisterRoute } from "../operator-route.ts";
import { findRoute, type LabProblem, visibleRoutes } from "./lab-base.ts";
import { baseSchema } from "./lab-schemas.ts";

type RouteRef = Readonly<{ id: string; name: string; from: string }>;
export type PolicyBase = Readonly<{
  configHash: string;
  /** This server runs it. */
  isOwn: boolean;
  /** The first routes of the configuration, in its order. */
  routes: readonly RouteRef[];
  moreRoutes: number;
  /** Null: none was named. */
  route: (RouteRef & Readonly<{ policy: string; shorthands: readonly string[] }>) | null;
}>;

const routesMax = 500;

export function registerPolicyBase(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /policy/base", async (request, reply, caller) => {
    const query = baseSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const { base, route: name } = query.data;
    const own = deps.ownConfiguration?.().configHash;
    const hash = base ?? own;
    if (hash === undefined)
      return reply.code(404).send({ error: "this server runs no routes: name a stored configuration with base" });
    const stored = await readBase(deps, hash);
    if ("error" in stored) return reply.code(stored.status).send({ error: stored.error });
    const maySee = visibleRoutes(deps, caller);
    const found = name === undefined ? null : findRoute(stored, name, maySee);
    if (found !== null && "error" in found) return reply.code(found.status).send({ error: found.error });
    const visible = [...stored.routes.values()].map((each) => each.route).filter(({ id }) => maySee(id));
    return {
      configHash: stored.configHash,
      isOwn: stored.configHash === own,
      routes: visible.slice(0, routesMax).map(refOf),
      moreRoutes: Math.max(0, visible.length - routesMax),
      route: found === null ? null : { ...refOf(found), policy: yamlOf(found), shorthands: shorthandsOf(found) },
    } satisfies PolicyBase;
  });
}

async function readBase(deps: OperatorApiDeps, hash: string): Promise<PastConfiguration | LabProblem> {
  const found = await findConfiguration(deps, hash);
  if ("error" in found) return found;
  try {
    return readStoredConfiguration(found.stored);
  } catch (error) {
    if (!(error instanceof MalformedConfigBodyError)) throw error;
    return { status: 500, error: error.message };
  }
}

function refOf({ id, name, from }: RouteConfig): RouteRef {
  return { id, name: name.slice(0, 500), from: String(from).slice(0, 500) };
}

function yamlOf({ policy }: RouteConfig): string {
  return policy === null ? "" : stringify(policy.ppl, { lineWidth: 0, aliasDuplicateObjects: false });
}

/** The keys of the route that allow callers beside the policy. */
function shorthandsOf(route: RouteConfig): readonly string[] {
  const { allowedUsers, allowedDomains, allowedIdpClaims, subPolicies } = route;
  return [
    ...(allowedUsers.length > 0 ? ["allowed_users"] : []),
    ...(allowedDomains.length > 0 ? ["allowed_domains"] : []),
    ...(Object.keys(allowedIdpClaims).length > 0 ? ["allowed_idp_claims"] : []),
    ...(route.allowAnyAuthenticatedUser ? ["allow_any_authenticated_user"] : []),
    ...(route.allowPublicUnauthenticatedAccess ? ["allow_public_unauthenticated_access"] : []),
    ...(route.corsAllowPreflight ? ["cors_allow_preflight"] : []),
    ...(route.requiresClientCertificate ? ["downstream_mtls"] : []),
    ...(subPolicies.length > 0 ? ["sub_policies"] : []),
  ];
}
