/**
 * Local receipts: which nodes of the region surely deny what a local revocation denies (docs/protocol.md §6.4). Pure.
 *
 * - A node is applied when it has confirmed the revocation to any broker of the region.
 * - It is fenced when no lease without the revocation may count, as far as every broker of the region knows.
 * - A broker that has restarted no longer knows the boots it served before. One row represents all of them.
 * - It is complete only if every broker of the region has the revocation on its disk.
 */
import type { CommandId, Link } from "../../events/index.ts";
import type { LocalReceiptNode } from "../../replication/index.ts";
import type { LocalReceiptState, PeerNode } from "./local-messages.ts";
import type { RegionFact } from "./region-messages.ts";
import type { RegionNodes } from "./region-nodes.ts";
import type { RegionPeers } from "./region-peers.ts";
import type { RegionStepContext } from "./region-step-context.ts";
import type { RevocationStore, StoredEntry } from "./revocation-store.ts";

type Asking = Readonly<{ id: number; commandId: CommandId; until: number }>;
type LocalReceiptParts = Readonly<{
  broker: string;
  store: RevocationStore;
  peers: RegionPeers;
  nodes: RegionNodes;
  /** For how long (ms) a lease may count of a node that this broker does not know. */
  unknownForMs: () => number;
  /** Null: the log does not have it, as far as this broker knows. */
  mergedAt: (commandId: CommandId) => Link | null;
}>;
type Standing = Readonly<{
  broker: string;
  seq: number | null;
  nodes: readonly PeerNode[];
  unknownForMs: number;
}>;

const askingMax = 1_000;
const timeoutMsMax = 120_000;
/** How often the other brokers are asked while a receipt waits. */
const refreshMs = 250;

export class LocalReceipts {
  readonly #context: RegionStepContext;
  readonly #parts: LocalReceiptParts;
  #asking: Asking[] = [];

  constructor(context: RegionStepContext, parts: LocalReceiptParts) {
    this.#context = context;
    this.#parts = parts;
  }

  ask({ id, commandId, timeoutMs }: Extract<RegionFact, { type: "localReceiptAsked" }>): void {
    const waits = this.#asking.length < askingMax;
    const until = this.#context.now + (waits ? Math.min(timeoutMs, timeoutMsMax) : 0);
    this.#asking.push({ id, commandId, until });
    this.serve();
  }

  serve(): void {
    const { now } = this.#context;
    this.#asking = this.#asking.filter(({ id, commandId, until }) => {
      const merged = this.#parts.mergedAt(commandId);
      if (merged !== null) {
        this.#context.emit({ type: "answerLocalReceipt", id, answer: { type: "merged", link: merged } });
        return false;
      }
      // Two brokers may have accepted the command, each with the sessions that it knew.
      const receipts = this.#parts.store.ofCommand(commandId).map((entry) => this.#receiptOf(entry));
      const receipt = receipts.find(({ complete }) => !complete) ?? receipts[0];
      if (receipt === undefined) {
        this.#context.emit({ type: "answerLocalReceipt", id, answer: { type: "unknown" } });
        return false;
      }
      if (!receipt.complete && now < until) {
        this.#context.wakeBy(Math.min(until, now + refreshMs));
        return true;
      }
      this.#context.emit({ type: "answerLocalReceipt", id, answer: { type: "receipt", receipt } });
      return false;
    });
    if (this.#asking.length > 0) this.#parts.peers.refreshAfter(refreshMs);
  }

  wake(): void {
    this.serve();
  }

  close(): void {
    for (const { id } of this.#asking.splice(0))
      this.#context.emit({ type: "answerLocalReceipt", id, answer: { type: "unknown" } });
  }

  #receiptOf(entry: StoredEntry): LocalReceiptState {
    const { now, at } = this.#context;
    const { broker, nodes, peers, unknownForMs } = this.#parts;
    const seq = entry.kept ? entry.seq : null;
    const own: Standing = { broker, seq, nodes: nodes.peerNodes(now), unknownForMs: unknownForMs() };
    const standings = [own, ...peers.standings(entry.key, now)];
    const stored = standings.every((standing) => standing.seq !== null);
    const rows = [...rowsOf(standings), ...standings.flatMap(unknownRow)];
    return {
      revocation: entry.sealed.revocation,
      complete: stored && rows.every(({ status }) => status !== "unconfirmed"),
      stored,
      brokers: standings.map((standing) => ({ broker: standing.broker, stored: standing.seq !== null })),
      nodes: rows,
      at: at.wall,
    };
  }
}

function rowsOf(standings: readonly Standing[]): LocalReceiptNode[] {
  const rows = new Map<string, LocalReceiptNode>();
  for (const { broker, seq, nodes } of standings) {
    for (const { node, boot, role, confirmed, passed } of nodes) {
      const key = JSON.stringify([node, boot]);
      const before = rows.get(key);
      if (before?.status === "applied") continue;
      if (seq !== null && confirmed >= seq) {
        rows.set(key, { node, boot, role, status: "applied", confirmed, fencedInMs: 0, reason: "" });
        continue;
      }
      // A broker that has not stored it may pass on leases without it.
      const counts = passed.filter((lease) => seq === null || lease.seq < seq).map(({ forMs }) => forMs);
      const fencedInMs = Math.max(before?.fencedInMs ?? 0, 0, ...counts);
      const status = fencedInMs > 0 ? "unconfirmed" : "fenced";
      const waits = `has not confirmed it; a lease through ${broker} may count without it`;
      const reason = status === "fenced" ? "holds no lease that counts without it" : waits;
      rows.set(key, { node, boot, role, status, confirmed: null, fencedInMs, reason });
    }
  }
  return [...rows.values()].sort((a, b) => (a.node < b.node ? -1 : a.node > b.node ? 1 : a.boot < b.boot ? -1 : 1));
}

function unknownRow({ broker, unknownForMs }: Standing): LocalReceiptNode[] {
  if (unknownForMs <= 0) return [];
  const reason = `nodes that an earlier boot of ${broker} served may hold leases`;
  const row = { node: unknownNodes, boot: broker, role: "unknown", confirmed: null, fencedInMs: unknownForMs, reason };
  return [{ ...row, status: "unconfirmed" }];
}

export const unknownNodes = "@unknown-nodes";
