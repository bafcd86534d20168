/**
 * Worker: a process that runs the seeds it is told to, one at a time, and tells what came of each. Ends when whoever
 * started it hangs up.
 */
import { company } from "./cluster-setup.ts";
import { plansOf, runPlans } from "./failure-report.ts";
import { type Done, takeOrders } from "./worker-orders.ts";

takeOrders(({ seed, twice }): Done => {
  const from = process.cpuUsage();
  const plans = plansOf(seed);
  const { report } = runPlans(plans, company);
  const { user, system } = process.cpuUsage(from);
  const repeated = !twice || runPlans(plans, company).report.hash === report.hash;
  return { type: "done", report, repeated, cpuMs: (user + system) / 1_000 };
});
