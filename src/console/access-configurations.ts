/** Access configurations: the configurations that nodes ran at a time, and the policies of their routes. */
import type { LogAtTime } from "../audit/index.ts";
import { AnyRecords, compilePolicies, type RoutePolicy } from "../auth/index.ts";
import type { RouteConfig } from "../config/index.ts";
import {
  type ConfigHash,
  configTextOf,
  configurationStream,
  decodeEvents,
  type NodeId,
  type Position,
  parseConfigBody,
} from "../events/index.ts";
import type { ClusterStatus, Databroker } from "../replication/index.ts";

/** A configuration and the nodes that had announced it last. */
export type RunConfiguration = Readonly<{
  configHash: ConfigHash;
  nodes: readonly NodeId[];
  /** The newest announcement; null: it is the one that they run now. */
  position: Position | null;
}>;

export type ReportedRoute = Readonly<{
  id: string;
  name: string;
  from: string;
  policy: RoutePolicy | null;
  problem: string | null;
}>;

/** Configurations of one report: the newest count. */
export const configurationsMax = 8;
const searchesMax = 500;
const searchDepth = 10_000;

/** The configurations that nodes run now. */
export function configurationsNow({ nodes }: Pick<ClusterStatus, "nodes">): readonly RunConfiguration[] {
  return byHash(
    nodes.flatMap(({ node, configHash }) =>
      configHash === null ? [] : [{ node, configHash: configHash as ConfigHash, position: null }],
    ),
  );
}

/**
 * The configurations that nodes ran at a time. Announcements before a snapshot are searched for the nodes that the
 * cluster knows now. @throws BrokerUnavailableError
 */
export async function configurationsAt(
  { configs, base }: Pick<LogAtTime, "configs" | "base">,
  databroker: Pick<Databroker, "history" | "status">,
): Promise<readonly RunConfiguration[]> {
  const found: Announced[] = [...configs].map(([node, { configHash, position }]) => ({ node, configHash, position }));
  if (base > 0) found.push(...(await searchBefore(base, new Set(configs.keys()), databroker)));
  return byHash(found);
}

type Announced = Readonly<{ node: NodeId; configHash: ConfigHash; position: Position | null }>;

async function searchBefore(
  base: Position,
  known: ReadonlySet<NodeId>,
  databroker: Pick<Databroker, "history" | "status">,
): Promise<readonly Announced[]> {
  const { nodes, absent = [] } = await databroker.status();
  const names = [...nodes.map(({ node }) => node), ...absent.map(({ node }) => node)];
  const left = new Set(names.filter((node) => !known.has(node)));
  const found: Announced[] = [];
  let upTo = base;
  for (let searches = 0; left.size > 0 && searches < searchesMax; searches += 1) {
    const streams = [...left].slice(0, 100).map(configurationStream);
    const page = await databroker.history({ streams, upTo, depth: searchDepth });
    for (const { previous, bytes } of page.found.toReversed())
      for (const { event, position } of decodeEvents([bytes], previous)) {
        if (event.type !== "ConfigurationActivated" || !left.delete(event.nodeId)) continue;
        found.push({ node: event.nodeId, configHash: event.configHash, position });
      }
    if (page.damagedAt !== null || page.searchedTo <= page.base) break;
    upTo = page.searchedTo;
  }
  return found;
}

function byHash(announced: readonly Announced[]): readonly RunConfiguration[] {
  const all = new Map<ConfigHash, { nodes: NodeId[]; position: Position | null }>();
  for (const { node, configHash, position } of announced) {
    const known = all.get(configHash) ?? { nodes: [], position };
    known.nodes.push(node);
    if (position !== null && (known.position ?? 0) < position) known.position = position;
    all.set(configHash, known);
  }
  return [...all]
    .map(([configHash, { nodes, position }]) => ({ configHash, nodes: nodes.sort(), position }))
    .sort((a, b) => (b.position ?? 0) - (a.position ?? 0) || (a.configHash < b.configHash ? -1 : 1));
}

/** The routes of a stored configuration, each with its policy. Undefined: its text is not stored. */
export async function routesOf(
  configHash: ConfigHash,
  databroker: Pick<Databroker, "configuration">,
): Promise<readonly ReportedRoute[] | undefined> {
  const stored = await databroker.configuration(configHash);
  if (stored === undefined) return undefined;
  parseConfigBody(stored.body, configHash); // the text is that of the hash
  const { routes } = JSON.parse(configTextOf(stored.body)) as Readonly<{ routes: readonly StoredRoute[] }>;
  return routes.map(compileStored);
}

type StoredRoute = Omit<RouteConfig, "policy" | "subPolicies" | "from"> &
  Readonly<{ from: string; policy: unknown; subPolicies?: readonly Readonly<{ policy: unknown }>[] }>;

/** The stored text has the policies as data, without the places in their file. */
function compileStored(stored: StoredRoute): ReportedRoute {
  const { id, name, from } = stored;
  const location = { file: "stored configuration", line: 0, column: 0 };
  const written = (ppl: unknown): RouteConfig["policy"] => (ppl === null ? null : { ppl, location });
  const route = {
    ...stored,
    location,
    policy: written(stored.policy),
    shadowPolicy: null,
    subPolicies: (stored.subPolicies ?? []).map((sub) => ({ ...sub, policy: written(sub.policy) })),
  } as unknown as RouteConfig;
  const compiled = compilePolicies([route], { records: new AnyRecords() });
  if (compiled.ok) return { id, name, from, policy: compiled.policies.get(id) ?? null, problem: null };
  return { id, name, from, policy: null, problem: compiled.problems[0]?.problem ?? "it cannot be compiled" };
}
