/** Configurations for operators: the known hashes, the nodes that run them, and their texts without secrets. */
import {
  type ConfigHash,
  type ConfigurationEntry,
  configTextOf,
  type NodeId,
  parseConfigBody,
  type StoredConfiguration,
  type UnixMs,
} from "../../events/index.ts";
import { type OperatorApiDeps, type RegisterRoute, tryParse } from "./operator-route.ts";
import { routesInScope } from "./roles/scope-of-groups.ts";

export type ConfigurationView = Readonly<{
  configHash: ConfigHash;
  /** When its text was stored; null: a node runs it, and its text is not stored. */
  recordedAt: UnixMs | null;
  /** Bytes of the stored text; null: not stored. */
  bytes: number | null;
  /** The nodes that run it now. */
  nodes: readonly NodeId[];
}>;
export type ConfigurationAnswer = ConfigurationView & Readonly<{ configuration: unknown }>;

const beginning = /^[0-9a-f]{8,64}$/;

export function registerConfigurations(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /configurations", async () => ({ configurations: await listConfigurations(deps) }));

  route("GET /configurations/:hash", async (request, reply, { scope }) => {
    const { hash } = request.params as { hash: string };
    const found = await findConfiguration(deps, hash);
    if ("error" in found) return reply.code(found.status).send({ error: found.error });
    const text: unknown = JSON.parse(configTextOf(found.stored.body));
    const configuration = confineToRoutes(text, routesInScope(deps, scope));
    return { ...found.view, configuration } satisfies ConfigurationAnswer;
  });
}

/** For a role that is limited: the routes in its scope, and no other setting. @param ids null: everything */
function confineToRoutes(configuration: unknown, ids: ReadonlySet<string> | null): unknown {
  if (ids === null) return configuration;
  const { routes } = (typeof configuration === "object" && configuration !== null ? configuration : {}) as {
    routes?: unknown;
  };
  const isShown = (route: unknown): boolean =>
    typeof route === "object" && route !== null && "id" in route && ids.has(String(route.id));
  return { routes: Array.isArray(routes) ? routes.filter(isShown) : [] };
}

export type FoundConfiguration = Readonly<
  { view: ConfigurationView; stored: StoredConfiguration } | { status: 400 | 404 | 500; error: string }
>;

/** A stored configuration by its hash, or by at least 8 characters of its start. @throws BrokerUnavailableError */
export async function findConfiguration(
  deps: Pick<OperatorApiDeps, "databroker">,
  hash: string,
): Promise<FoundConfiguration> {
  if (!beginning.test(hash))
    return { status: 400, error: "name a configuration by its hash, or by at least its first 8 characters" };
  const [view, ...others] = (await listConfigurations(deps)).filter(({ configHash }) => configHash.startsWith(hash));
  if (view === undefined)
    return { status: 404, error: "no node runs such a configuration, and its text is not stored" };
  if (others.length > 0) return { status: 400, error: "several configurations begin with these characters; add more" };
  const stored = await deps.databroker.configuration(view.configHash);
  if (stored === undefined) {
    const where = view.nodes.length === 0 ? "" : `; it runs on ${view.nodes.join(", ")}`;
    return { status: 404, error: `the text of configuration ${view.configHash} is not stored${where}` };
  }
  if (!isIntact(stored))
    return { status: 500, error: "the stored text does not match this hash: it was changed or is damaged" };
  return { view, stored };
}

function isIntact({ body, configHash }: StoredConfiguration): boolean {
  return tryParse(() => parseConfigBody(body, configHash), undefined) !== undefined;
}

/** Stored configurations, oldest first, then those that only run. */
export async function listConfigurations({
  databroker,
}: Pick<OperatorApiDeps, "databroker">): Promise<readonly ConfigurationView[]> {
  const [kept, { nodes }] = await Promise.all([databroker.configurations(), databroker.status()]);
  const running = new Map<string, NodeId[]>();
  for (const { node, configHash } of nodes)
    if (configHash !== null) running.set(configHash, [...(running.get(configHash) ?? []), node]);
  const view = (configHash: ConfigHash, place: ConfigurationEntry | null): ConfigurationView => ({
    configHash,
    recordedAt: place?.recordedAt ?? null,
    bytes: place?.bytes ?? null,
    nodes: (running.get(configHash) ?? []).sort(),
  });
  const hashes = new Set<string>(kept.map(({ configHash }) => configHash));
  const unkept = [...running.keys()].filter((hash) => !hashes.has(hash)).sort();
  return [
    ...kept.map((place) => view(place.configHash, place)),
    ...unkept.map((hash) => view(hash as ConfigHash, null)),
  ];
}
