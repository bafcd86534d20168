/**
 * Checker: compares what happened with what was promised.
 *
 * Pure. It takes the histories of clients, operator and upstream and returns violations. It trusts nothing of the
 * system but its responses, and its log only where a response named a position. chaos/README.md lists the checks.
 */
import { checkAudit } from "./check-audit.ts";
import { checkLog } from "./check-log.ts";
import { checkRegions } from "./check-regions.ts";
import { checkTraffic, type TrafficOptions } from "./check-traffic.ts";
import type { Ending, History } from "./history.ts";
import { lossesOf } from "./losses.ts";
import { operationsOf } from "./promises.ts";
import { Findings, type Violation } from "./violation.ts";

export type Verdict = Readonly<{ violations: readonly Violation[]; requestsChecked: number; cuts: number }>;

export function checkHistory(history: History, ending: Ending, options: TrafficOptions): Verdict {
  const operations = operationsOf(history);
  const losses = lossesOf(history, operations, ending);
  const found = new Findings();
  checkTraffic(history, operations, { options, losses, found });
  checkLog(operations, ending, { sessions: history.session, losses, found });
  checkRegions(history, operations, { options, losses, found });
  if (ending.audit !== null) checkAudit(history, { audit: ending.audit, ...options, found });
  checkPromises(history, found);
  for (const what of ending.records?.problems ?? [])
    found.add({ check: "audit-unproven", at: Number.MAX_SAFE_INTEGER, what, about: { what } });
  checkEnding(history, ending, found);
  return {
    violations: found.all(),
    requestsChecked: history.request.length,
    cuts: operations.filter((each) => each.completeAt !== null).length,
  };
}

function checkPromises(history: History, found: Findings): void {
  for (const { scenario, promise, end, boundMs, kept, seen } of history.promise) {
    if (kept) continue;
    const within = boundMs === null ? "" : ` within ${(boundMs / 1_000).toFixed(1)} s`;
    const what = `${scenario}: not${within}: ${promise}; last seen: ${seen}`;
    found.add({ check: "promise-broken", at: end, what, about: { scenario, promise } });
  }
}

function checkEnding(history: History, ending: Ending, found: Findings): void {
  const at = Math.max(0, ...history.fault.map((fault) => fault.clear));
  for (const what of ending.crashes) found.add({ check: "ended-by-itself", at, what, about: { what } });
  if (ending.readyAfterMs === null) {
    const what = `not whole again within ${ending.readyBoundMs} ms: ${ending.notReady.join("; ")}`;
    found.add({ check: "not-ready-in-time", at, what, about: {} });
  }
  const move = history["home-move"].toSorted((a, b) => a.end - b.end).at(-1);
  if (move !== undefined && move.problem !== "") {
    const what = `the home region did not move to ${move.region}: ${move.problem}`;
    found.add({ check: "not-ready-in-time", at: move.end, what, about: { region: move.region } });
  }
  if (ending.leader === null) {
    found.add({ check: "digests-differ", at, what: "no broker leads at the end", about: {} });
    return;
  }
  const { position, digest, broker } = ending.leader;
  for (const node of ending.nodes) {
    if (node.position === position && node.digest === digest) continue;
    const what = `${node.node} is at ${node.position} with ${node.digest}, the leader ${broker} at ${position} with ${digest}`;
    found.add({ check: "digests-differ", at, what, about: { node: node.node } });
  }
}
