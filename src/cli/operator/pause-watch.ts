/**
 * Pause watch: how long no change is accepted in a planned move of the home region, from just before the old primary
 * refuses the first one until a broker of the target region says that it leads. It uses one clock, that of the command,
 * so the true time is shorter.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { MovePlan } from "../../replication/log/index.ts";
import type { HomeBroker, HomeBrokers } from "./home-brokers.ts";

export class PauseWatch {
  readonly #asked: HomeBrokers;
  readonly #region: string;
  readonly #over = new AbortController();
  /** The newest epoch before the move. */
  #epoch = 0;
  /** False: an earlier run may have stopped the changes, so it is not known since when. */
  #isFirst = false;
  #fencedAt: number | null = null;
  #endedAt: number | null = null;
  #leader: Promise<HomeBroker | undefined> | null = null;

  constructor(asked: HomeBrokers, region: string) {
    this.#asked = asked;
    this.#region = region;
  }

  begin({ kind, steps }: MovePlan, epoch: number): void {
    this.#epoch = kind === "arrived" ? 0 : epoch;
    this.#isFirst = kind === "planned" && steps.some(({ id, state }) => id === "fence" && state === "to do");
  }

  /** Null: this run stopped nothing, an earlier one may have, or no broker leads yet. */
  get withoutChangesMs(): number | null {
    return this.#fencedAt === null || this.#endedAt === null ? null : Math.round(this.#endedAt - this.#fencedAt);
  }

  fenced(): void {
    if (this.#isFirst) this.#fencedAt = performance.now();
  }

  watch(): void {
    this.#leader ??= this.#asked.firstLeader(this.#region, this.#epoch, this.#over.signal).then((leader) => {
      if (leader !== undefined) this.#endedAt = performance.now();
      return leader;
    });
  }

  /** @returns undefined: no broker of the region leads a later epoch yet */
  async leader(withinMs: number): Promise<HomeBroker | undefined> {
    this.watch();
    return Promise.race([this.#leader, delay(withinMs, undefined, { ref: false })]).then(
      (leader) => leader ?? undefined,
    );
  }

  stop(): void {
    this.#over.abort();
  }
}
