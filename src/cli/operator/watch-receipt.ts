/**
 * Receipt watcher: follows a receipt until it is signed or out of time, also over a change of leader.
 *
 * On a terminal it prints each node once the node has applied the change or is fenced. With `--json` every change of
 * the receipt is a line.
 */
import { setTimeout as delay } from "node:timers/promises";
import { parseLastKnown } from "../../console/index.ts";
import type { UnavailableCode } from "../../events/index.ts";
import type { Receipt } from "../../replication/index.ts";
import { isLastAnswer } from "../../replication/lease/index.ts";
import type { Terminal } from "../terminal/command.ts";
import { formatVerdict, maskControlCharacters } from "../terminal/print.ts";
import { type OperatorClient, OperatorRefusedError } from "./operator-client.ts";

const graceMs = 15_000;
const retryMs = 250;
/** The region of the server is cut off: every retry fails until that ends. */
const homeUnreachable: UnavailableCode = "home-unreachable";

/** The last event of a stream that ends without a receipt. */
type Unavailable = Readonly<{ error: string; code?: string; lastKnown?: unknown }>;

/** @param options.target `link:…` or `command:…` @param options.onProgress called with each change but the last */
export async function watchReceipt(
  client: OperatorClient,
  options: Readonly<{
    target: string;
    wait: "all" | "region";
    /** Absent: the server's own region. */
    region?: string;
    timeoutMs: number;
    onProgress: (receipt: Receipt) => void;
    /** Ends the wait with an error. */
    signal?: AbortSignal;
  }>,
): Promise<Receipt> {
  const endsAt = performance.now() + options.timeoutMs;
  const region = options.region === undefined ? "" : `&region=${encodeURIComponent(options.region)}`;
  for (;;) {
    const leftMs = Math.max(0, Math.floor(endsAt - performance.now()));
    const path = `/receipts/${options.target}?wait=${options.wait}${region}&timeoutMs=${leftMs}&timeout=${leftMs}`;
    let last: Receipt | undefined;
    let cutOff: OperatorRefusedError | undefined;
    const timeout = AbortSignal.timeout(leftMs + graceMs);
    const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
    const onEvent = (data: string): void => {
      const answer = JSON.parse(data) as Receipt | Unavailable;
      if ("error" in answer) {
        cutOff = answer.code === homeUnreachable ? cutOffError(answer) : undefined; // otherwise no broker leads now
        return;
      }
      if (answer.signed !== null || isLastAnswer(answer)) last = answer;
      else options.onProgress(answer);
    };
    try {
      await client.stream(path, null, onEvent, signal);
    } catch (error) {
      if (performance.now() >= endsAt || isFinal(error) || options.signal?.aborted === true) throw error;
    }
    if (last !== undefined) return last;
    if (cutOff !== undefined) throw cutOff;
    // The stream ended early. Out of time: fetch the receipt in its current state.
    if (performance.now() >= endsAt)
      return (await client.get(
        `/receipts/${options.target}?wait=${options.wait}${region}&timeoutMs=0&timeout=0`,
        graceMs,
      )) as Receipt;
    await delay(retryMs);
  }
}

function cutOffError({ error, lastKnown }: Unavailable): OperatorRefusedError {
  return new OperatorRefusedError(`no receipt: ${error}`, {
    status: 503,
    reason: homeUnreachable,
    outcome: "unknown",
    lastKnown: parseLastKnown(lastKnown),
  });
}

/** Whether a retry would get the same error: the request or the caller is at fault. */
function isFinal(error: unknown): boolean {
  if (!(error instanceof OperatorRefusedError)) return false;
  return error.reason === homeUnreachable || (error.status >= 400 && error.status < 500);
}

/** Prints each node once when it is done, and redraws one line about the missing nodes. */
export function showProgress(terminal: Terminal): Readonly<{ show: (receipt: Receipt) => void; clear: () => void }> {
  const printed = new Set<string>();
  let drawn = false;
  const clear = (): void => {
    if (drawn) terminal.err("\r\u001b[2K");
    drawn = false;
  };
  return {
    clear,
    show(receipt) {
      clear();
      for (const { node, boot, region, status } of receipt.nodes) {
        const name = `${node} ${boot} ${status}`;
        if (status === "unconfirmed" || printed.has(name)) continue;
        printed.add(name);
        terminal.err(`${maskControlCharacters(node)} (${maskControlCharacters(region)}) ${status}\n`);
      }
      if (!terminal.interactive) return;
      terminal.err(formatVerdict(receipt));
      drawn = true;
    },
  };
}
