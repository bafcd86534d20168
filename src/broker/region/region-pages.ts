/**
 * Region pages: how a regional broker follows the log, and what it serves of it.
 *
 * Its own projection reads here: from what lies on the disk first, then from the home region; what comes is kept. Nodes are
 * served what is kept, and whoever stands at the head waits for more, while one question goes to the home region for all of them.
 */
import { type Link, sameLink } from "../../events/index.ts";
import {
  BrokerUnavailableError,
  type Clock,
  type EnvelopeOpener,
  type Fanout,
  type Logger,
  openBatch,
  type PageOutcome,
  type ReplicaProcess,
} from "../../replication/index.ts";
import type { PageRequest } from "../api/databroker-port.ts";
import { Bell, pause } from "../bell.ts";
import { pageEventsMax, pageWaitMsMax } from "../ledger/pages.ts";
import type { HomeRegion } from "./home-region.ts";
import type { RegionCopy } from "./region-copy-file.ts";

/** Whoever asks at the head is told what the home region has, if it answers within this. */
const lookMs = 600;
const readersMax = 4_096;
const fillEvents = 2_000;
/** What the replay buffer brought has been taken by our projection by then, or never will be. */
const replaySettleMs = 50;

export class RegionPages {
  readonly #home: HomeRegion;
  readonly #copy: RegionCopy;
  readonly #open: EnvelopeOpener;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** Rings when the copy has moved, or the home region has answered. */
  readonly #moved = new Bell();
  readonly #counts = { pagesServed: 0, copyGaps: 0, copyNotKept: 0 };
  #following: Pick<ReplicaProcess, "applied" | "look"> | null = null;
  /** The newest beginning of a read that the home region has answered. */
  #lookedAt = Number.NEGATIVE_INFINITY;
  /** What was on this disk at the start is read from it first. */
  #bootHead: Link | null;
  #readers = 0;
  #filling: "yes" | "no" = "no";
  #disk: "takes" | "refuses" = "takes";
  #closed: "yes" | "no" = "no";

  constructor(
    parts: Readonly<{ home: HomeRegion; copy: RegionCopy; open: EnvelopeOpener; clock: Clock; logger: Logger }>,
  ) {
    this.#home = parts.home;
    this.#copy = parts.copy;
    this.#open = parts.open;
    this.#clock = parts.clock;
    this.#logger = parts.logger;
    const { head, base } = parts.copy;
    this.#bootHead = head.position > base.position ? head : null;
  }

