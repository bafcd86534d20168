/**
 * Broker reporter: the facts that a simulated broker reports about its core, for the monitors. Read-only: it never
 * changes the broker.
 */
import type { BrokerCore } from "../../src/broker/broker-core.ts";
import type { BrokerEffect } from "../../src/broker/core/messages.ts";
import { type BootId, type Epoch, genesis, type Link, type NodeId } from "../../src/events/index.ts";
import type { PageOutcome } from "../../src/replication/index.ts";
import type { SimFact } from "./facts.ts";
import type { SimProcess } from "./process.ts";
import type { World } from "./world.ts";

export type BrokerReporterParts = Readonly<{
  world: World;
  process: SimProcess;
  node: NodeId;
  boot: BootId;
  core: () => BrokerCore;
  /** Each resource that must be bounded: its name, its size and its bound. */
  sizes: () => readonly (readonly [what: string, size: number, sizeMax: number])[];
}>;

const sizesEveryMs = 2_000;

export class BrokerReporter {
  readonly #parts: BrokerReporterParts;
  /** The state of the core that was last reported. */
  #reported: Readonly<{ leading: Epoch | null; applied: Link; restarts: number }>;
  /** Counts of the batches made ahead that were already reported. */
  #reportedAhead = { sent: 0, thrownAway: 0 };
  #rebuilding = false;
  /** The snapshot that the rebuild started from. */
  #base: Link = genesis;

  constructor(parts: BrokerReporterParts) {
    this.#parts = parts;
    this.#reported = { leading: null, applied: parts.core().state.applied, restarts: 0 };
  }

  snapshotLoaded(snapshot: Link): void {
    this.#base = snapshot;
  }

  /** Reports the changes of the last step, before any of its effects is visible. */
  reportStep(): void {
    const reported = this.#reported;
    const core = this.#parts.core();
    this.#madeAhead(core);
    const leading = core.leadership?.epoch ?? null;
    const { applied, restarts } = core.state;
    if (leading === reported.leading && applied === reported.applied && restarts === reported.restarts) return;
    this.#reported = { leading, applied, restarts };
    if (reported.leading !== null && leading !== reported.leading)
      this.report({ type: "leading", ...this.at(), epoch: reported.leading, leading: false });
    if (leading !== null && leading !== reported.leading) {
      this.report({ type: "leading", ...this.at(), epoch: leading, leading: true });
      this.#listNodes();
    }
    const here = { ...this.at(), node: this.#parts.node, boot: this.#parts.boot };
    if (restarts !== reported.restarts) {
      this.#rebuilding = true;
      this.#base = genesis;
      this.report({ type: "rebuilding", ...here, lost: reported.applied });
      if (applied.position === 0) return;
    } else if (applied.position === reported.applied.position) return;
    const digest = core.state.projection.digest();
    if (this.#rebuilding) this.report({ type: "rebuilt", ...here, to: applied, digest, base: this.#base });
    else this.report({ type: "applied", ...here, from: reported.applied, to: applied, digest });
    this.#rebuilding = false;
  }

  #madeAhead({ counters }: BrokerCore): void {
    const { batchesAhead: sent, batchesThrownAway: thrownAway } = counters;
    if (sent > this.#reportedAhead.sent) this.report({ type: "made-ahead", ...this.at(), became: "sent" });
    if (thrownAway > this.#reportedAhead.thrownAway)
      this.report({ type: "made-ahead", ...this.at(), became: "thrown-away" });
    this.#reportedAhead = { sent, thrownAway };
  }

  reportAppend(call: Extract<BrokerEffect, { type: "log" }>["call"]): void {
    if (call.op !== "append") return;
    this.report({ type: "append-sent", ...this.at(), previous: call.batch.previous });
    for (const { recorded } of call.batch.entries)
      if (recorded.event.type === "UpgradeFinalized")
        this.report({ type: "finalizing", ...this.at(), level: recorded.event.level });
  }

  reportPage(outcome: PageOutcome, { after, by }: Readonly<{ after: Link; by: string }>): void {
    const page = outcome.type === "page" ? outcome.page : undefined;
    const head =
      outcome.type === "truncated" ? after : (page?.head ?? (outcome.type === "forked" ? outcome.head : after));
    const count = page?.entries.length ?? 0;
    const served = { to: by, after, last: page?.last ?? after, count, head, outcome: outcome.type };
    this.report({ type: "page-served", ...this.at(), ...served });
  }

  reportRefusal(kind: string, reason: string): void {
    this.report({ type: "message-refused", ...this.at(), kind, reason });
  }

  reportSizesPeriodically(): void {
    this.#parts.process.after(sizesEveryMs, () => {
      for (const [what, size, sizeMax] of this.#parts.sizes())
        if (size > 0) this.report({ type: "sized", ...this.at(), what, size, sizeMax });
      this.#listNodes();
      this.reportSizesPeriodically();
    });
  }

  #listNodes(): void {
    const core = this.#parts.core();
    const { leadership } = core;
    if (leadership === null) return;
    const moment = this.#parts.process.moment();
    const all = [...core.standings(moment), ...core.absences(moment).absent];
    const nodes = [...new Set(all.map(({ node }) => node))];
    this.report({ type: "nodes-listed", ...this.at(), epoch: leadership.epoch, nodes });
  }

  at(): Readonly<{ at: number; process: string }> {
    return { at: this.#parts.world.now, process: this.#parts.process.name };
  }

  report(fact: SimFact): void {
    this.#parts.world.report(fact);
  }
}
