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
    if (!beginning.test(hash))
      return reply.code(400).send({ error: "name a configuration by its hash, or by at least its first 8 characters" });
    const [found, ...others] = (await listConfigurations(deps)).filter(({ configHash }) => configHash.startsWith(hash));
    if (found === undefined)
      return reply.code(404).send({ error: "no node runs such a configuration, and its text is not stored" });
    if (others.length > 0)
      return reply.code(400).send({ error: "several configurations begin with these characters; add more" });
    const stored = await deps.databroker.configuration(found.configHash);
    if (stored === undefined) {
      const where = found.nodes.length === 0 ? "" : `; it runs on ${found.nodes.join(", ")}`;
      return reply.code(404).send({ error: `the text of configuration ${found.configHash} is not stored${where}` });
    }
    if (!isIntact(stored))
      return reply.code(500).send({ error: "the stored text does not match this hash: it was changed or is damaged" });
    const text: unknown = JSON.parse(configTextOf(stored.body));
    const configuration = confineToRoutes(text, routesInScope(deps, scope));
    return { ...found, configuration } satisfies ConfigurationAnswer;
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

function isIntact({ body, configHash }: StoredConfiguration): boolean {
  return tryParse(() => parseConfigBody(body, configHash), undefined) !== undefined;
}

/** Stored configurations, oldest first, then those that only run. */
async function listConfigurations({ databroker }: OperatorApiDeps): Promise<readonly ConfigurationView[]> {
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
