/**
 * Operator API about the caller (role, limit, person or token), and about the configuration in force on this server.
 */
import { basename } from "node:path";
import { signInAgainUrl } from "../../../auth/index.ts";
import type { OperatorApiDeps, RegisterRoute } from "../operator-route.ts";
import type { Me } from "./me-operations.ts";
import { highestRole, type RouteScope, scopeFor } from "./operator-roles.ts";
import type { SettingsAnswer } from "./settings-operations.ts";
import { freshUntil } from "./step-up.ts";

export function registerMe(route: RegisterRoute, deps: OperatorApiDeps): void {
  const capabilities = capabilitiesOf(deps);
  route("GET /me", async (_request, _reply, { actor, until, grants, person }): Promise<Me> => {
    const role = highestRole(grants) ?? "viewer";
    const stepUpAge = deps.stepUp();
    const freshAt = person === undefined ? null : freshUntil(person, stepUpAge, deps.now());
    return {
      role,
      routeGroups: namesIn(scopeFor(grants, role) ?? null),
      grants: grants.map((grant) => ({ role: grant.role, routeGroups: namesIn(grant.scope) })),
      userId: person?.userId ?? null,
      subject: person?.subject ?? "",
      name: person?.name ?? /^operator:(.*)#/.exec(actor)?.[1] ?? "",
      email: person?.email ?? "",
      viaToken: person === undefined,
      until: new Date(until).toISOString(),
      freshUntil: freshAt === null ? null : new Date(freshAt).toISOString(),
      signInUrl: person === undefined ? null : signInAgainUrl(),
      cluster: deps.cluster,
      version: deps.version,
      capabilities,
      applied: deps.replica.applied,
    };
  });
}

export function registerSettings(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /settings", async (): Promise<SettingsAnswer> => {
    const { file, hash, settings, routes } = deps.settings();
    return {
      file: basename(file),
      configHash: hash,
      sections: settings.map(({ title, settings: all }) => ({
        title,
        settings: all.map((setting) => ({ ...setting })),
      })),
      routes: routes.length,
      applied: deps.replica.applied,
    };
  });
}

const namesIn = (scope: RouteScope): string[] | null => (scope === null ? null : [...scope].sort());

function capabilitiesOf(deps: OperatorApiDeps): string[] {
  const has: readonly (readonly [name: string, isThere: boolean])[] = [
    ["directories", deps.directories.length > 0],
    ["provisioning", deps.provisionedFor !== undefined],
    ["signal-transmitters", deps.signals !== undefined],
    ["signal-receivers", deps.signalStreams !== undefined],
    ["decision-history", deps.history !== null],
    ["past", deps.archive !== undefined],
    ["rechecks", deps.rechecks !== undefined],
    ["routes", deps.routePolicies !== undefined],
  ];
  return [...has.filter(([, isThere]) => isThere).map(([name]) => name), ...(deps.capabilities ?? [])];
}
