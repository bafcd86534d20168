/** `cardea audit status`: how many audit records each sink of each node does not have. */
import type { HeardStatus } from "../../audit/index.ts";
import { connectOperator } from "../operator/operator-client.ts";
import { operatorOptions, parse } from "../terminal/arguments.ts";
import type { CliCommand } from "../terminal/command.ts";
import { formatTable, maskControlCharacters } from "../terminal/print.ts";

type AuditStatus = Readonly<{
  blind: number;
  nodes: readonly (HeardStatus & Readonly<{ silent: boolean }>)[];
  unheard: readonly string[] | null;
  missing: number | null;
  refused: number | null;
}>;

export const auditStatus: CliCommand = {
  name: "audit status",
  usage: "",
  summary: "show how many audit records each sink of each node does not have",
  help: `BLIND is WAITING, LOST and REJECTED together: records that wait in memory or in the spool, that are declared lost, and that the sink rejected (dead letters),
since the node started. LAG is the age of the oldest that waits. STATE: ok; failing (the sink does not accept records); refusing (strict routes answer 503);
silent (the node has not reported for 45 seconds, so its numbers are old). Without the sink nats, only the process that answers is shown.
Exit 1: a sink is failing, strict routes are refused, or a node is silent or was never heard.`,
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 0, max: 0 });
    const client = await connectOperator(parsed, terminal);
    try {
      const status = (await client.get("/audit/status")) as AuditStatus;
      terminal.out(parsed.flag("json") ? `${JSON.stringify(status)}\n` : statusText(status));
      return hasProblem(status) ? 1 : 0;
    } finally {
      await client.close();
    }
  },
};

const head = ["NODE", "REGION", "SINK", "BLIND", "WAITING", "LOST", "REJECTED", "LAG", "STATE"] as const;

function statusText(status: AuditStatus): string {
  const rows = status.nodes.flatMap((node) =>
    node.sinks.map((sink) => [
      node.node,
      node.region,
      sink.name,
      ...[sink.blind, sink.waiting, sink.lost, sink.deadLetters].map(String),
      `${Math.round(sink.lagMs / 1_000)} s`,
      stateOf(node, sink.failing),
    ]),
  );
  const table = rows.length === 0 ? "no process that has reported has a sink\n" : formatTable(head, rows);
  const unheard = status.unheard ?? [];
  const lines = [
    `blind: ${status.blind} records`,
    ...(status.missing === null ? [] : [`missing in the audit stream: ${status.missing}; refused: ${status.refused}`]),
    ...(status.unheard === null ? ["other nodes are not known: there is no sink nats, or no leader"] : []),
    ...(unheard.length === 0 ? [] : [`not heard: ${maskControlCharacters(unheard.join(", "))}`]),
  ];
  return `${table}${lines.join("\n")}\n`;
}

function stateOf({ silent, refusal, heardAgoMs }: AuditStatus["nodes"][number], isFailing: boolean): string {
  if (silent) return `silent for ${Math.round(heardAgoMs / 1_000)} s`;
  const states = [...(isFailing ? ["failing"] : []), ...(refusal === null ? [] : [`refusing (${refusal})`])];
  return states.length === 0 ? "ok" : states.join(", ");
}

function hasProblem({ nodes, unheard }: AuditStatus): boolean {
  if (unheard !== null && unheard.length > 0) return true;
  return nodes.some(({ silent, refusal, sinks }) => silent || refusal !== null || sinks.some(({ failing }) => failing));
}
