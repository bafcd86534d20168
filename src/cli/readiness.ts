/**
 * Readiness: whether a balancer should send requests here.
 *
 * A node whose lease is over and whose routes still serve within their grace is ready, and says that it serves from its last
 * projection: a lost control plane must not empty the balancer of nodes that could go on. Pure.
 */
export type Readiness = Readonly<{ ready: boolean; reasons: readonly string[] }>;

export function readinessOf(
  replica: Readiness & Readonly<{ overdueMs: number; graceMs: number; draining: "draining" | "serving" }>,
): Readiness {
  if (replica.ready || replica.draining === "draining") return { ready: replica.ready, reasons: replica.reasons };
  const withinGrace = replica.overdueMs > 0 && replica.overdueMs <= replica.graceMs;
  return withinGrace
    ? { ready: true, reasons: [...replica.reasons, "serving from the last projection, within stale_grace"] }
    : { ready: false, reasons: replica.reasons };
}
