/** Refresh metrics of the leading broker: results by client, sessions in grace, and the age of providers' data. */
import { Counter, Gauge, type Registry } from "prom-client";
import { type RefreshMemory, refreshResults } from "../../auth/index.ts";

export function registerRefreshCounts(
  registry: Registry,
  memory: RefreshMemory,
  clientIdOf: (idpId: string) => string,
): void {
  const registers = [registry];
  new Counter({
    name: "cardea_session_refreshes_total",
    registers,
    labelNames: ["client", "result"],
    help: "Refreshes of sessions at the identity provider, by client and result",
    collect() {
      this.reset();
      for (const [idpId, counts] of memory.counts) {
        const client = clientIdOf(idpId);
        for (const result of refreshResults) this.inc({ client, result }, counts[result]);
      }
    },
  });
  new Gauge({
    name: "cardea_sessions_in_refresh_grace",
    registers,
    help: "Sessions that continue although the outcome of their last refresh is unknown",
    collect() {
      this.set(memory.inGrace.size);
    },
  });
  new Gauge({
    name: "cardea_membership_age_seconds",
    registers,
    labelNames: ["stat"],
    help: "Time since the identity provider last confirmed the claims and groups of live sessions, in the last complete pass",
    collect() {
      this.set({ stat: "oldest" }, memory.ages.oldestS);
      this.set({ stat: "mean" }, memory.ages.meanS);
    },
  });
}
