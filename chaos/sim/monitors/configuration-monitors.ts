/**
 * Configuration monitors: a node ends everything that its current configuration denies, even if an earlier
 * configuration permitted it (docs/adr/0020).
 */
import type { SimFactOf } from "../facts.ts";
import { routeDenial } from "./decision-monitors.ts";
import type { GroundTruth, NodeView } from "./ground-truth.ts";
import type { Monitor } from "./monitor.ts";
import { nodeOf } from "./projection-monitors.ts";
import { seconds } from "./violation.ts";

/** Upper bound, ms. The model's nodes cut an exchange within 50 ms of their own clock. */
export const cutWithinMs = 60;

/**
 * True while bytes that a new configuration has just denied may still be in flight. The log is not the cause of that.
 */
export function isSettling({ config }: NodeView, at: number): boolean {
  return config !== null && at - config.at <= cutWithinMs;
}

export function watchConfigurations(truth: GroundTruth): Monitor {
  const { findings, observations } = truth;

  function check(fact: SimFactOf<"relayed">): void {
    const request = truth.requests.get(fact.request);
    const node = nodeOf(truth, fact);
    const config = node?.config ?? null;
    if (request === undefined || node === undefined || config === null || node.lessee === "authorize") return;
    if (request.opened === null || request.opened.at >= config.at) return;
    observations.add("open-across-reload");
    const denial = routeDenial(truth, request, node, node.applied);
    if (denial === null || fact.at === config.at) return;
    const what = `${fact.process} carries a byte of request ${fact.request} ${seconds(fact.at - config.at)} after it put ${config.hash} in force: ${denial.why}`;
    findings.add("configuration-enforced", what, [request.opened, config, fact]);
  }

  return { invariants: ["configuration-enforced"], before: { relayed: check } };
}
