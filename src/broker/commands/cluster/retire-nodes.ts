/**
 * Retire nodes: takes nodes off the list of admitted ones, because they will not come back. Pure.
 *
 * It takes no right away. A node that renews afterwards is admitted again, and receipts wait for a lease that may still
 * count as they did before. So a node that the leader hears from is not retired.
 */
import { clusterStream, parseNodeId, retiredAtOnceMax } from "../../../events/index.ts";
import type { AdmittedNode } from "../../../replication/log/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { listIn, MalformedCommandError, textOf } from "../fields.ts";
import { recordChanges, refuseCommand } from "../performed.ts";

const namesMax = 5;

export const retireNodes: CommandDefinition<"retireNodes"> = {
  schema(fields) {
    const region = fields["region"] === null ? null : textOf(fields, "region");
    const nodes = listIn(fields, "nodes").map(parseNodeId);
    if ((region === null) === (nodes.length === 0)) throw new MalformedCommandError("name either nodes or a region");
    if (nodes.length > retiredAtOnceMax) throw new MalformedCommandError("too many nodes");
    return { type: "retireNodes", nodes, region };
  },
  permission: ["operator"],
  access: () => ({ reads: [], writes: [clusterStream] }),
  perform(_projection, { nodes, region }, tools) {
    const named = new Set<string>(nodes);
    const admitted = tools.admittedNodes();
    const chosen = admitted.filter((node) => (region === null ? named.has(node.node) : node.region === region));
    const known = new Set<string>(chosen.map(({ node }) => node));
    const unknown = nodes.filter((node) => !known.has(node));
    if (region !== null && chosen.length === 0)
      return refuseCommand("not-found", `no node or regional broker of region ${region} is known`);
    if (unknown.length > 0) return refuseCommand("not-found", `not known: ${namesOf(unknown)}`);
    const present = chosen.filter(({ answers }) => answers);
    if (present.length > 0) {
      const names = namesOf(present.map(({ node }) => node));
      return refuseCommand("conflict", `still present: ${names}; stop a node before you retire it`);
    }
    const retired = chosen.slice(0, retiredAtOnceMax);
    return recordChanges([{ type: "NodesRetired", nodes: retired.map(entryOf) }], { retired });
  },
};

function entryOf({ node, role, region }: AdmittedNode) {
  return { nodeId: node, role, region };
}

function namesOf(nodes: readonly string[]): string {
  const more = nodes.length - namesMax;
  return `${nodes.slice(0, namesMax).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
