/**
 * Audit status: `GET /audit/status`, how many records each sink of each node does not have.
 *
 * A node that holds a lease and has not reported is named in `unheard`: nothing is known of its sinks. Without the sink
 * `nats` no other process reports.
 */
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";
import type { OperatorApiDeps, RegisterRoute } from "../operator-route.ts";

/** A report is sent every ten seconds. */
const silentMs = 45_000;

export function registerAuditStatus(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /audit/status", async () => {
    const nodes = deps.auditStatus().map((one) => ({ ...one, silent: one.heardAgoMs > silentMs }));
    const heard = new Set(nodes.map(({ node }) => node));
    const status = await deps.databroker.status().catch((error: unknown) => {
      if (error instanceof BrokerUnavailableError) return null;
      throw error;
    });
    const counts = deps.auditCounts();
    const deciding = counts === null ? null : (status?.nodes.filter(({ role }) => role !== "broker") ?? null);
    const blind = nodes.reduce((sum, { sinks }) => sum + sinks.reduce((of, sink) => of + sink.blind, 0), 0);
    return {
      blind,
      nodes,
      unheard: deciding === null ? null : deciding.map(({ node }) => node).filter((node) => !heard.has(node)),
      missing: counts?.missing ?? null,
      refused: counts === null ? null : Object.values(counts.refused).reduce((sum, count) => sum + count, 0),
    };
  });
}
