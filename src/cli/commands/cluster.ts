/** `cardea cluster status|finalize|retire` */
import type { ClusterStatus } from "../../replication/index.ts";
import { connectOperator, type OperatorClient } from "../operator/operator-client.ts";
import { runChange } from "../operator/run-change.ts";
import { operatorOptions, type Parsed, parse, waitOptions } from "../terminal/arguments.ts";
import { clusterProblems, clusterText } from "../terminal/cluster-text.ts";
import { CannotError, type CliCommand, type ExitCode, type Terminal, UsageError } from "../terminal/command.ts";

export const clusterStatus: CliCommand = {
  name: "cluster status",
  usage: "",
  summary:
    "show the leader, the other brokers and every enforcement node: state, position, lag, lease, digest, version",
  help: `STATUS: ok; silent (no renew for a while, its lease may still count); refused (it renews and gets no lease); fenced (its lease has ended); absent
(silent, its lease has ended, and it is neither retired nor said goodbye: see cardea cluster retire). CONFIG is the start of the hash of the
node's configuration. PROVIDER: the identity providers, and whether each answers the process that this command called; ID is what its sessions
name. READS is the highest level of events that the build can read. Exit 1: there is no leader, a node is absent, a region is
cut off, or a node's digest differs from the leader's at the same link.`,
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 0, max: 0 });
    const client = await connectOperator(parsed, terminal);
    try {
      const status = (await client.get("/nodes")) as ClusterStatus;
      terminal.out(parsed.flag("json") ? `${JSON.stringify(status)}\n` : clusterText(status, Date.now()));
      return clusterProblems(status) === 0 ? 0 : 1;
    } finally {
      await client.close();
    }
  },
};

export const clusterFinalize: CliCommand = {
  name: "cluster finalize",
  usage: "[--level N] [--wait [--region [NAME]] [--timeout 10s]]",
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

export const clusterRetire: CliCommand = {
  name: "cluster retire",
  usage: "NODE… | --region REGION",
  summary: "take nodes that will not come back off the list of nodes, so that they are no longer absent",
  help:
    "Retire a node that was removed without a goodbye, such as a lost machine, or every node and regional broker of a region. It takes no right " +
    "away: receipts wait for a lease that may still count, and a node that comes back is admitted again. The command is refused while a node is " +
    "present. The log records it with its actor. It needs level 3: see cardea cluster finalize.",
  async run(args, terminal) {
    const region = { region: { type: "string" } } as const;
    const parsed = parse(args, { ...operatorOptions, ...region }, { min: 0, max: 200 });
    const named = parsed.text("region");
    if ((named === undefined) === (parsed.positionals.length === 0))
      throw new UsageError("name nodes, or a region with --region");
    const client = await connectOperator(parsed, terminal);
    try {
      return named === undefined
        ? await retireNodes(client, parsed, terminal)
        : await retireRegion(client, parsed, terminal, named);
    } finally {
      await client.close();
    }
  },
};

function retireNodes(client: OperatorClient, parsed: Parsed, terminal: Terminal): Promise<ExitCode> {
  const nodes = [...new Set(parsed.positionals)];
  const done = `${nodes.length} ${nodes.length === 1 ? "node" : "nodes"} retired`;
  return runChange(client, parsed, terminal, { path: "/cluster/retire", body: { nodes }, done, unchanged: done });
}

/** One command retires a bounded number of nodes. */
async function retireRegion(
  client: OperatorClient,
  parsed: Parsed,
  terminal: Terminal,
  region: string,
): Promise<ExitCode> {
  for (;;) {
    const done = `region ${region}: nodes retired`;
    const code = await runChange(client, parsed, terminal, {
      path: "/cluster/retire",
      body: { region },
      done,
      unchanged: done,
    });
    const { absent } = (await client.get("/nodes")) as ClusterStatus;
    if (code !== 0 || absent?.some((node) => node.region === region) !== true) return code;
  }
}
