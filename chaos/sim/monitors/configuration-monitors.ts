/**
 * Configuration monitors: a node ends everything that its current configuration denies, even if an earlier
 * configuration permitted it (docs/adr/0020).
 */
import type { SimFactOf } from "../facts.ts";
import { routeBar } from "./decision-monitors.ts";
import type { Monitor } from "./monitor.ts";
import { nodeOf } from "./projection-monitors.ts";
import type { NodeView, Scene } from "./scene.ts";
import { seconds } from "./violation.ts";

/** Upper bound, ms. The model's nodes cut an exchange within 50 ms of their own clock. */
export const cutWithinMs = 60;

/**
 * True while bytes that a new configuration has just denied may still be in flight. The log is not the cause of that.
 */
export function isSettling({ config }: NodeView, at: number): boolean {
  return config !== null && at - config.at <= cutWithinMs;
}

export function watchConfigurations(scene: Scene): Monitor {
  const { findings, looks } = scene;

  function judge(fact: SimFactOf<"relayed">): void {
    const request = scene.requests.get(fact.request);
    const node = nodeOf(scene, fact);
    const config = node?.config ?? null;
    if (request === undefined || node === undefined || config === null || node.lessee === "authorize") return;
    if (request.opened === null || request.opened.at >= config.at) return;
    looks.add("outlived-a-file");
    const bar = routeBar(scene, request, node, node.applied);
    if (bar === null || fact.at === config.at) return;
    const what = `${fact.process} carries a byte of request ${fact.request} ${seconds(fact.at - config.at)} after it put ${config.hash} in force: ${bar.why}`;
    findings.add("configuration-enforced", what, [request.opened, config, fact]);
  }

  return { invariants: ["configuration-enforced"], before: { relayed: judge } };
}
