/**
 * Facts then: the callers of recorded decisions as the log had them, for decisions in about the order of their
 * positions. It folds the log forward once. A decision that comes late is answered if its facts are unchanged since.
 */
import {
  type CallerOf,
  callersThen,
  createLogWalk,
  isUnchangedSince,
  LogUnreachableError,
  type LogWalk,
} from "../../../audit/index.ts";
import type { DecisionRecord, RoutePolicy } from "../../../auth/index.ts";
import { type Link, type Position, sameLink } from "../../../events/index.ts";
import type { Databroker, Replica } from "../../../replication/index.ts";
import type { LogArchive } from "../../../replication/snapshot/index.ts";
import { checkArchive, type PastLog } from "../past/past-log.ts";

export type FactsThenDeps = Readonly<{
  past: Pick<PastLog, "stateAt">;
  databroker: Pick<Databroker, "read" | "history">;
  archive: LogArchive | null;
  open: Replica["open"];
  /** What the policy of a decision reads. */
  readsOf: (record: DecisionRecord) => Pick<RoutePolicy, "reads">;
  /** The position up to which this server has read the log. */
  head: () => Position;
  onProgress: () => void;
  /** Lets others run. */
  pause: () => Promise<void>;
  signal: AbortSignal;
}>;

export const factsUnreachable = "the log no longer has the facts of that time (docs/audit-explain.md#after-retention)";
export const factsLost = "its history was lost in a failover or a restore";
export const factsChanged = "it came out of order, and its facts changed meanwhile";

const beginningsMax = 8;
const linksMax = 1_000;

export class FactsThen {
  readonly #deps: FactsThenDeps;
  #walk: LogWalk | null = null;
  #callerOf: CallerOf | null = null;
  #beginnings = 0;
  /** No beginning before this position can succeed. */
  #tryFrom = 0;
  readonly #links = new Map<Position, Link | null>();

  constructor(deps: FactsThenDeps) {
    this.#deps = deps;
  }

  /** @returns text: why the caller of that time is not known @throws BrokerUnavailableError */
  async callerOf(record: DecisionRecord): Promise<CallerOf | string> {
    const { position } = record.applied;
    try {
      this.#walk ??= await this.#begin(position);
      if (this.#walk === null) return factsUnreachable;
      await this.#walk.advanceTo(position);
    } catch (error) {
      if (!(error instanceof LogUnreachableError)) throw error;
      this.#deps.signal.throwIfAborted();
      this.#walk = null;
      await this.#deferBeginning(position);
      return factsUnreachable;
    }
    const walk = this.#walk;
    if (walk.link().position <= position)
      return sameLink(walk.link(), record.applied) ? this.#callers(walk) : factsLost;
    const link = await this.#linkAt(position);
    if (link === null || !sameLink(link, record.applied)) return factsLost;
    return isUnchangedSince(record, this.#deps.readsOf(record), walk) ? this.#callers(walk) : factsChanged;
  }

  #callers({ projection }: LogWalk): CallerOf {
    this.#callerOf ??= callersThen({ projection, open: this.#deps.open });
    return this.#callerOf;
  }

  async #begin(position: Position): Promise<LogWalk | null> {
    if (position < this.#tryFrom || this.#beginnings >= beginningsMax) return null;
    this.#beginnings += 1;
    const { past, databroker, archive, signal, onProgress, pause } = this.#deps;
    const state = await past.stateAt({ position }, { onProgress, signal });
    this.#callerOf = null;
    return createLogWalk(state, {
      read: (after, limit) => databroker.read(after, { limit, waitMs: 0, signal }),
      archived: async (after) => (archive === null ? null : checkArchive(archive.eventsAfter(after))),
      pause,
      signal,
    });
  }

  /** The next attempt is made where the log begins, or an eighth of the way to its end further on. */
  async #deferBeginning(position: Position): Promise<void> {
    const { base } = await this.#deps.databroker.history({ streams: [], upTo: position, depth: 1 });
    const left = Math.max(0, this.#deps.head() - position);
    this.#tryFrom = Math.max(base, position + 1 + Math.floor(left / beginningsMax));
  }

  async #linkAt(position: Position): Promise<Link | null> {
    const known = this.#links.get(position);
    if (known !== undefined) return known;
    const { at } = await this.#deps.databroker.history({ streams: [], upTo: position, depth: 1 });
    if (this.#links.size >= linksMax) this.#links.clear();
    this.#links.set(position, at);
    return at;
  }
}
