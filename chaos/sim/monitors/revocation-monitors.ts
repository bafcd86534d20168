/**
 * Revocation monitors: what a region that revokes by itself promises (docs/adr/0039).
 *
 * - After a complete local receipt no node of the region lets anything pass that the revocation denies, until the log
 *   permits it past the merge.
 * - `local` is answered only once the disk of every broker of the region holds the revocation.
 * - A broker that holds it passes no lease of the leader on to a node that lacks it.
 * - A revocation leaves a disk only once the log has it. It is recorded once, and never lost while a disk holds it.
 *
 * Exceptions: a broker that held a revocation came back with an empty disk, so the region may not know it any more; a
 * promotion without proof has lost the merge.
 */
import type { SimFactOf } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import type { GroundTruth, NodeView } from "./ground-truth.ts";
import type { LeaseTracker } from "./lease-tracker.ts";
import { convergeWithinMs } from "./liveness-monitors.ts";
import { formatLink } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import { nodeOf } from "./projection-monitors.ts";
import type { KnownRevocation, RevocationLedger } from "./revocation-ledger.ts";
import { seconds } from "./violation.ts";

/** What a complete local receipt promises, checked at each decision, first byte and chunk. */
export function watchLocalPromises(truth: GroundTruth, ledger: RevocationLedger): Monitor {
  const { findings, observations } = truth;

  function check(fact: SimFactOf<"decided" | "exchange-opened" | "relayed">, point: LogPoint): void {
    const request = truth.requests.get(fact.request);
    const node = nodeOf(truth, fact);
    if (request === undefined || node === undefined || ledger.size === 0) return;
    for (const known of ledger.all) {
      const { complete, view } = known;
      if (complete === null || view.region !== node.region || known.brokenAt <= fact.at) continue;
      if (fact.type === "decided" && request.began.at <= complete.at) continue;
      if (!ledger.denies(known, request.began.session)) continue;
      observations.add("began-after-local-receipt");
      if (fact.type === "decided" && fact.verdict !== "permit") continue;
      if (ledger.mergeAt(known, point) !== undefined || ledger.isLost(known)) continue; // then the log decides
      const what = `${fact.process} lets session ${request.began.session} pass ${seconds(fact.at - complete.at)} after the complete local receipt for ${view.commandId}`;
      findings.add("local-receipt-true", what, [complete, request.began, fact]);
    }
  }

  const checkExchange = (fact: SimFactOf<"exchange-opened" | "relayed">): void => {
    const node = nodeOf(truth, fact);
    if (node !== undefined && node.lessee !== "authorize") check(fact, node.applied);
  };
  return {
    invariants: ["local-receipt-true"],
    before: {
      decided: (fact) => {
        const point = truth.find(fact.link);
        if (point !== undefined) check(fact, point);
      },
      "exchange-opened": checkExchange,
      relayed: checkExchange,
    },
  };
}

/** The statements of a local receipt are true when it is sent, and name no other region. */
export function watchLocalReceipts(truth: GroundTruth, leaseTracker: LeaseTracker, ledger: RevocationLedger): Monitor {
  const { findings, observations } = truth;

  function check(fact: SimFactOf<"local-receipt-answered">): void {
    const known = ledger.get(fact.key);
    if (known === undefined || known.brokenAt <= fact.at) return;
    observations.add("local-receipt-checked");
    checkScope(fact, known);
    for (const node of truth.nodes.values()) {
      if (node.region !== known.view.region || node.lessee === "broker") continue;
      const named = fact.nodes.find(({ boot }) => boot === node.boot);
      const isEnforced = known.enforcedBy.get(node.process) === node.boot || hasMerge(known, node);
      if (named?.status === "applied" && !isEnforced)
        findings.add(
          "local-status-true",
          `${fact.process} says that ${node.process} enforces ${fact.key}, and it does not`,
          [fact],
        );
      if (fact.complete && !isEnforced) checkComplete(fact, known, node);
    }
  }

  function hasMerge(known: KnownRevocation, node: NodeView): boolean {
    return ledger.mergeAt(known, node.enforced) !== undefined;
  }

  function checkScope(fact: SimFactOf<"local-receipt-answered">, { view }: KnownRevocation): void {
    for (const { node } of fact.nodes) {
      const region = truth.nodes.get(node)?.region;
      if (region === undefined || region === view.region) continue;
      findings.add("local-scope", `${fact.process} names ${node} of ${region} in a receipt for ${view.region}`, [fact]);
    }
  }

  function checkComplete(fact: SimFactOf<"local-receipt-answered">, known: KnownRevocation, node: NodeView): void {
    if (!node.up || node.lessee === null || node.leaving !== null || ledger.isLost(known)) return;
    observations.add("local-receipt-by-expiry");
    const until = leaseTracker.mayDecideUntightenedUntil(node.process);
    if (until === null || fact.at > until) return;
    const what = `${fact.process} calls the local receipt for ${fact.key} complete, and ${node.process}, which does not enforce it, may decide for another ${seconds(until - fact.at)}`;
    findings.add("local-status-true", what, [fact]);
  }

  return { invariants: ["local-status-true", "local-scope"], before: { "local-receipt-answered": check } };
}

