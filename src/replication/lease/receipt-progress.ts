/**
 * Receipt progress: a receipt as it completes, one answer for each change.
 *
 * A watcher names the progress it has seen and gets an answer when there is another. So a watch survives a change of
 * leader, and the broker keeps no state for it. Pure, except for requests to the given databroker.
 */
import { hash as digestOf } from "node:crypto";
import { encode } from "../../events/index.ts";
import type { Databroker, Receipt, ReceiptOptions, ReceiptTarget } from "../databroker.ts";

/** A key of the nodes and their statuses; it changes when a node changes its status. */
export function progressOf({ status, nodes }: Pick<Receipt, "status" | "nodes">): string {
  const standings = nodes.map((node) => [node.node, node.boot, node.status]);
  return digestOf("sha256", encode([status, standings]), "base64url").slice(0, 22);
}

/** True when waiting longer would bring no other answer. */
export function isLastAnswer(receipt: Receipt): boolean {
  return receipt.status !== "incomplete" || receipt.wait === "none";
}

/**
 * Answers at once, then with each change, and finally with the receipt when it is complete, lost, or out of time.
 * @throws BrokerUnavailableError
 */
export async function* watchReceipt(
  databroker: Pick<Databroker, "receipt">,
  target: ReceiptTarget,
  options: Omit<ReceiptOptions, "seen">,
  watch: Readonly<{ monotonic: () => number; signal: AbortSignal }>,
): AsyncGenerator<Receipt, void> {
  const deadline = watch.monotonic() + options.timeoutMs;
  for (let seen = ""; !watch.signal.aborted; ) {
    const timeoutMs = Math.max(0, deadline - watch.monotonic());
    const receipt = await databroker.receipt(target, { ...options, timeoutMs, seen });
    const progress = progressOf(receipt);
    const over = isLastAnswer(receipt) || receipt.signed !== null || watch.monotonic() >= deadline;
    if (over || progress !== seen) yield receipt;
    if (over) return;
    seen = progress;
  }
}