  get counts(): Readonly<Record<string, number>> {
    return { ...this.#counts, copyHead: this.#copy.head.position, copyBase: this.#copy.base.position };
  }

  /** The broker's own projection, once it has been started. */
  follows(replica: Pick<ReplicaProcess, "applied" | "look">): void {
    this.#following = replica;
  }

  close(): void {
    this.#closed = "yes";
    this.#moved.ring();
  }

  /** True when the copy holds this very event. */
  holds(link: Link): boolean {
    const here = this.#copy.linkAt(link.position);
    return here !== undefined && sameLink(here, link);
  }

  /** The broker's own projection has moved. */
  moved(): void {
    this.#moved.ring();
  }

  /** For the broker's own projection. @throws BrokerUnavailableError */
  async readHome(after: Link, request: PageRequest): Promise<PageOutcome> {
    const own = this.#fromDisk(after, request.limit);
    if (own !== undefined) return own;
    // A delivery that our projection had to hold was not kept: nobody waits at the head for what is missing before it.
    const { head } = this.#copy;
    if (head.position > 0 && head.position < after.position) this.#fill();
    const startedAt = this.#clock.monotonic();
    const outcome = await this.#home.probe("broker", (home) => home.read(after, request));
    if (outcome.type === "forked") this.#copy.clear();
    if (outcome.type === "page" && this.#onDisk(() => this.#copy.take(outcome.page)) === false) this.#fill();
    this.#lookedAt = Math.max(this.#lookedAt, startedAt);
    this.#moved.ring();
    return outcome;
  }

  #fromDisk(after: Link, limit: number): PageOutcome | undefined {
    if (this.#bootHead === null || after.position >= this.#bootHead.position) {
      this.#bootHead = null;
      return undefined;
    }
    const outcome = this.#copy.read(after, limit);
    return outcome.type === "page" && outcome.page.entries.length > 0 ? outcome : undefined;
  }

  /** The fan-out for the broker's own projection: what it takes from there is kept. */
  kept(fanout: Fanout): Fanout {
    return {
      ...fanout,
      subscribe: (listener) =>
        fanout.subscribe((envelope) => {
          listener(envelope);
          this.#keep(envelope);
        }),
      replay: async (asked) => {
        const envelopes = (await fanout.replay?.(asked)) ?? [];
        if (envelopes.length > 0)
          void pause(replaySettleMs).then(() => {
            for (const envelope of envelopes) this.#keep(envelope);
          });
        return envelopes;
      },
    };
  }

  /** Keeps what a leader has published, if our projection has taken it. */
  #keep(envelope: Uint8Array): void {
    const opened = openBatch(envelope, this.#open, (last) => last.position <= this.#copy.head.position);
    if ("refused" in opened || this.#following === null || this.#closed === "yes") return;
    const { batch } = opened;
    if (batch.last.position > this.#following.applied.position) return;
    const kept = this.#onDisk(() => this.#copy.follow(batch));
    if (kept === true) this.#moved.ring();
    else if (kept === false) this.#fill();
  }

  /** A disk that takes no more leaves the copy where it is; our projection, and with it all leases here, goes on. */
  #onDisk(keep: () => boolean): boolean | "refused" {
    try {
      const kept = keep();
      if (kept) this.#disk = "takes";
      return kept;
    } catch (error) {
      if (!(error instanceof Error && "errcode" in error)) throw error; // not SQLite's
      this.#counts.copyNotKept += 1;
      if (this.#disk === "takes")
        this.#logger.error(
          { err: error },
          "the region's copy of the log cannot be written: make room in the data folder. What is there is kept; it is filled when the disk takes it",
        );
      this.#disk = "refuses";
      return "refused";
    }
  }

  #fill(): void {
    if (this.#following !== null && this.#filling === "no") void this.#fillUpTo(this.#following);
  }

  /** Reads what our projection has and the copy on the disk has not. */
  async #fillUpTo(following: Pick<ReplicaProcess, "applied">): Promise<void> {
    this.#filling = "yes";
    this.#counts.copyGaps += 1;
    try {
      while (this.#closed === "no" && this.#copy.head.position < following.applied.position) {
        const after = this.#copy.head;
        const outcome = await this.#home.probe("broker", (home) => home.read(after, { limit: fillEvents, waitMs: 0 }));
        if (outcome.type === "forked") this.#copy.clear();
        // Nobody has what is missing any more: whoever reads here and wants it needs a snapshot, as we did.
        else if (outcome.type === "truncated") this.#copy.beginAt(following.applied);
        else if (outcome.page.entries.length === 0) break;
        else if (this.#onDisk(() => this.#copy.take(outcome.page)) !== true) break;
        this.#moved.ring();
      }
    } catch (error) {
      this.#logger.debug({ err: error }, "the region's copy could not be filled yet");
    } finally {
      this.#filling = "no";
    }
  }

  /** For the nodes of the region. @throws BrokerUnavailableError when the copy has not got as far as they have */
  async read(after: Link, request: PageRequest): Promise<PageOutcome> {
    if (this.#readers >= readersMax) throw new BrokerUnavailableError("too many readers");
    this.#readers += 1;
    try {
      return await this.#readWaiting(after, request);
    } finally {
      this.#readers -= 1;
    }
  }

  async #readWaiting(after: Link, { limit, waitMs, signal }: PageRequest): Promise<PageOutcome> {
    const askedAt = this.#clock.monotonic();
    const until = askedAt + Math.max(0, Math.min(pageWaitMsMax, waitMs));
    const lookUntil = this.#home.answers ? askedAt + lookMs : askedAt;
    for (let asked = false; ; asked = true) {
      const seen = this.#moved.count;
      const outcome = this.#copy.read(after, Math.min(pageEventsMax, limit));
      if (outcome.type === "truncated") return outcome;
      if (outcome.type === "page" && outcome.page.entries.length > 0) {
        this.#counts.pagesServed += 1;
        return outcome;
      }
      const { head } = this.#copy;
      // Else what they hold is of a later epoch than all of this copy: it is the copy that holds a lost suffix, and will find out.
      const isTheirs = outcome.type === "foreign" && (outcome.link.epoch >= after.epoch || head.epoch > after.epoch);
      if (isTheirs) return { type: "forked", head };
      const looked = this.#lookedAt >= askedAt ? askedAt : lookUntil;
      const leftMs = Math.max(until, looked) - this.#clock.monotonic();
      if (leftMs <= 0 || signal?.aborted === true || this.#closed === "yes") {
        if (outcome.type === "page") return outcome;
        throw new BrokerUnavailableError("this region's copy of the log has not got that far");
      }
      if (!asked) this.#following?.look();
      await this.#moved.wait(seen, leftMs, signal);
    }
  }
}
