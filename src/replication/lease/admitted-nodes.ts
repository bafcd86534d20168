/**
 * Admitted nodes: every node and regional broker that was granted a lease, whatever its boot, and has since neither
 * said goodbye nor been retired (docs/adr/0040).
 *
 * - The list is for operators: a node that is silent stays on it, as absent, until an operator retires it.
 * - No lease and no receipt depends on it. Whether a boot may still decide is the business of lease-granter.ts alone.
 * - A row is written with the beat that writes the node's first lessee. The time in a row trails by up to a minute.
 * - A node is its name and its role: another boot of the same node takes the place of the one before.
 *
 * It lives for one epoch. Pure.
 */
import type { BootId, NodeId, UnixMs } from "../../events/index.ts";
import type { AdmittedNode, Lessee, NodeName } from "../log/log.ts";
import type { Renew } from "../wire/messages.ts";
import type { Moment } from "./drift-watch.ts";

/** An admitted node, and the time in ms since the leader last heard from it. */
export type AdmittedNodeStatus = AdmittedNode & Readonly<{ silentMs: number }>;

/** The rows of one beat. */
export type NodeRows = Readonly<{ departed: readonly NodeName[]; admitted: readonly AdmittedNode[] }>;

/** What the next epoch of this process must know even if no beat has written it. */
export type AdmittedBefore = Readonly<{ admitted: readonly AdmittedNode[]; departed: readonly NodeName[] }>;

type Entry = {
  node: AdmittedNode;
  /** By the leader's monotonic clock. */
  heardAt: number;
  /** The row in the log; null: none. */
  row: AdmittedNode | null;
};

const admittedMax = 20_000;
const departedMax = 20_000;
/** Bounds the size of one beat. */
const rowsMax = 500;
/** A row's time trails by this much. */
const rowAgeMsMax = 60_000;
export const noNodeRows: NodeRows = { departed: [], admitted: [] };

export class AdmittedNodes {
  readonly #nodes = new Map<string, Entry>();
  /** Rows that the next beat removes. */
  readonly #departed = new Map<string, NodeName>();
  #forgotten = 0;
  /** An append that retires these nodes is in flight, or its outcome is unknown. */
  #retiring: readonly NodeName[] = [];

  /** @param of.lessees a node with a lessee counts as heard of when the epoch was opened, because its row may be old */
  constructor(
    of: Readonly<{
      rows: readonly AdmittedNode[];
      before: AdmittedBefore | null;
      lessees: readonly Lessee[];
      at: Moment;
    }>,
  ) {
    const { rows, before, at } = of;
    const leased = new Set(of.lessees.map(keyOf));
    const add = (node: AdmittedNode, row: AdmittedNode | null): void => {
      const silentMs = leased.has(keyOf(node)) ? 0 : Math.max(0, at.wall - node.heardAt);
      this.#nodes.set(keyOf(node), { node, heardAt: at.monotonic - silentMs, row });
    };
    for (const row of rows) add(row, row);
    for (const node of before?.admitted ?? []) {
      const row = this.#nodes.get(keyOf(node))?.row ?? null;
      if (row === null || row.heardAt <= node.heardAt) add(node, row);
    }
    for (const name of before?.departed ?? []) this.#remove(name);
  }

  get size(): number {
    return this.#nodes.size;
  }
  /** Nodes that were dropped because the list was full. */
  get forgotten(): number {
    return this.#forgotten;
  }

