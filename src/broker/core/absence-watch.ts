/**
 * Absence watch: which admitted nodes are absent and which regions are cut off, as their leader knows it. Pure.
 *
 * - A node is absent while the leader does not hear from it and no grant to it counts any more. It stays absent until
 *   it renews, or an operator retires it (docs/adr/0040).
 * - A region is cut off while the leader hears from none of its nodes and regional brokers, for longer than Δ.
 * - The log gets one line when a node or a region becomes so, and one when it no longer is.
 */
import type { MonotonicMs } from "../../events/index.ts";
import type { AbsentNode, CutOffRegion } from "../../replication/index.ts";
import type { AdmittedNodeStatus, AdmittedNodes, LesseeStatus, RegionHeard } from "../../replication/lease/index.ts";
import type { Counters } from "./counters.ts";
import type { StepContext } from "./step-context.ts";

const checkMs = 1_000;
/** A check that comes this much late says nothing of the nodes. */
const pauseMs = 1_000;
/** A line with ten thousand names would explain less. */
const namesMax = 10;

export class AbsenceWatch {
  readonly #context: StepContext;
  readonly #nodes: AdmittedNodes;
  readonly #lessees: () => readonly LesseeStatus[];
  readonly #deltaMs: number;
  readonly #absent = new Map<string, AdmittedNodeStatus>();
  readonly #cutOff = new Map<string, MonotonicMs>();
  readonly #counters: Counters;
  #checkAt: number;
  #forgotten = 0;

  constructor(
    context: StepContext,
    of: Readonly<{
      nodes: AdmittedNodes;
      lessees: () => readonly LesseeStatus[];
      deltaMs: number;
      counters: Counters;
    }>,
  ) {
    this.#context = context;
    this.#nodes = of.nodes;
    this.#lessees = of.lessees;
    this.#deltaMs = of.deltaMs;
    this.#counters = of.counters;
    this.#checkAt = context.now;
  }

  /** Infinity: there is no node to watch. */
  get dueAt(): number {
    return this.#nodes.size === 0 ? Number.POSITIVE_INFINITY : this.#checkAt;
  }

  tick(): void {
    const { now } = this.#context;
    if (this.dueAt > now) return;
    const hasPaused = now > this.#checkAt + pauseMs;
    this.#checkAt = now + checkMs;
    if (hasPaused) return; // this process did not run: renews that have arrived meanwhile are read first
    this.#reportRegions();
    this.#reportNodes();
    this.#reportForgotten();
  }

  /** The admitted nodes, each with whether the leader hears from it. */
  admitted(): readonly (AdmittedNodeStatus & Readonly<{ answers: boolean }>)[] {
    return this.#nodes.statuses(this.#context.at).map((node) => ({ ...node, answers: node.silentMs <= this.#deltaMs }));
  }

  absent(): readonly AbsentNode[] {
    const silent = this.#nodes.statuses(this.#context.at, this.#deltaMs);
    if (silent.length === 0) return silent;
    const leased = new Set<string>();
    for (const lessee of this.#lessees()) if (lessee.fencedInMs > 0) leased.add(keyOf(lessee));
    return silent.filter((node) => !leased.has(keyOf(node)));
  }

  /** Every region of an admitted node, for receipts. */
  regions(): readonly RegionHeard[] {
    const absent = Map.groupBy(this.absent(), ({ region }) => region);
    return this.#nodes.newestOfRegions(this.#context.at).map(({ region, heardAt, silentMs }) => ({
      region,
      heardAt,
      absent: absent.get(region)?.length ?? 0,
      cutOff: silentMs > this.#deltaMs,
    }));
  }

  cutOffRegions(): readonly CutOffRegion[] {
    return this.#nodes.newestOfRegions(this.#context.at).filter(({ silentMs }) => silentMs > this.#deltaMs);
  }

  #reportRegions(): void {
    const regions = this.#nodes.newestOfRegions(this.#context.at);
    const cutOff = new Map(this.cutOffRegions().map((each) => [each.region, each]));
    for (const [region, since] of this.#cutOff) {
      if (cutOff.has(region)) continue;
      this.#cutOff.delete(region);
      const cutOffMs = Math.round(this.#context.now - since);
      if (regions.some((known) => known.region === region))
        this.#context.logger("info", "a region answers again", { region, cutOffMs });
      else this.#context.logger("info", "a region that was cut off has been retired", { region, cutOffMs });
    }
    for (const { region, silentMs } of cutOff.values()) {
      if (this.#cutOff.has(region)) continue;
      this.#cutOff.set(region, this.#context.now);
      const message = "a region is cut off: no node or broker of it answers; receipts wait until its leases have ended";
      this.#context.logger("warn", message, { region, silentMs: Math.round(silentMs) });
    }
  }

  /** Nodes of a region that is cut off have no line of their own. */
  #reportNodes(): void {
    const absent = new Map(this.absent().map((node) => [keyOf(node), node]));
    const back = [...this.#absent].filter(([key]) => !absent.has(key));
    const gone = [...absent].filter(([key, { region }]) => !this.#absent.has(key) && !this.#cutOff.has(region));
    for (const [key] of back) this.#absent.delete(key);
    for (const [key, node] of gone) this.#absent.set(key, node);
    if (gone.length > 0) {
      const message = "nodes are absent: they neither renewed nor said goodbye, and their leases have ended";
      this.#context.logger("warn", message, namesOf(gone.map(([, node]) => node)));
    }
    if (back.length > 0)
      this.#context.logger("info", "absent nodes are back or retired", namesOf(back.map(([, node]) => node)));
  }

  #reportForgotten(): void {
    const { forgotten } = this.#nodes;
    const count = forgotten - this.#forgotten;
    if (count === 0) return;
    this.#forgotten = forgotten;
    this.#counters.absentNodesForgotten += count;
    const message = "the list of nodes is full: those that were silent for longest are no longer listed; retire nodes";
    this.#context.logger("error", message, { count });
  }
}

function namesOf(nodes: readonly AdmittedNodeStatus[]): Readonly<{ count: number; nodes: readonly string[] }> {
  return { count: nodes.length, nodes: nodes.slice(0, namesMax).map(({ node }) => node) };
}

function keyOf({ node, role }: Pick<AdmittedNodeStatus, "node" | "role">): string {
  return JSON.stringify([node, role]);
}
