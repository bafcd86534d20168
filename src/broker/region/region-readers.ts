/**
 * Region readers: the nodes of a region that read the region's copy of the log. Pure.
 *
 * A read is answered from the copy at once when the copy holds more, or when the copy contradicts the reader. A reader
 * at the head waits for more; one question to the home region serves all of them. A reader beyond the head never gets
 * "forked" or "truncated" because the copy is late.
 */
import type { Link } from "../../events/index.ts";
import type { PageOutcome } from "../../replication/index.ts";
import { pageEventsMax, pageWaitMsMax } from "../state/page-server.ts";
import type { RegionCopy } from "./region-copy.ts";
import type { RegionFact } from "./region-messages.ts";
import type { RegionStepContext } from "./region-step-context.ts";

/** A reader at the head waits this long for the home region to answer. */
const homeAnswerMsMax = 600;
const readersMax = 4_096;

type Reader = Readonly<{
  id: number;
  after: Link;
  limit: number;
  askedAt: number;
  /** When its own long poll ends. */
  waitUntil: number;
  /** It waits at least until then for an answer of the home region. */
  homeUntil: number;
}>;

export class RegionReaders {
  readonly #context: RegionStepContext;
  readonly #copy: RegionCopy;
  readonly #waiting = new Map<number, Reader>();
  /** The request time of the newest read that the home region has answered. */
  #homeReadAt = Number.NEGATIVE_INFINITY;
  #served = 0;
  #closed = false;

  constructor(context: RegionStepContext, copy: RegionCopy) {
    this.#context = context;
    this.#copy = copy;
  }

  /** Pages that held events, so far. */
  get pagesServed(): number {
    return this.#served;
  }

  read({ id, after, limit, waitMs }: Extract<RegionFact, { type: "readAsked" }>, isHomeInReach: () => boolean): void {
    const now = this.#context.now;
    const reader: Reader = {
      id,
      after,
      limit: Math.min(pageEventsMax, limit),
      askedAt: now,
      waitUntil: now + Math.max(0, Math.min(pageWaitMsMax, waitMs)),
      homeUntil: isHomeInReach() ? now + homeAnswerMsMax : now,
    };
    if (this.#waiting.size >= readersMax) {
      this.#refuse(id, "too many readers");
      return;
    }
    if (this.#serve(reader)) return;
    this.#waiting.set(id, reader);
    this.#context.wakeBy(this.#deadlineOf(reader));
    this.#context.emit({ type: "look" });
  }

  /** The reader has gone. */
  giveUp(id: number): void {
    const reader = this.#waiting.get(id);
    if (reader === undefined) return;
    this.#waiting.delete(id);
    this.#answerWithout(reader);
  }

  /** The home region has answered a read that was requested at this time. */
  homeAnswered(askedAt: number): void {
    this.#homeReadAt = Math.max(this.#homeReadAt, askedAt);
  }

  /** The copy has changed, the home region has answered, or time has passed. */
  serveAll(): void {
    for (const reader of [...this.#waiting.values()]) {
      if (this.#serve(reader)) this.#waiting.delete(reader.id);
      else this.#context.wakeBy(this.#deadlineOf(reader));
    }
  }

  close(): void {
    this.#closed = true;
    this.serveAll();
  }

  /** @returns whether the reader has its answer */
  #serve(reader: Reader): boolean {
    const { id, after, limit } = reader;
    const outcome = this.#copy.read(after, limit);
    const { head } = this.#copy;
    if (outcome.type === "page" && outcome.page.entries.length > 0) {
      this.#served += 1;
      this.#answer(id, outcome);
      return true;
    }
    if (outcome.type === "truncated") {
      this.#answer(id, outcome);
      return true;
    }
    // Otherwise the reader's link is of a later epoch than the whole copy: the copy holds a lost suffix, and will
    // detect it.
    if (outcome.type === "otherChain" && (outcome.link.epoch >= after.epoch || head.epoch > after.epoch)) {
      this.#answer(id, { type: "forked", head });
      return true;
    }
    if (!this.#closed && this.#context.now < this.#deadlineOf(reader)) return false;
    this.#answerWithout(reader);
    return true;
  }

  /** Answers when no events have arrived: the reader is at the head, or the copy has not reached it. */
  #answerWithout({ id, after, limit }: Reader): void {
    const outcome = this.#copy.read(after, limit);
    if (outcome.type === "page") this.#answer(id, outcome);
    else this.#refuse(id, "this region's copy of the log has not reached that position");
  }

  #deadlineOf({ waitUntil, homeUntil, askedAt }: Reader): number {
    return Math.max(waitUntil, this.#homeReadAt >= askedAt ? askedAt : homeUntil);
  }

  #answer(id: number, answer: PageOutcome): void {
    this.#context.emit({ type: "answerRead", id, answer });
  }

  #refuse(id: number, message: string): void {
    this.#context.emit({ type: "answerRead", id, answer: { type: "unavailable", message } });
  }
}
