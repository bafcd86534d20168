/**
 * History of configurations: `GET /configurations/history`. When each was first and last in force, and since when each
 * node runs which, from the announcements in the log. Searched backwards within bounds.
 */
import {
  type ConfigHash,
  configurationStream,
  decodeEvents,
  type NodeId,
  type Position,
  type Recorded,
  type UnixMs,
} from "../../../events/index.ts";
import type { Databroker } from "../../../replication/index.ts";
import { type ConfigurationView, listConfigurations } from "../operator-configurations.ts";
import type { OperatorApiDeps, RegisterRoute } from "../operator-route.ts";

export type ConfigurationHistory = Readonly<{
  configurations: readonly (Pick<ConfigurationView, "configHash" | "recordedAt" | "nodes"> &
    Readonly<{ firstSeenAt: string | null; lastSeenAt: string | null }>)[];
  nodes: readonly Readonly<{
    node: NodeId;
    configHash: string | null;
    since: string | null;
    position: Position | null;
  }>[];
  drift: boolean;
  searchedTo: number;
}>;

/** An announcement: the node runs this configuration from here on. */
type Announcement = Readonly<{ node: NodeId; configHash: ConfigHash; at: UnixMs; position: Position }>;

const searchDepth = 10_000;
const searchMsMax = 2_000;
const announcementsMax = 10_000;
const streamsMax = 100;

export function registerConfigurationHistory(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /configurations/history", () => readConfigurationHistory(deps));
}

/** @throws BrokerUnavailableError */
async function readConfigurationHistory(
  deps: Pick<OperatorApiDeps, "databroker" | "replica" | "now">,
): Promise<ConfigurationHistory> {
  const [known, { nodes, absent = [] }] = await Promise.all([listConfigurations(deps), deps.databroker.status()]);
  const names = [...new Set([...nodes, ...absent].map(({ node }) => node))];
  const { found, searchedTo } = await announcements(deps, names);
  const running = nodes.map(({ node, configHash }) => {
    const newest = found.find((one) => one.node === node);
    const own = newest !== undefined && newest.configHash === configHash ? newest : undefined;
    return { node, configHash, since: timeOf(own?.at), position: own?.position ?? null };
  });
  const seen = seenTimes(found);
  return {
    configurations: known.map(({ configHash, recordedAt, nodes: now }) => {
      const times = seen.get(configHash);
      const firstSeenAt = timeOf(times?.first ?? recordedAt);
      return {
        configHash,
        recordedAt,
        nodes: now,
        firstSeenAt,
        lastSeenAt: now.length > 0 ? null : timeOf(times?.last),
      };
    }),
    nodes: running.sort((a, b) => (a.node < b.node ? -1 : 1)),
    drift: new Set(nodes.flatMap(({ configHash }) => (configHash === null ? [] : [configHash]))).size > 1,
    searchedTo,
  };
}

/** Newest first. @throws BrokerUnavailableError */
async function announcements(
  {
    databroker,
    replica,
    now,
  }: Readonly<{ databroker: Pick<Databroker, "history">; replica: OperatorApiDeps["replica"]; now: () => number }>,
  names: readonly NodeId[],
): Promise<Readonly<{ found: readonly Announcement[]; searchedTo: number }>> {
  const found: Announcement[] = [];
  const endsAt = now() + searchMsMax;
  const add = ({ event, position, recordedAt }: Recorded): void => {
    if (event.type === "ConfigurationActivated")
      found.push({ node: event.nodeId, configHash: event.configHash, at: recordedAt, position });
  };
  let upTo: Position = replica.applied.position;
  const streams = names.slice(0, streamsMax).map(configurationStream);
  while (streams.length > 0 && upTo > 0 && now() < endsAt && found.length < announcementsMax) {
    const page = await databroker.history({ streams, upTo, depth: searchDepth });
    for (const { previous, bytes } of page.found.toReversed()) decodeEvents([bytes], previous).forEach(add);
    const isOver = page.damagedAt !== null || page.searchedTo <= page.base || page.searchedTo >= upTo;
    upTo = page.searchedTo;
    if (isOver) break;
  }
  return { found, searchedTo: upTo };
}

/** A node leaves a configuration when it announces the next one. */
function seenTimes(
  newestFirst: readonly Announcement[],
): ReadonlyMap<string, Readonly<{ first: UnixMs; last: UnixMs }>> {
  const seen = new Map<string, { first: UnixMs; last: UnixMs }>();
  const leftAt = new Map<NodeId, UnixMs>();
  for (const { node, configHash, at } of newestFirst) {
    const until = leftAt.get(node) ?? at;
    const times = seen.get(configHash);
    if (times === undefined) seen.set(configHash, { first: at, last: until });
    else {
      times.first = at;
      if (until > times.last) times.last = until;
    }
    leftAt.set(node, at);
  }
  return seen;
}

function timeOf(ms: UnixMs | null | undefined): string | null {
  return ms === null || ms === undefined ? null : new Date(ms).toISOString();
}
