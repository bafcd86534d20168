/**
 * Revocation ledger: the local revocations of a run, where they are stored and enforced, and where the log has them.
 *
 * It is built from facts and the servers' logs, with none of the product's reasoning.
 */
import type { Recorded } from "../../../src/events/index.ts";
import type { StorePosition } from "../../../src/replication/wire/index.ts";
import type { ProcessName, SimFactOf, SimMs } from "../facts.ts";
import type { RevocationView } from "../revocation-facts.ts";
import type { LogPoint } from "./chains.ts";
import type { GroundTruth } from "./ground-truth.ts";
import type { Monitor } from "./monitor.ts";

export type KnownRevocation = {
  readonly view: RevocationView;
  readonly sessions: ReadonlySet<string>;
  readonly storedBy: Set<ProcessName>;
  /** The brokers whose present disk has held it. */
  readonly heldBy: Set<ProcessName>;
  /** Its numbers in the stores of brokers. */
  readonly places: Map<string, number>;
  /** By process: the boot that it has reached. */
  readonly arrivedAt: Map<ProcessName, string>;
  /** By process: the boot that enforces it. */
  readonly enforcedBy: Map<ProcessName, string>;
  /**
   * Points of the log at which a server recorded its command (without events: the point before), or at which the home
   * region has answered the merge and the log denies all of it.
   */
  readonly merges: LogPoint[];
  /** Those of them at which the command denied something that the revocation denies. */
  readonly recorded: LogPoint[];
  /** The first answer `local`. Null: none yet. */
  local: SimFactOf<"local-answered"> | null;
  /** The first complete receipt. Null: none yet. */
  complete: SimFactOf<"local-receipt-answered"> | null;
  /** When a broker that held it came back with an empty disk (docs/adr/0039). Infinity: never. */
  brokenAt: SimMs;
};

/** A command that a server has written, and the sessions and persons that it denied. */
type Written = Readonly<{ point: LogPoint; denied: ReadonlySet<string> }>;

export class RevocationLedger {
  readonly #truth: GroundTruth;
  readonly #known = new Map<string, KnownRevocation>();
  readonly #byCommand = new Map<string, Set<KnownRevocation>>();
  /** Every command that a server has written. */
  readonly #written = new Map<string, readonly Written[]>();

  constructor(truth: GroundTruth) {
    this.#truth = truth;
  }

  get all(): Iterable<KnownRevocation> {
    return this.#known.values();
  }
  get size(): number {
    return this.#known.size;
  }

  get(key: string): KnownRevocation | undefined {
    return this.#known.get(key);
  }

  ofCommand(commandId: string): Iterable<KnownRevocation> {
    return this.#byCommand.get(commandId) ?? [];
  }

