/**
 * Worker: a process that runs the seeds it is told to, one at a time, and tells what came of each. Ends when whoever started it hangs up.
 */
import { company } from "./company.ts";
import { plansOf, runPlans } from "./story.ts";

export type Order = Readonly<{ seed: number; twice: boolean }>;
export type Done = Readonly<{ report: ReturnType<typeof runPlans>["report"]; repeated: boolean; cpuMs: number }>;

process.on("disconnect", () => process.exit(0));
process.on("message", (order: Order) => {
  const from = process.cpuUsage();
  const plans = plansOf(order.seed);
  const { report } = runPlans(plans, company);
  const { user, system } = process.cpuUsage(from);
  const repeated = !order.twice || runPlans(plans, company).report.hash === report.hash;
  const done: Done = { report, repeated, cpuMs: (user + system) / 1_000 };
  process.send?.(done);
});
