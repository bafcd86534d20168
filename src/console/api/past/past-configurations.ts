/**
 * Past configurations: which configurations nodes run now, and ran at a time, from their announcements in the log and
 * in its archive.
 */
import type { LogAtTime } from "../../../audit/index.ts";
import {
  type ConfigHash,
  configurationStream,
  decodeEvents,
  type Link,
  type NodeId,
  type Position,
  type Recorded,
} from "../../../events/index.ts";
import type { ClusterStatus, Databroker } from "../../../replication/index.ts";
import type { LogArchive } from "../../../replication/snapshot/index.ts";

/** A configuration and the nodes that had announced it last. */
export type RunConfiguration = Readonly<{
  configHash: ConfigHash;
  nodes: readonly NodeId[];
  /** The newest announcement; null: it is the one that they run now. */
  position: Position | null;
}>;

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

type Announcements = Readonly<{ databroker: Pick<Databroker, "history" | "status">; archive?: LogArchive }>;

/**
 * The configurations that nodes ran at a time. Announcements before a snapshot are searched for the nodes that the
 * cluster knows now. @throws BrokerUnavailableError
 */
export async function configurationsAt(
  { configs, began }: Pick<LogAtTime, "configs" | "began">,
  from: Announcements,
): Promise<readonly RunConfiguration[]> {
  const found: Announced[] = [...configs].map(([node, { configHash, position }]) => ({ node, configHash, position }));
  if (began.position > 0) found.push(...(await searchBefore(began, new Set(configs.keys()), from)));
  return byHash(found);
}

type Announced = Readonly<{ node: NodeId; configHash: ConfigHash; position: Position | null }>;

/** Backwards, first in the log and then in what the brokers have archived of it. */
async function searchBefore(
  began: Link,
  known: ReadonlySet<NodeId>,
  { databroker, archive }: Announcements,
): Promise<readonly Announced[]> {
  const { nodes, absent = [] } = await databroker.status();
  const names = [...nodes.map(({ node }) => node), ...absent.map(({ node }) => node)];
  const left = new Set(names.filter((node) => !known.has(node)));
  const found: Announced[] = [];
  const note = ({ event, position }: Recorded): void => {
    if (event.type !== "ConfigurationActivated" || !left.delete(event.nodeId)) return;
    found.push({ node: event.nodeId, configHash: event.configHash, position });
  };
  let upTo = began.position;
  let searches = 0;
  for (; left.size > 0 && searches < searchesMax; searches += 1) {
    const streams = [...left].slice(0, 100).map(configurationStream);
    const page = await databroker.history({ streams, upTo, depth: searchDepth });
    for (const { previous, bytes } of page.found.toReversed()) decodeEvents([bytes], previous).forEach(note);
    if (page.damagedAt !== null) return found;
    if (upTo <= page.base || page.searchedTo <= page.base) {
      upTo = page.base;
      break;
    }
    upTo = page.searchedTo;
  }
  const base = upTo < began.position ? (await databroker.history({ streams: [], upTo, depth: 1 })).at : began;
  for (let link = base; link !== null && link.position > 0 && left.size > 0 && searches < searchesMax; searches += 1) {
    const block = (await archive?.eventsUpTo(link)) ?? null;
    for (const recorded of block?.events.toReversed() ?? []) note(recorded);
    link = block?.after ?? null;
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
