/**
 * Health: what the state of the cluster means, in one sentence, and each node's place in it. Pure.
 *
 * The first rule that applies decides. What is not known is said to be unknown.
 */
import type { NodeStatus } from "../../../replication/index.ts";

/** How something is, each with a shape and a word of its own on pages. */
export type StatusKind = "good" | "waiting" | "fenced" | "bad" | "off";

/** What `GET /nodes` answers, as far as the overview reads it. */
export type ClusterView = Readonly<{
  leader?: Readonly<{ brokerId: string; epoch: number; head: Readonly<{ position: number }> }> | null;
  nodes: readonly Pick<
    NodeStatus,
    | "node"
    | "boot"
    | "region"
    | "role"
    | "version"
    | "applied"
    | "lag"
    | "digest"
    | "configHash"
    | "fencedInMs"
    | "lastGrantAgoMs"
    | "digestMismatch"
  >[];
  absent?:
    | readonly Readonly<{ node: string; boot: string; region: string; role: string; silentMs: number }>[]
    | undefined;
  home?: unknown;
}>;

export type NodeTile = Readonly<{
  node: string;
  boot: string;
  region: string;
  role: string;
  version: string;
  kind: StatusKind;
  position: number | null;
  lag: number | null;
  /** Time (ms) until the node decides nothing without a new lease; null: not known. */
  leaseMs: number | null;
  /** The longest of these times in the cluster: the whole of a bar. */
  windowMs: number;
  configHash: string | null;
  digest: string | null;
}>;

/** A node this far behind is named in the sentence. */
const lagEventsMax = 20;

export function tilesOf({ nodes, absent = [] }: ClusterView): readonly NodeTile[] {
  const windowMs = Math.max(0, ...nodes.map(({ fencedInMs }) => fencedInMs ?? 0));
  const here = nodes.map((node) => ({
    node: node.node,
    boot: node.boot,
    region: node.region,
    role: node.role,
    version: node.version,
    kind: kindOf(node),
    position: node.applied?.position ?? null,
    lag: node.lag,
    leaseMs: node.fencedInMs,
    windowMs,
    configHash: node.configHash,
    digest: node.digest,
  }));
  const away: readonly NodeTile[] = absent.map(({ node, boot, region, role }) => ({
    node,
    boot,
    region,
    role,
    version: "",
    kind: "off",
    position: null,
    lag: null,
    leaseMs: null,
    windowMs,
    configHash: null,
    digest: null,
  }));
  return [...here, ...away];
}

function kindOf({ digestMismatch, fencedInMs, lag }: ClusterView["nodes"][number]): StatusKind {
  if (digestMismatch) return "bad";
  if (fencedInMs !== null && fencedInMs <= 0) return "fenced";
  return lag === null || lag > lagEventsMax ? "waiting" : "good";
}

/** `rule`: the words of the overview that say it; `values`: what they name, in their order. */
export type Health = Readonly<{ kind: StatusKind; rule: HealthRule; values: readonly (string | number)[] }>;
export const healthRules = [
  "unanswered",
  "cutOff",
  "noLeader",
  "noLeaderUnknown",
  "mismatch",
  "fencedOne",
  "fencedMany",
  "unreported",
  "lagging",
  "configurations",
  "noNodes",
  "healthyOne",
  "healthy",
] as const;
export type HealthRule = (typeof healthRules)[number];

export function healthOf(status: ClusterView): Health {
  const { nodes, leader } = status;
  const health = (kind: StatusKind, rule: HealthRule, ...values: readonly (string | number)[]): Health => ({
    kind,
    rule,
    values,
  });
  if (status.home !== undefined) return health("bad", "cutOff");
  if (leader === null || leader === undefined) {
    const left = nodes.flatMap(({ fencedInMs }) => fencedInMs ?? []);
    return left.length === 0
      ? health("bad", "noLeaderUnknown")
      : health("bad", "noLeader", Math.max(0, Math.ceil(Math.max(...left) / 1_000)));
  }
  const mismatch = nodes.find(({ digestMismatch }) => digestMismatch);
  if (mismatch !== undefined) return health("bad", "mismatch", mismatch.node);
  const fenced = nodes.filter(({ fencedInMs }) => fencedInMs !== null && fencedInMs <= 0);
  if (fenced[0] !== undefined)
    return fenced.length === 1
      ? health("fenced", "fencedOne", fenced[0].node)
      : health("fenced", "fencedMany", fenced.length);
  const unreported = nodes.find(({ lag }) => lag === null);
  if (unreported !== undefined) return health("waiting", "unreported", unreported.node);
  const lagging = nodes.toSorted((a, b) => (b.lag ?? 0) - (a.lag ?? 0))[0];
  if (lagging !== undefined && (lagging.lag ?? 0) > lagEventsMax)
    return health("waiting", "lagging", lagging.node, lagging.lag ?? 0);
  const hashes = new Set(nodes.flatMap(({ configHash }) => configHash ?? []));
  if (hashes.size > 1) return health("waiting", "configurations", hashes.size);
  if (nodes.length === 0) return health("waiting", "noNodes");
  const enforced = leader.head.position - (lagging?.lag ?? 0);
  return nodes.length === 1
    ? health("good", "healthyOne", enforced)
    : health("good", "healthy", nodes.length, enforced);
}

/** While no broker answers: what was known of the nodes before may be over. */
export const unansweredHealth: Health = { kind: "bad", rule: "unanswered", values: [] };
export function withoutState(tiles: readonly NodeTile[]): readonly NodeTile[] {
  return tiles.map((tile) => ({ ...tile, kind: "waiting", position: null, lag: null, leaseMs: null }));
}
