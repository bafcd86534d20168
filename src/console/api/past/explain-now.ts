/**
 * What would be decided now: a recorded request, decided with the facts that this node has now and by the configuration
 * that is in force.
 */
import { type PastConfiguration, rederiveDecision } from "../../../audit/index.ts";
import type { DecisionRecord } from "../../../auth/index.ts";
import type { ConfigHash, Link, UnixMs } from "../../../events/index.ts";
import type { ClusterStatus } from "../../../replication/index.ts";
import type { OperatorApiDeps } from "../operator-route.ts";

export type DecidedNow =
  | Readonly<{
      type: "decided";
      result: "permit" | "deny" | "signin" | "not_found";
      reasons: readonly string[];
      /** The rule that decides; null: none does. */
      rule: string | null;
      link: Link;
      configHash: string;
    }>
  /** `why`: what it would depend on, or what is missing. */
  | Readonly<{ type: "open"; why: string; link: Link; configHash: string | null }>;

/** @param shown the routes that the caller may know of; null: all */
export function decideNow(
  record: DecisionRecord,
  {
    deps,
    configuration,
    shown,
  }: Readonly<{
    deps: OperatorApiDeps;
    configuration: PastConfiguration | undefined;
    shown: ReadonlySet<string> | null;
  }>,
): DecidedNow {
  const { replica, recordReaderOf, now } = deps;
  const { applied: link } = replica;
  const configHash = configuration?.configHash ?? null;
  const open = (why: string): DecidedNow => ({ type: "open", why, link, configHash });
  if (recordReaderOf === undefined) return open("this server does not read recorded requests");
  if (configuration === undefined) return open("the text of the configuration in force is not stored");
  const readRecord = recordReaderOf([...configuration.routes.values()].map(({ route }) => route));
  const asked = asNewRequest(record, now());
  const facts = { projection: replica.projection, open: replica.open.bind(replica) };
  const made = rederiveDecision(asked, { facts, configuration, readRecord });
  if (made.type === "unknown") return open(made.why);
  const { answer } = made;
  if (answer !== null) {
    const { result, reasons, rule } = answer;
    return { type: "decided", result, reasons, rule, link, configHash: configuration.configHash };
  }
  const differences = made.type === "different" ? made.differences : [];
  const route = differences.find(({ field }) => field === "route");
  if (route !== undefined) {
    const isShown = shown === null || shown.has(route.derived);
    return open(`the address belongs to another route now${isShown ? `: ${route.derived}` : ""}`);
  }
  const isDenied = differences.some(({ field, derived }) => field === "result" && derived === "not permitted");
  if (!isDenied) return open("it depends on what the record does not hold");
  return { type: "decided", result: "deny", reasons: [], rule: null, link, configHash: configuration.configHash };
}

/** A new request, whose answer does not depend on what became of the recorded one. */
function asNewRequest(record: DecisionRecord, at: UnixMs): DecisionRecord {
  const { trace: _trace, ...request } = record;
  const nothing = { allow: undefined, deny: undefined, rule: undefined, reasons: [] };
  return { ...request, ...nothing, at, occasion: "request", result: "permit", status: 200 };
}

/** The configuration that the node of the record runs now, else the one that most nodes run. */
export function configurationNow({ nodes }: Pick<ClusterStatus, "nodes">, node: string): ConfigHash | null {
  const own = nodes.find((each) => each.node === node)?.configHash;
  if (own !== undefined && own !== null) return own as ConfigHash;
  const counts = new Map<string, number>();
  for (const { configHash } of nodes)
    if (configHash !== null) counts.set(configHash, (counts.get(configHash) ?? 0) + 1);
  const [most] = [...counts].sort((a, b) => b[1] - a[1]);
  return most === undefined ? null : (most[0] as ConfigHash);
}
