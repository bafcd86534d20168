/**
 * Worker: a process that runs seeds for a runner, one at a time, and reports the result of each. It ends when the
 * runner disconnects.
 */
import { buildCluster } from "./cluster-setup.ts";
import { plansOf, runPlans } from "./failure-report.ts";
import { type Done, takeOrders } from "./worker-orders.ts";

takeOrders(async ({ seed, twice }): Promise<Done> => {
  const from = process.cpuUsage();
  const plans = plansOf(seed);
  const { report } = await runPlans(plans, buildCluster);
  const { user, system } = process.cpuUsage(from);
  const repeated = !twice || (await runPlans(plans, buildCluster)).report.hash === report.hash;
  return { type: "done", report, repeated, cpuMs: (user + system) / 1_000 };
});
