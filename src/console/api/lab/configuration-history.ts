/**
 * History of configurations: `GET /configurations/history`. When each was first and last in force, and since when each
 * node runs which, from the announcements in the log. Searched backwards within bounds.
 */
import {
  type ConfigHash,
  configurationStream,
  decodeEvents,
  type Link,
  type NodeId,
  type Position,
  type Stream,
  sameLink,
  type UnixMs,
} from "../../../events/index.ts";
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
  const search = createAnnouncementSearch(deps);
  route("GET /configurations/history", () => readConfigurationHistory(deps, search));
}

/** @throws BrokerUnavailableError */
async function readConfigurationHistory(
  deps: Pick<OperatorApiDeps, "databroker">,
  search: AnnouncementSearch,
): Promise<ConfigurationHistory> {
  const [known, { nodes, absent = [] }] = await Promise.all([listConfigurations(deps), deps.databroker.status()]);
  const names = [...new Set([...nodes, ...absent].map(({ node }) => node))];
  const { found, searchedTo } = await search(names);
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

/** The announcements of these nodes, newest first. @throws BrokerUnavailableError */
type AnnouncementSearch = (names: readonly NodeId[]) => Promise<Searched>;
type Searched = Readonly<{ found: readonly Announcement[]; searchedTo: number }>;

/**
 * Remembers what the last search found, at most `announcementsMax` announcements of about 200 bytes. The next one reads
 * only what has been recorded since, and below where the last one had to stop.
 */
function createAnnouncementSearch({
  databroker,
  replica,
  now,
}: Pick<OperatorApiDeps, "databroker" | "replica" | "now">): AnnouncementSearch {
  let last: (Searched & Readonly<{ of: string; head: Link }>) | null = null;

  async function scan(
    streams: readonly Stream[],
    { from, floor, endsAt }: Readonly<{ from: number; floor: number; endsAt: number }>,
  ): Promise<Searched & Readonly<{ isWhole: boolean }>> {
    const found: Announcement[] = [];
    let upTo = from;
    while (upTo > floor) {
      if (streams.length === 0 || now() >= endsAt || found.length >= announcementsMax)
        return { found, searchedTo: upTo, isWhole: false };
      const depth = Math.min(searchDepth, upTo - floor);
      const page = await databroker.history({ streams: [...streams], upTo: upTo as Position, depth });
      for (const { previous, bytes } of page.found.toReversed())
        for (const { event, position, recordedAt } of decodeEvents([bytes], previous))
          if (event.type === "ConfigurationActivated")
            found.push({ node: event.nodeId, configHash: event.configHash, at: recordedAt, position });
      const isOver = page.damagedAt !== null || page.searchedTo <= page.base || page.searchedTo >= upTo;
      upTo = page.searchedTo;
      if (isOver) return { found, searchedTo: upTo, isWhole: upTo <= floor };
    }
    return { found, searchedTo: upTo, isWhole: true };
  }

  /** What was found before, if it is of the same nodes and of this history. */
  async function remembered(of: string, head: Link): Promise<typeof last> {
    const before = last;
    if (before === null || before.of !== of || before.head.position > head.position) return null;
    const { at } = await databroker.history({ streams: [], upTo: before.head.position, depth: 1 });
    return at !== null && sameLink(at, before.head) ? before : null;
  }

  return async (names) => {
    const streams = names.slice(0, streamsMax).map(configurationStream);
    const of = [...streams].sort().join(" ");
    const head = replica.applied;
    const endsAt = now() + searchMsMax;
    const before = await remembered(of, head);
    const newer = await scan(streams, { from: head.position, floor: before?.head.position ?? 0, endsAt });
    if (before === null || !newer.isWhole) {
      last = { ...newer, of, head };
      return newer;
    }
    const known = [...newer.found, ...before.found];
    const older = await scan(streams, {
      from: known.length >= announcementsMax ? 0 : before.searchedTo,
      floor: 0,
      endsAt,
    });
    const found = [...known, ...older.found].slice(0, announcementsMax);
    const searchedTo = known.length >= announcementsMax ? before.searchedTo : older.searchedTo;
    last = { found, searchedTo, of, head };
    return { found, searchedTo };
  };
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
