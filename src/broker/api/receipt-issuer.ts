/**
 * Receipt issuer: dates a receipt before it leaves the leader, and signs the last answer together with what the log
 * records at its link: which sessions, user or group; ids only.
 *
 * A receipt is just as true without that: if the log does not answer, it is signed without the recorded change.
 */

import { LRUCache } from "lru-cache";
import {
  type BrokerId,
  type CommandId,
  decodeEvents,
  formatLink,
  genesis,
  type Link,
  previousPosition,
  type Recorded,
  type UnixMs,
} from "../../events/index.ts";
import type { Receipt, ReceiptOptions } from "../../replication/index.ts";
import { isLastAnswer, progressOf } from "../../replication/lease/index.ts";
import { type EventLog, LogUnavailableError } from "../../replication/log/index.ts";
import { changesIn, type RecordedChange, type SignReceipt, stateReceipt } from "../../replication/wire/index.ts";
import type { Counters } from "../core/counters.ts";

export type ReceiptIssuer = Readonly<{
  /**
   * Requests the receipt until it is final, or shows progress that the caller has not seen.
   * @param request returns the receipt when it is complete or lost, or after this time
   */
  answer: (request: (timeoutMs: number) => Promise<Receipt>, options: ReceiptOptions) => Promise<Receipt>;
}>;

/** A watching caller sees a change within this time. */
const progressMs = 100;
const changesMax = 1_000;
const changesBytesMax = 16 * 1024 * 1024;
/** About one change in memory: a stream, a type, and overhead. */
const changeBytes = 512;
const eventsMax = 50_000;
const pageEvents = 10_000;

export function createReceiptIssuer(
  deps: Readonly<{
    cluster: string;
    brokerId: BrokerId;
    log: Pick<EventLog, "read" | "linkAt" | "findCommand" | "durabilityOf">;
    sign: SignReceipt;
    counters: Pick<Counters, "receiptsAsynchronous">;
    clock: Readonly<{ monotonic: () => number; wall: () => UnixMs }>;
  }>,
): ReceiptIssuer {
  const { cluster, brokerId, log, clock } = deps;
  /** Changes by link; a link never names anything else. */
  const known = new LRUCache<string, RecordedChange>({
    max: changesMax,
    maxSize: changesBytesMax,
    sizeCalculation: ({ changes }) => changeBytes * (1 + changes.length),
  });

  async function changeAt(link: Link): Promise<RecordedChange | null> {
    const name = formatLink(link);
    const cached = known.get(name);
    if (cached !== undefined) return cached;
    const change = await read(link);
    if (change !== null) known.set(name, change);
    return change;
  }

  async function read(link: Link): Promise<RecordedChange | null> {
    const [event] = await events({ first: link.position, count: 1 });
    if (event === undefined) return null;
    const { cause } = event;
    const recordedCommand = cause === null ? undefined : await log.findCommand(cause);
    const isWholeCommand =
      recordedCommand !== undefined &&
      recordedCommand.count > 1 &&
      recordedCommand.first + recordedCommand.count - 1 === link.position;
    const all = isWholeCommand && recordedCommand.count <= eventsMax ? await events(recordedCommand) : [event];
    return { commandId: cause as CommandId | null, changes: changesIn(all) };
  }

  async function events(of: Readonly<{ first: number; count: number }>): Promise<readonly Recorded[]> {
    let after = of.first === 1 ? genesis : await log.linkAt(previousPosition(of.first));
    const all: Recorded[] = [];
    while (after !== undefined && all.length < of.count) {
      const outcome = await log.read(after, Math.min(pageEvents, of.count - all.length));
      if (outcome.type !== "page" || outcome.page.entries.length === 0) break;
      all.push(...decodeEvents(outcome.page.entries, outcome.page.previous));
      after = outcome.page.last;
    }
    return all.length < of.count ? [] : all;
  }

  async function signed(receipt: Receipt, at: UnixMs): Promise<Receipt> {
    let recorded: RecordedChange | null = null;
    try {
      recorded = receipt.link === null ? null : await changeAt(receipt.link);
    } catch (error) {
      if (!(error instanceof LogUnavailableError)) throw error;
    }
    const durability = receipt.link === null ? null : await log.durabilityOf(receipt.link);
    if (durability === "asynchronous") deps.counters.receiptsAsynchronous += 1;
    const of = { cluster, brokerId, at, recorded, durability };
    return { ...receipt, at, signed: await deps.sign(stateReceipt(receipt, of)) };
  }

  return {
    async answer(request, options) {
      const { seen, timeoutMs } = options;
      const deadline = clock.monotonic() + timeoutMs;
      for (;;) {
        const leftMs = Math.max(0, deadline - clock.monotonic());
        const receipt = await request(seen === undefined ? leftMs : seen === "" ? 0 : Math.min(leftMs, progressMs));
        const at = clock.wall();
        if (isLastAnswer(receipt) || clock.monotonic() >= deadline) return signed(receipt, at);
        if (seen !== undefined && progressOf(receipt) !== seen) return { ...receipt, at };
      }
    },
  };
}
