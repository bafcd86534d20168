/** Cluster text: the status of a cluster for a terminal, and the number of problems in it. Pure. */
import { type ClusterStatus, type HomeOutOfReach, type RegionLag, regionLags } from "../../replication/index.ts";
import { isLostHistory } from "../../replication/log/index.ts";
import { formatTable, maskControlCharacters } from "./print.ts";

type Node = ClusterStatus["nodes"][number];
type Absent = NonNullable<ClusterStatus["absent"]>[number];

/** A node that renews every second is silent after this time. */
const silentMsMax = 5_000;

/** An identity provider, as the process that answers sees it. */
type Provider = Readonly<{ name: string; title: string; provider: string; idpId: string; status: string }>;
type ShownStatus = ClusterStatus & Readonly<{ signInProviders?: readonly Provider[] }>;

/** What an operator must look at: `cardea cluster status` exits 1 if there is any. */
export function clusterProblems({ leader, nodes, absent, regions }: ClusterStatus): number {
  const mismatches = nodes.filter(({ digestMismatch }) => digestMismatch).length;
  const cutOff = regions?.filter((region) => region.cutOff).length ?? 0;
  return (leader === null ? 1 : 0) + mismatches + cutOff + (absent?.length ?? 0);
}

/** @param nowMs the wall clock of this machine */
export function clusterText(status: ShownStatus, nowMs: number): string {
  const { leader, level, brokers, nodes, home } = status;
  if (leader === null) {
    const first = home === undefined ? "no leader\n" : homeText(home, nowMs);
    return nodes.length === 0 ? first : [first, copiedText(nodes), nodeTable(status)].join("");
  }
  const { brokerId, epoch, head, durability, digest, version, reads } = leader;
  const first = `leader ${brokerId}  epoch ${epoch}  position ${head.position}  digest ${digest.slice(0, 12)}  level ${level}  durability ${durability ?? "?"}\n`;
  const brokerRows = [
    [brokerId, version, String(reads), "leads"],
    ...brokers.map((b) => [b.brokerId, b.version, String(b.reads), `${ago(b.heardAgoMs)}`]),
  ];
  return [
    first,
    snapshotText(leader, nowMs),
    formatTable(["BROKER", "VERSION", "READS", "HEARD"], brokerRows),
    regionTable(status.regions ?? regionLags(nodes)),
    copiedText(nodes),
    nodeTable(status),
    providerTable(status.signInProviders ?? []),
  ].join("");
}

function providerTable(providers: readonly Provider[]): string {
  if (providers.length === 0) return "";
  const rows = providers.map(({ name, provider, status, idpId, title }) => [name, provider, status, idpId, title]);
  return formatTable(["PROVIDER", "KIND", "STATUS", "ID", "TITLE"], rows);
}

/** In a region whose brokers do not reach the home region. */
function homeText({ region, silentMs, leasesUntil, lastKnown }: HomeOutOfReach, nowMs: number): string {
  const since = silentMs === null ? "since this broker started" : `for ${duration(silentMs)}`;
  const until = leasesUntil === null ? "there are no leases by age" : `leases by age until ${clock(leasesUntil)}`;
  const first = `region ${maskControlCharacters(region)}: home out of reach ${since}; ${until}\n`;
  if (lastKnown === null) return `${first}the state of the other regions is not known\n`;
  return `${first}as last known ${ago(Math.max(0, nowMs - lastKnown.at))}:\n${regionTable(lastKnown.regions)}`;
}

function nodeTable({ nodes, absent = [] }: ClusterStatus): string {
  const absentNames = new Set(absent.map(nameOf));
  const present = nodes.filter((node) => !absentNames.has(nameOf(node)) || (node.fencedInMs ?? 1) > 0);
  return formatTable(
    ["NODE", "REGION", "ROLE", "STATUS", "VERSION", "READS", "APPLIED", "LAG", "LEASE", "DIGEST", "CONFIG"],
    [...present.map(nodeRow), ...absent.map(absentRow)],
  );
}

function nodeRow(n: Node): readonly string[] {
  return [
    n.node,
    n.region,
    n.role,
    statusOf(n),
    n.version,
    n.reads === null ? "?" : String(n.reads),
    n.applied === null ? "?" : String(n.applied.position),
    n.lag === null ? "?" : String(n.lag),
    isLostHistory(n)
      ? `possibly for ${Math.ceil((n.fencedInMs ?? 0) / 1_000)} s`
      : n.lastGrantAgoMs === null
        ? "never"
        : ago(n.lastGrantAgoMs),
    n.digestMismatch ? "MISMATCH" : (n.digest ?? "").slice(0, 12),
    (n.configHash ?? "?").slice(0, 12),
  ];
}

function absentRow({ node, region, role, applied, heardAt, silentMs }: Absent): readonly string[] {
  const heard = `heard ${clock(heardAt)}, ${duration(silentMs)} ago`;
  return [node, region, role, "absent", "?", "?", String(applied), "?", heard, "", "?"];
}

function statusOf(node: Node): string {
  const { refusal, heardAgoMs, lastGrantAgoMs, fencedInMs } = node;
  if (isLostHistory(node)) return "unknown";
  if (refusal !== null) return "refused";
  if (fencedInMs !== null && fencedInMs <= 0 && lastGrantAgoMs !== null) return "fenced";
  const silentMs = heardAgoMs ?? lastGrantAgoMs;
  if (silentMs === null) return "not heard";
  return silentMs > silentMsMax ? `silent ${duration(silentMs)}` : "ok";
}

/** Empty if each node is one process. */
function copiedText(nodes: ClusterStatus["nodes"]): string {
  return nodes
    .filter(({ boot, twin }) => twin !== null && boot < twin)
    .map(({ node, boot, twin }) => `COPIED  node ${node} runs twice: boots ${boot} and ${twin}; stop one of them\n`)
    .join("");
}

/** Empty if the leader takes no snapshots. */
function snapshotText({ head, snapshots }: NonNullable<ClusterStatus["leader"]>, nowMs: number): string {
  if (snapshots === undefined) return "";
  const [newest] = snapshots;
  if (newest === undefined) return "snapshot none yet\n";
  const taken = ago(Math.max(0, nowMs - newest.takenAt));
  return `snapshot at ${newest.position}  ${head.position - newest.position} events ago  taken ${taken}  ${snapshots.length} kept\n`;
}

/** Empty if there is only one region. */
function regionTable(regions: readonly RegionLag[]): string {
  if (regions.length < 2) return "";
  const rows = regions.map(({ region, brokers, nodes: count, fenced, absent, cutOff, lag, silentMs }) => [
    region,
    String(brokers),
    String(count),
    String(fenced),
    lag === null ? "?" : String(lag),
    silentMs === null ? "never" : ago(silentMs),
    cutOff ? "CUT OFF" : absent > 0 ? `${absent} absent` : "ok",
  ]);
  return formatTable(["REGION", "BROKERS", "NODES", "FENCED", "LAG", "OLDEST LEASE", "STATUS"], rows);
}

function nameOf({ node, role }: Readonly<{ node: string; role: string }>): string {
  return JSON.stringify([node, role]);
}

function ago(ms: number): string {
  return `${duration(ms)} ago`;
}

/** `4.2 s`, `12 min`, `3.5 h`, `9 d` */
function duration(ms: number): string {
  const hours = ms / 3_600_000;
  if (ms < 120_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (hours < 2) return `${Math.round(ms / 60_000)} min`;
  return hours < 48 ? `${hours.toFixed(1)} h` : `${Math.round(hours / 24)} d`;
}

function clock(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19)}Z`;
}