  /**
   * The merge that is in the log at or before a point. Undefined: none is. A merge that finds every session denied
   * already records nothing, and a session stays denied.
   */
  mergeAt({ merges, view }: KnownRevocation, point: LogPoint): LogPoint | undefined {
    const merge = merges.find((each) => this.#truth.chains.contains(point, each));
    if (merge !== undefined || view.suspended !== null) return merge;
    return view.sessions.every((session) => this.#isDenied(session, point)) ? point : undefined;
  }

  /** A session whose creation was lost with a history counts as denied. */
  #isDenied(session: string, point: LogPoint): boolean {
    const denial = this.#truth.rights.denialOf(session, point);
    return denial !== null && (denial.point !== null || this.#truth.lost.length > 0);
  }

  /**
   * Whether everything in a store up to a position may be in force at a process: it has reached the process, or the log
   * has it, so that the store may have dropped it before.
   */
  isTightened(process: ProcessName, { store, seq }: StorePosition): boolean {
    for (const known of this.#known.values()) {
      const place = known.places.get(store);
      if (place === undefined || place > seq || known.arrivedAt.has(process)) continue;
      if (known.merges.length === 0 && this.mergeAt(known, this.#truth.head) === undefined) return false;
    }
    return true;
  }

  /** True if the revocation denies the session, as far as it is not merged. */
  denies({ view, sessions }: KnownRevocation, session: string): boolean {
    if (sessions.has(session)) return true;
    return view.suspended !== null && this.#truth.rights.creationOf(session)?.user === view.suspended;
  }

  /** True if a promotion without proof has lost a merge: processes that had seen it may have dropped the revocation. */
  isLost({ merges }: KnownRevocation): boolean {
    return merges.some((merge) => this.#truth.lost.some((tip) => this.#truth.chains.contains(tip, merge)));
  }

  monitor(): Monitor {
    return {
      invariants: [],
      before: {
        "local-answered": (fact) => {
          if (fact.answer === "local") this.#add(fact.revocation).local ??= fact;
        },
        "revocation-stored": ({ process, revocation, place }) => {
          const known = this.#add(revocation);
          known.storedBy.add(process);
          if (place === null) return;
          known.heldBy.add(process);
          known.places.set(place.store, place.seq);
        },
        "revocation-arrived": (fact) => {
          this.#known.get(fact.key)?.arrivedAt.set(fact.process, fact.boot);
        },
        "revocation-enforced": (fact) => {
          this.#known.get(fact.key)?.enforcedBy.set(fact.process, fact.boot);
        },
        started: (fact) => {
          for (const { enforcedBy, arrivedAt } of this.#known.values()) {
            enforcedBy.delete(fact.process);
            arrivedAt.delete(fact.process);
          }
        },
        "merge-answered": (fact) => this.#mergeAnswered(fact),
        "disk-replaced": (fact) => this.#diskReplaced(fact),
      },
      after: {
        wrote: (fact) => this.#wrote(fact),
        "revocation-dropped": (fact) => {
          this.#known.get(fact.key)?.storedBy.delete(fact.process);
        },
        "local-receipt-answered": (fact) => {
          const known = this.#known.get(fact.key);
          if (known !== undefined && fact.complete) known.complete ??= fact;
        },
      },
    };
  }

  /** A command that home had carried out before, without a change, is not recorded. The answer counts if it is true. */
  #mergeAnswered({ key, link }: SimFactOf<"merge-answered">): void {
    const known = this.#known.get(key);
    const point = this.#truth.find(link);
    if (known === undefined || point === undefined || known.merges.includes(point)) return;
    const { suspended, sessions } = known.view;
    const isDenied =
      suspended === null
        ? sessions.every((session) => this.#isDenied(session, point))
        : this.#truth.rights.userDenial(suspended, point) !== null;
    if (isDenied) known.merges.push(point);
  }

  #add(view: RevocationView): KnownRevocation {
    const known = this.#known.get(view.key);
    if (known !== undefined) return known;
    const written = view.mergeIds.flatMap((id) => this.#written.get(id) ?? []);
    const added: KnownRevocation = {
      view,
      sessions: new Set(view.sessions),
      storedBy: new Set(),
      heldBy: new Set(),
      places: new Map(),
      arrivedAt: new Map(),
      enforcedBy: new Map(),
      merges: written.map(({ point }) => point),
      recorded: written.filter((each) => concerns(view, each)).map(({ point }) => point),
      local: null,
      complete: null,
      brokenAt: Number.POSITIVE_INFINITY,
    };
    this.#known.set(view.key, added);
    for (const id of view.mergeIds) {
      const others = this.#byCommand.get(id) ?? new Set();
      this.#byCommand.set(id, others.add(added));
    }
    return added;
  }

  #diskReplaced({ process, at }: SimFactOf<"disk-replaced">): void {
    const isBroker = this.#truth.nodes.get(process)?.lessee === "broker";
    for (const known of this.#known.values()) {
      known.heldBy.delete(process);
      if (known.storedBy.delete(process) && isBroker) known.brokenAt = Math.min(known.brokenAt, at);
    }
  }

  #wrote(fact: SimFactOf<"wrote">): void {
    for (const { commandId, first, count } of fact.commands) {
      const entry = fact.entries.find(({ recorded }) => recorded.position === first + count - 1);
      const point = entry === undefined ? this.#truth.find(fact.previous) : this.#truth.find(entry.recorded);
      if (point === undefined) continue;
      const before = this.#written.get(commandId) ?? [];
      if (before.some((each) => each.point === point)) continue;
      const entries = fact.entries.filter(
        ({ recorded: { position } }) => first <= position && position < first + count,
      );
      const written = { point, denied: new Set(entries.flatMap(({ recorded }) => deniedBy(recorded))) };
      this.#written.set(commandId, [...before, written]);
      for (const { view, merges, recorded } of this.ofCommand(commandId)) {
        merges.push(point);
        if (concerns(view, written)) recorded.push(point);
      }
    }
  }
}

/** What an event denies by name: a session, or a person. */
function deniedBy({ event }: Recorded): readonly string[] {
  if (event.type === "SessionRevoked") return [event.sessionId];
  return event.type === "UserSuspended" ? [event.userId] : [];
}

function concerns({ sessions, suspended }: RevocationView, { denied }: Written): boolean {
  return suspended === null ? sessions.some((session) => denied.has(session)) : denied.has(suspended);
}
