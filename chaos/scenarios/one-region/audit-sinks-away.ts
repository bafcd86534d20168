/** No sink takes a proxy's audit records. */
import { sumIn } from "../../run/metric.ts";
import type { Scenario } from "../scenario.ts";

const proxy = "proxy-eu-3";

export const auditSinksAway: Scenario = {
  name: "audit-sinks-away",
  topology: "one-region",
  fault: "All NATS servers are killed, and the file of one proxy's audit records cannot be written.",
  promise: "Every route is served meanwhile, and both sinks have everything within 20 s of their return.",
  boundS: 20,
  async play(game) {
    const { visitors } = game;
    const process = game.cluster.proxies.find(({ name }) => name === proxy);
    const file = await game.fault("block-audit-file", proxy);
    const nats = await game.fault("kill-all-nats");
    await game.serves("every route is served", 8, visitors.permittedOn(proxy));
    await Promise.all([file.heal(), nats.heal()]);
    await game.within("both sinks have nearly everything", async () => {
      const page = await process?.metrics().catch(() => undefined);
      const late = sumIn(page ?? "", "cardea_audit_sink_lag_seconds");
      return { holds: page !== undefined && late < 2, seen: `records are ${late} s late` };
    });
  },
};
