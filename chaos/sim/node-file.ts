/**
 * Node file: the product's configuration file as a simulated node uses it: parsed, policies compiled, routes planned.
 *
 * The routes are written as an operator would write them, so that a decision of the simulation uses the product's whole
 * policy language. All nodes of a seed share one `NodeFiles`, which compiles equal files once.
 */
import { compilePolicies, type Policies } from "../../src/auth/index.ts";
import { type Config, parseConfig } from "../../src/config/index.ts";
import { type CompiledRoutes, compileRoutes } from "../../src/proxy/routing/compiled-route.ts";
import type { RoutePolicy } from "./facts.ts";
import { worldStart } from "./world.ts";

export type NodeConfig = Readonly<{ hash: string; deltaMs: number; routes: readonly RoutePolicy[] }>;
export type CompiledFile = Readonly<{ config: Config; policies: Policies; plans: CompiledRoutes }>;

export class NodeFiles {
  readonly #compiled = new Map<string, CompiledFile>();

  of({ hash, routes }: NodeConfig): CompiledFile {
    const known = this.#compiled.get(hash) ?? compile(routes);
    this.#compiled.set(hash, known);
    return known;
  }
}

const secretOf = (step: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * step + 3) % 256)).toString("base64");
const head = {
  ...{ authenticate_service_url: "https://authenticate.sim.example", address: "127.0.0.1:8443" },
  ...{ insecure_server: true, shared_secret: secretOf(7), cookie_secret: secretOf(11) },
  ...{ idp_provider: "oidc", idp_provider_url: "https://idp.example" },
  ...{ idp_client_id: "sim", idp_client_secret: "sim" },
};

export function hostOf(route: string): string {
  return `${route}.sim.example`;
}

function compile(routes: readonly RoutePolicy[]): CompiledFile {
  const text = JSON.stringify({ ...head, routes: routes.flatMap(writtenAs) }); // JSON is YAML
  const parsed = parseConfig(text, "sim.yaml", { env: {}, readFile: () => ({ ok: false, reason: "there are none" }) });
  if (!parsed.ok)
    throw new Error(`the simulated file is wrong: ${parsed.problems.map(({ problem }) => problem).join("; ")}`);
  const compiled = compilePolicies(parsed.config.routes);
  if (!compiled.ok)
    throw new Error(`a simulated policy is wrong: ${compiled.problems.map(({ problem }) => problem).join("; ")}`);
  const plans = compileRoutes(parsed.config, { chooserOf: () => () => undefined }, { of: () => null });
  return { config: parsed.config, policies: compiled.policies, plans };
}

/** A route with a door becomes two routes: the door precedes it on the same host and receives requests first. */
function writtenAs(policy: RoutePolicy): readonly object[] {
  const { route, precedingGroup } = policy;
  const written = (id: string, rules: Pick<RoutePolicy, "group" | "excludedGroup" | "roundsBelow" | "closesAtMs">) => ({
    ...{ id, from: `https://${hostOf(route)}`, to: "http://upstream.sim.example" },
    ...{ on_stale: policy.onStale, ...(policy.onStale === "serve" ? { stale_grace: `${policy.staleGraceMs}ms` } : {}) },
    policy: rulesOf(rules),
  });
  if (precedingGroup === null) return [written(route, policy)];
  const own = { group: null, excludedGroup: null, roundsBelow: null, closesAtMs: null };
  return [{ ...written(`${route}-door`, { ...own, group: precedingGroup }), prefix: "/" }, written(route, policy)];
}

type Criterion = Readonly<Record<string, unknown>>;

/** A group that is kept out becomes a `deny` rule where another rule permits people, and `nor` alone otherwise. */
function rulesOf({
  group,
  excludedGroup,
  roundsBelow,
  closesAtMs,
}: Pick<RoutePolicy, "group" | "excludedGroup" | "roundsBelow" | "closesAtMs">): object {
  const wanted: Criterion[] = [];
  if (group !== null) wanted.push({ groups: { has: group } });
  if (closesAtMs !== null) wanted.push({ date: { before: new Date(worldStart + closesAtMs).toISOString() } });
  if (roundsBelow !== null)
    return {
      allow: { or: Array.from({ length: roundsBelow }, (_, round) => ({ "claim/round": round })) },
    };
  if (excludedGroup !== null && group === null && closesAtMs === null)
    return { allow: { nor: [{ groups: { has: excludedGroup } }] } };
  return {
    allow: { and: [{ authenticated_user: true }, ...wanted] },
    ...(excludedGroup === null ? {} : { deny: { or: [{ groups: { has: excludedGroup } }] } }),
  };
}
