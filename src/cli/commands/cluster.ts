/** `cardea cluster status|finalize` */
import { type ClusterStatus, regionLags } from "../../replication/index.ts";
import { isLostHistory } from "../../replication/log/index.ts";
import { connectOperator } from "../operator/operator-client.ts";
import { runChange } from "../operator/run-change.ts";
import { operatorOptions, parse, waitOptions } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, UsageError } from "../terminal/command.ts";
import { formatTable } from "../terminal/print.ts";

export const clusterStatus: CliCommand = {
  name: "cluster status",
  usage: "",
  summary: "show the leader, the other brokers and every enforcement node: position, lag, lease, digest, version",
  help: "CONFIG is the start of the hash of the node's configuration. READS is the highest level of events that the build can read. Exit 1: there is\nno leader, or a node's digest differs from the leader's at the same link.",
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 0, max: 0 });
    const client = await connectOperator(parsed, terminal);
    try {
      const status = (await client.get("/nodes")) as ClusterStatus;
      terminal.out(parsed.flag("json") ? `${JSON.stringify(status)}\n` : statusText(status));
      return status.leader === null || status.nodes.some((n) => n.digestMismatch) ? 1 : 0;
    } finally {
      await client.close();
    }
  },
};

export const clusterFinalize: CliCommand = {
  name: "cluster finalize",
  usage: "[--level N] [--wait [--region] [--timeout 10s]]",
  summary: "finish an upgrade: allow events that only the new version can read",
  help:
    "This is final: an older build can neither hold a lease nor lead afterwards. The command is refused, with their names, while a present " +
    "broker or node cannot read the level. Without --level the level is the one that the leader reads.",
  async run(args, terminal) {
    const level = { level: { type: "string" } } as const;
    const parsed = parse(args, { ...operatorOptions, ...waitOptions, ...level }, { min: 0, max: 0 });
    const given = parsed.text("level");
    if (given !== undefined && !/^[1-9]\d{0,5}$/.test(given))
      throw new UsageError(`--level ${given}: write a whole number from 1`);
    const client = await connectOperator(parsed, terminal);
    try {
      const { leader } = (await client.get("/nodes")) as ClusterStatus;
      if (leader === null) throw new CannotError("no broker leads at the moment");
      const wanted = given === undefined ? leader.reads : Number(given);
      return await runChange(client, parsed, terminal, {
        path: "/cluster/finalize",
        body: { level: wanted },
        done: `level ${wanted} is finalized`,
        unchanged: `level ${wanted} is already finalized`,
      });
    } finally {
      await client.close();
    }
  },
};

function statusText({ leader, level, brokers, nodes }: ClusterStatus): string {
  if (leader === null) return "no leader\n";
  const { brokerId, epoch, head, durability, digest, version, reads } = leader;
  const first = `leader ${brokerId}  epoch ${epoch}  position ${head.position}  digest ${digest.slice(0, 12)}  level ${level}  durability ${durability ?? "?"}\n`;
  const brokerRows = [
    [brokerId, version, String(reads), "leads"],
    ...brokers.map((b) => [b.brokerId, b.version, String(b.reads), `${ago(b.heardAgoMs)}`]),
  ];
  const nodeRows = nodes.map((n) => [
    n.node,
    n.region,
    n.role,
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
  ]);
  return [
    first,
    snapshotText(leader),
    formatTable(["BROKER", "VERSION", "READS", "HEARD"], brokerRows),
    regionTable(nodes),
    copiedText(nodes),
    formatTable(
      ["NODE", "REGION", "ROLE", "VERSION", "READS", "APPLIED", "LAG", "LEASE", "DIGEST", "CONFIG"],
      nodeRows,
    ),
  ].join("");
}

/** Empty if each node is one process. */
function copiedText(nodes: ClusterStatus["nodes"]): string {
  return nodes
    .filter(({ boot, twin }) => twin !== null && boot < twin)
    .map(({ node, boot, twin }) => `COPIED  node ${node} runs twice: boots ${boot} and ${twin}; stop one of them\n`)
    .join("");
}

/** Empty if the leader takes no snapshots. */
function snapshotText({ head, snapshots }: NonNullable<ClusterStatus["leader"]>): string {
  if (snapshots === undefined) return "";
  const [newest] = snapshots;
  if (newest === undefined) return "snapshot none yet\n";
  const taken = ago(Math.max(0, Date.now() - newest.takenAt));
  return `snapshot at ${newest.position}  ${head.position - newest.position} events ago  taken ${taken}  ${snapshots.length} kept\n`;
}

/** Empty if there is only one region. */
function regionTable(nodes: ClusterStatus["nodes"]): string {
  const regions = regionLags(nodes);
  if (regions.length < 2) return "";
  const rows = regions.map(({ region, brokers, nodes: count, fenced, lag, silentMs }) => [
    region,
    String(brokers),
    String(count),
    String(fenced),
    lag === null ? "?" : String(lag),
    silentMs === null ? "never" : ago(silentMs),
  ]);
  return formatTable(["REGION", "BROKERS", "NODES", "FENCED", "LAG", "OLDEST LEASE"], rows);
}

function ago(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s ago`;
}