/**
 * A regional broker that has held a revocation passes no lease of the leader on to a node that does not enforce it,
 * unless the lease itself rests on a log that has it.
 */
export function watchWithheld(truth: GroundTruth, ledger: RevocationLedger): Monitor {
  const { findings, observations } = truth;

  function check(fact: SimFactOf<"grant-passed">): void {
    const node = truth.nodes.get(fact.node);
    const head = truth.find(fact.head);
    if (node === undefined || head === undefined || node.boot !== fact.boot) return;
    for (const known of ledger.all) {
      if (!known.heldBy.has(fact.process) || known.brokenAt <= fact.at || ledger.isLost(known)) continue;
      observations.add("grant-passed-checked");
      if (known.enforcedBy.get(node.process) === node.boot) continue;
      if (ledger.mergeAt(known, head) !== undefined || ledger.mergeAt(known, node.enforced) !== undefined) continue;
      const what = `${fact.process} passes a lease at ${formatLink(fact.head)} on to ${fact.node}, which does not enforce the local revocation ${known.view.key}`;
      findings.add("renew-withheld", what, [fact]);
    }
  }

  return { invariants: ["renew-withheld"], before: { "grant-passed": check } };
}

/** `local` means stored at every broker of the region; what is stored stays until the log has it; merged once. */
export function watchLocalStores(truth: GroundTruth, ledger: RevocationLedger): Monitor {
  const { chains, findings, observations } = truth;

  function checkAnswer(fact: SimFactOf<"local-answered">): void {
    if (fact.answer !== "local") return;
    observations.add("local-answer-checked");
    const known = ledger.get(fact.revocation.key);
    for (const node of truth.nodes.values()) {
      if (node.lessee !== "broker" || node.region !== fact.revocation.region) continue;
      if (known?.storedBy.has(node.process) === true || (known !== undefined && known.merges.length > 0)) continue;
      const what = `${fact.process} answers local for ${fact.commandId}, which is not on the disk of ${node.process}`;
      findings.add("local-stored", what, [fact]);
    }
  }

  function checkDropped(fact: SimFactOf<"revocation-dropped">): void {
    const known = ledger.get(fact.key);
    const node = truth.nodes.get(fact.process);
    if (known === undefined || node === undefined || ledger.isLost(known)) return;
    observations.add("local-drop-checked");
    const merge = ledger.mergeAt(known, node.applied);
    if (merge === undefined) {
      const what = `${fact.process} drops the local revocation ${fact.key} at ${formatLink(node.applied.link)}, which does not have it`;
      findings.add("local-kept", what, [fact]);
      return;
    }
    const permitted = permittedAt(known, merge);
    if (permitted === undefined) return;
    const what = `${fact.process} drops the local revocation ${fact.key}, and the log permits ${permitted} at ${formatLink(merge.link)}`;
    findings.add("local-kept", what, [fact]);
  }

  /** What the log permits at the merge although the revocation denies it. Undefined: nothing. */
  function permittedAt({ view, sessions }: KnownRevocation, merge: LogPoint): string | undefined {
    const { rights } = truth;
    if (view.suspended !== null && rights.userDenial(view.suspended, merge) === null) return view.suspended;
    return [...sessions].find((session) => rights.denialOf(session, merge) === null);
  }

  /** The command of a revocation is carried out at most once in a lineage, under all of its ids together. */
  function checkWritten(fact: SimFactOf<"wrote">): void {
    for (const { commandId, count } of fact.commands) {
      if (count === 0) continue;
      for (const known of ledger.ofCommand(commandId)) {
        const head = truth.serverHead(fact.process);
        const recorded = head === undefined ? [] : known.recorded.filter((point) => chains.contains(head, point));
        if (recorded.length < 2) continue;
        const what = `the local revocation ${known.view.key} is recorded at ${recorded.map(({ link }) => formatLink(link)).join(" and ")}`;
        findings.add("merged-once", what, [fact]);
      }
    }
  }

  function checkEnd(fact: SimFactOf<"run-over">): void {
    const over = truth.faultsOver;
    if (over === null || fact.at - over.at < convergeWithinMs) return;
    for (const known of ledger.all) {
      if (known.local === null) continue;
      observations.add("local-end-checked");
      const isStored = known.storedBy.size > 0;
      if (ledger.mergeAt(known, truth.head) === undefined && isStored) {
        const what = `the local revocation ${known.view.key} is not in the log at the end, and ${[...known.storedBy].join(", ")} hold it`;
        findings.add("local-merged", what, [known.local, over, fact]);
        continue;
      }
      // A node that never saw the merge submits the revocation by itself, much later.
      const brokers = [...known.storedBy].filter((process) => truth.nodes.get(process)?.lessee === "broker");
      if (brokers.length > 0 && fact.at - known.local.at > convergeWithinMs) {
        const what = `${brokers.join(", ")} still hold the local revocation ${known.view.key} at the end, which the log has`;
        findings.add("local-merged", what, [known.local, over, fact]);
      }
    }
  }

  return {
    invariants: ["local-stored", "local-kept", "merged-once", "local-merged"],
    before: { "local-answered": checkAnswer, "revocation-dropped": checkDropped, "run-over": checkEnd },
    after: { wrote: checkWritten },
  };
}