  /** An authentic renew that waits for a grant: from now on the node is admitted. */
  admit(renew: Renew, at: Moment): void {
    const key = keyOf(renew);
    if (!this.#nodes.has(key)) {
      if (this.#nodes.size >= admittedMax && !this.#forgetOldest()) return;
      this.#nodes.set(key, { node: nodeOf(renew, at.wall), heardAt: at.monotonic, row: null });
    }
    this.#departed.delete(key);
    this.hear(renew, at);
  }

  /** An authentic renew of an admitted node, whether or not it gets a grant. */
  hear(renew: Renew, { monotonic, wall }: Moment): void {
    const entry = this.#nodes.get(keyOf(renew));
    if (entry === undefined) return;
    entry.node = nodeOf(renew, wall);
    entry.heardAt = monotonic;
  }

  /**
   * A boot says goodbye. The node leaves the list, unless another of its boots was heard of since.
   * @param known the role of the lessee that this boot is; null: it is none
   * @param isLeased whether a boot may hold a lease: a boot that an older leader has admitted may be newer than the row
   */
  leave(
    { node, boot }: Readonly<{ node: NodeId; boot: BootId }>,
    known: Lessee["role"] | null,
    isLeased: (boot: BootId) => boolean,
  ): void {
    for (const role of roles) {
      const newest = this.#nodes.get(keyOf({ node, role }))?.node.boot;
      if (newest === undefined) continue;
      if (newest === boot || (known === role && !isLeased(newest))) this.#remove({ node, role });
    }
  }

  /** An append starts, with an event that retires these nodes. */
  beginRetiring(names: readonly NodeName[]): void {
    this.#retiring = names;
  }

  /** The append has committed cleanly, and removed the rows. A node that renews later is admitted again. */
  retire(names: readonly NodeName[]): void {
    this.#retiring = [];
    for (const name of names) {
      this.#nodes.delete(keyOf(name));
      this.#departed.delete(keyOf(name));
    }
  }

  /** True when a row must be written or removed that no other write waits for. */
  get needsBeat(): boolean {
    return this.#departed.size > 0;
  }

  /** A beat starts: the rows that it writes and removes. */
  rowsDue(): NodeRows {
    const departed = [...this.#departed.values()].slice(0, rowsMax);
    const admitted: AdmittedNode[] = [];
    for (const { node, row } of this.#nodes.values()) {
      if (admitted.length >= rowsMax) break;
      if (isDue(node, row)) admitted.push(node);
    }
    return departed.length + admitted.length === 0 ? noNodeRows : { departed, admitted };
  }

  /** The beat with these rows has committed cleanly. */
  rowsWritten({ departed, admitted }: NodeRows): void {
    for (const name of departed) if (this.#departed.get(keyOf(name)) === name) this.#departed.delete(keyOf(name));
    for (const row of admitted) {
      const entry = this.#nodes.get(keyOf(row));
      if (entry !== undefined) entry.row = row;
    }
  }

  /** Sorted by region, name and role. @param silentMs only those that have been silent for longer */
  statuses(at: Moment, silentMs = Number.NEGATIVE_INFINITY): readonly AdmittedNodeStatus[] {
    const chosen: AdmittedNodeStatus[] = [];
    for (const { node, heardAt } of this.#nodes.values()) {
      const silence = Math.max(0, at.monotonic - heardAt);
      if (silence > silentMs) chosen.push({ ...node, silentMs: silence });
    }
    return chosen.sort((a, b) => compare(a.region, b.region) || compare(a.node, b.node) || compare(a.role, b.role));
  }

  /** Each region of a node, with the node that was heard from last. */
  newestOfRegions(at: Moment): readonly Pick<AdmittedNodeStatus, "region" | "heardAt" | "silentMs">[] {
    const newest = new Map<string, Entry>();
    for (const entry of this.#nodes.values()) {
      const before = newest.get(entry.node.region);
      if (before === undefined || entry.heardAt > before.heardAt) newest.set(entry.node.region, entry);
    }
    return [...newest].map(([region, { node, heardAt }]) => {
      return { region, heardAt: node.heardAt, silentMs: Math.max(0, at.monotonic - heardAt) };
    });
  }

  /**
   * For the next epoch of this process, unless another process leads in between. Of a node whose retirement has an
   * unknown outcome, the row in the log says whether it is retired.
   */
  carryOver(): AdmittedBefore {
    const retiring = new Set(this.#retiring.map(keyOf));
    const admitted = [...this.#nodes.values()].map(({ node }) => node).filter((node) => !retiring.has(keyOf(node)));
    return { admitted, departed: [...this.#departed.values()] };
  }

  #remove(name: NodeName): void {
    const key = keyOf(name);
    this.#nodes.delete(key);
    this.#departed.set(key, { node: name.node, role: name.role });
    if (this.#departed.size > departedMax) this.#departed.delete(this.#departed.keys().next().value ?? "");
  }

  /** @returns whether there is room now */
  #forgetOldest(): boolean {
    let oldest: Entry | undefined;
    for (const entry of this.#nodes.values())
      if (entry.heardAt < (oldest?.heardAt ?? Number.POSITIVE_INFINITY)) oldest = entry;
    if (oldest === undefined) return false;
    this.#remove(oldest.node);
    this.#forgotten += 1;
    return true;
  }
}

const roles = ["proxy", "authorize", "broker"] as const satisfies readonly Lessee["role"][];

function isDue(node: AdmittedNode, row: AdmittedNode | null): boolean {
  return (
    row === null ||
    row.boot !== node.boot ||
    row.region !== node.region ||
    Math.abs(node.heardAt - row.heardAt) >= rowAgeMsMax
  );
}

function nodeOf({ node, role, region, boot, applied }: Renew, heardAt: UnixMs): AdmittedNode {
  return { node, role, region, boot, heardAt, applied: applied.position };
}

function keyOf({ node, role }: NodeName): string {
  return JSON.stringify([node, role]);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
