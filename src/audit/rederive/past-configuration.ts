/**
 * Past configuration: the routes and policies of a stored configuration, ready to decide again. Pure.
 *
 * The stored text has the policies as data, without their places in a file. Secrets in it are digests, and so may be
 * text of a policy that looks like the query of a URL: such a policy does not count as the one that decided.
 */
import { AnyRecords, compilePolicies, type Policies, type RoutePolicy } from "../../auth/index.ts";
import { type Config, defaultProviderName, type RouteConfig, signInClientsOf } from "../../config/index.ts";
import { type ConfigHash, configTextOf, parseConfigBody, type StoredConfiguration } from "../../events/index.ts";

export type PastRoute = Readonly<{
  route: RouteConfig;
  /** Null: it cannot be compiled, for the reason in `problem`. */
  policy: RoutePolicy | null;
  problem: string | null;
}>;

export type PastConfiguration = Readonly<{
  configHash: ConfigHash;
  /** In the order of the file, by id. */
  routes: ReadonlyMap<string, PastRoute>;
  /** Whose sessions count on a route; null: unknown. */
  idpIdsOf: (route: RouteConfig) => ReadonlySet<string> | null;
}>;

/** A route as canonical JSON has it. Fields that an older build did not have are missing. */
export type StoredRoute = Omit<RouteConfig, "policy" | "subPolicies" | "from"> &
  Readonly<{ from: string; policy: unknown; subPolicies?: readonly Readonly<{ policy: unknown }>[] }>;
type StoredText = Readonly<{
  routes: readonly StoredRoute[];
  idp?: Config["idp"];
  signInProviders?: readonly Config["signInProviders"][number][];
  defaultSignInProviders?: readonly string[];
}>;

const redactedText = "hmac-sha256:";

/** @throws MalformedConfigBodyError unless the text is that of the hash */
export function readStoredConfiguration({ body, configHash }: StoredConfiguration): PastConfiguration {
  const text = configTextOf(parseConfigBody(body, configHash));
  const stored = JSON.parse(text) as StoredText;
  const routes = new Map<string, PastRoute>();
  for (const route of stored.routes) {
    const read = compileRoute(reviveRoute(route));
    if (!routes.has(read.route.id)) routes.set(read.route.id, read);
  }
  return { configHash, routes, idpIdsOf: signInOf(stored, [...routes.values()]) };
}

/** The configuration of this process. */
export function pastConfigurationOf(
  config: Pick<Config, "hash" | "routes" | "signInProviders" | "defaultSignInProviders">,
  policies: Policies,
): PastConfiguration {
  const clients = signInClientsOf(config);
  const routes = config.routes.map((route): readonly [string, PastRoute] => {
    const policy = policies.get(route.id) ?? null;
    return [route.id, { route, policy, problem: policy === null ? "it has no policy" : null }];
  });
  return { configHash: config.hash, routes: new Map(routes), idpIdsOf: (route) => clients.ofRoute(route).allows };
}

/** A route as its stored text has it, with its policies as data. */
export function reviveRoute(stored: StoredRoute): RouteConfig {
  const location = { file: "stored configuration", line: 0, column: 0 };
  const written = (ppl: unknown): RouteConfig["policy"] =>
    ppl === null || ppl === undefined ? null : { ppl, location };
  const { from } = stored;
  return {
    ...stored,
    from: URL.canParse(from) ? new URL(from) : from,
    location,
    policy: written(stored.policy),
    shadowPolicy: null,
    subPolicies: (stored.subPolicies ?? []).map((sub) => ({ ...sub, policy: written(sub.policy) })),
    idpClient: stored.idpClient ?? null,
    signInProviders: stored.signInProviders ?? null,
  } as unknown as RouteConfig;
}

/** The configuration with another policy of one route; the shorthands of the route stay. */
export function withRoutePolicy(configuration: PastConfiguration, routeId: string, ppl: unknown): PastConfiguration {
  const routes = new Map(configuration.routes);
  const known = routes.get(routeId);
  const location = { file: "policy", line: 0, column: 0 };
  if (known !== undefined) routes.set(routeId, compileRoute({ ...known.route, policy: { ppl, location } }));
  return { ...configuration, routes };
}

function compileRoute(route: RouteConfig): PastRoute {
  const rules = [route.policy?.ppl, route.subPolicies.map(({ policy }) => policy?.ppl)];
  const lists = [route.allowedUsers, route.allowedDomains, route.allowedIdpClaims];
  if (JSON.stringify([rules, lists]).includes(redactedText))
    return { route, policy: null, problem: "its text has redacted parts" };
  const compiled = compilePolicies([route], { records: new AnyRecords() });
  if (compiled.ok) return { route, policy: compiled.policies.get(route.id) ?? null, problem: null };
  return { route, policy: null, problem: compiled.problems[0]?.problem ?? "it cannot be compiled" };
}

function signInOf(stored: StoredText, routes: readonly PastRoute[]): PastConfiguration["idpIdsOf"] {
  const { idp, signInProviders: named = [], defaultSignInProviders } = stored;
  if (idp === undefined) return () => null;
  const main = idp === null ? [] : [{ ...idp, name: defaultProviderName }];
  const providers = [...main, ...named].map((provider) => ({ ...provider, url: new URL(String(provider.url)) }));
  const clients = signInClientsOf({
    signInProviders: providers as unknown as Config["signInProviders"],
    defaultSignInProviders: defaultSignInProviders ?? [defaultProviderName],
    routes: routes.map(({ route }) => route),
  });
  return (route) => clients.ofRoute(route).allows;
}
