/**
 * Ground truth: the shared state of all monitors, updated with each fact.
 *
 * It holds the servers' logs, the acknowledged head, the true state of processes and nodes, requests, receipts and
 * faults.
 *
 * - It draws no conclusions about the product.
 * - A lineage is the log of the newest primary. After a promotion without proof (asynchronous, forced, restored),
 *   whatever the new primary lacks is lost.
 * - After such a promotion, permit windows go unchecked until every earlier lease has expired. The contract calls
 *   windows best effort there.
 * - Receipts are checked even then. Exceptions: while two servers accept writes, and while leases of the abandoned
 *   server may last, because no store can know of those.
 */
import type { MassChangeLimits } from "../../../src/broker/commands/performed.ts";
import type { Link } from "../../../src/events/index.ts";
import type { ProcessName, RequestNo, RoutePolicy, SimFact, SimFactOf, SimMs } from "../facts.ts";
import { Chains, type LogPoint } from "./chains.ts";
import { ObservationCounts } from "./monitor-coverage.ts";
import { Rights } from "./rights.ts";
import { Findings } from "./violation.ts";

export type GroundTruthOptions = Readonly<{
  /** Unix ms that a true wall clock shows at simulation time 0. */
  wallStart: number;
  deltaMs: number;
  drift: number;
  /** The longest window that any node is granted, ms. */
  windowMaxMs: number;
  /** The limits of mass changes, where they are low enough to be reached; null or absent: they are not. */
  massChanges?: MassChangeLimits | null;
}>;

export type NodeView = {
  readonly process: ProcessName;
  readonly node: string;
  boot: string;
  region: string;
  lessee: SimFactOf<"started">["lessee"];
  unknownTypes: ReadonlySet<string>;
  up: boolean;
  startedAt: SimMs;
  applied: LogPoint;
  /** The point that the core last reported as enforced; updated with each report. */
  enforced: LogPoint;
  enforcedFact: SimFactOf<"enforced"> | null;
  /** The fact that began the current rebuild, with the link that the node left. Null: it does not rebuild. */
  rebuilding: SimFactOf<"rebuilding"> | null;
  config: SimFactOf<"config-activated"> | null;
  routes: ReadonlyMap<string, RoutePolicy>;
  /** The point of an event that the node's build could not read. Null: none. */
  degraded: LogPoint | null;
  leaving: SimFactOf<"goodbye-sent"> | null;
};

export type RequestView = {
  readonly began: SimFactOf<"request-began">;
  decided: SimFactOf<"decided"> | null;
  opened: SimFactOf<"exchange-opened"> | null;
  /** The point that the node had applied at that time, at which it made its second check. */
  openedAt: LogPoint | null;
  /** Inputs of the stream monitor's last check. While both are unchanged, it skips the check. */
  seenFloor: LogPoint | null;
  seenEnforced: LogPoint | null;
};

/** Floor: a complete receipt. From that time on, everything that it covers is promised. */
export type Floor = Readonly<{ at: SimMs; point: LogPoint; fact: SimFactOf<"receipt-answered"> }>;
type Acknowledged = Readonly<{ at: SimMs; point: LogPoint; fact: SimFact }>;

/** Time for a page in flight and for the rebuild from it. */
const heardMs = 5_000;

export class GroundTruth {
  readonly options: GroundTruthOptions;
  readonly findings = new Findings();
  readonly observations = new ObservationCounts();
  readonly chains = new Chains();
  readonly rights = new Rights(this.chains);
  readonly nodes = new Map<ProcessName, NodeView>();
  readonly requests = new Map<RequestNo, RequestView>();
  readonly up = new Map<ProcessName, SimFactOf<"started">>();
  readonly paused = new Set<ProcessName>();
  readonly faults = new Map<number, SimFactOf<"fault-began">>();
  now: SimMs = 0;
  /** When the last fault ended; −Infinity before the first. */
  quietSince = Number.NEGATIVE_INFINITY;
  faultsOver: SimFactOf<"faults-over"> | null = null;
  primary: ProcessName | null = null;
  synchronous = 1;
  /** The newest acknowledged point of the lineage. */
  head: LogPoint = this.chains.genesis;
  /** One entry for each advance of `head`; both positions and times increase. */
  acknowledged: Acknowledged[] = [];
  /** Tips of the histories lost by promotions without proof, and of what old primaries acknowledged after those. */
  readonly lost: LogPoint[] = [];
  /** Old primaries that may still write, and whose commits other processes may still accept. */
  readonly zombies = new Set<ProcessName>();
  /** Until then a process may still act on what it read from an old primary that is gone. */
  heardOfTwoUntil = Number.NEGATIVE_INFINITY;
  /** Until then, windows are best effort. */
  unprovenUntil = Number.NEGATIVE_INFINITY;
  /** Until then, nodes may hold leases that a leader granted on the basis of a second server. */
  #secondUntil = Number.NEGATIVE_INFINITY;
  /** True if the newest promotion was one without proof. */
  #unproven = false;
  readonly #floors: Floor[] = [];
  readonly #floorsOf = new Map<string, Floor[]>();
  readonly #serverHeads = new Map<ProcessName, LogPoint>();
  /** By command: the claim `round` in the profile that a client submitted. */
  readonly #rounds = new Map<string, number>();

  constructor(options: GroundTruthOptions) {
    this.options = options;
  }

  /** Upper bound of the real time (ms) in which a clock with a rate within 1 ± ρ counts `localMs`. */
  real(localMs: number): number {
    return localMs / (1 - this.options.drift) + 1;
  }

  serverHead(server: ProcessName): LogPoint | undefined {
    return this.#serverHeads.get(server);
  }

  find(link: Link): LogPoint | undefined {
    return this.chains.find(link);
  }

  /** True while windows and fences are checked. */
  get proven(): boolean {
    return this.zombies.size === 0 && this.now >= this.unprovenUntil;
  }

  /** True while receipts are checked: one server accepts writes, and no lease rests on another server. */
  get oneWriter(): boolean {
    return this.zombies.size === 0 && this.now >= this.#secondUntil;
  }

  /** The newest floor that applied before this moment to requests at a node of this region. */
  floorBefore(at: SimMs, region: string): Floor | undefined {
    const all = lastBefore(this.#floors, at);
    const own = lastBefore(this.#floorsOf.get(region) ?? [], at);
    if (all === undefined || own === undefined) return all ?? own;
    return own.point.link.position > all.point.link.position ? own : all;
  }

  /** The newest point acknowledged before this moment. */
  acknowledgedBefore(at: SimMs): Acknowledged | undefined {
    return lastBefore(this.acknowledged, at);
  }

  observe(fact: SimFact): void {
    this.now = fact.at;
    switch (fact.type) {
      case "started":
        this.up.set(fact.process, fact);
        this.paused.delete(fact.process);
        if (fact.role === "node" || fact.role === "broker") this.nodes.set(fact.process, this.#newNode(fact));
        return;
      case "killed":
        this.#killed(fact);
        return;
      case "paused":
        this.paused.add(fact.process);
        return;
      case "resumed":
        this.paused.delete(fact.process);
        return;
      case "fault-began":
        this.faults.set(fact.id, fact);
        return;
      case "fault-ended":
        this.faults.delete(fact.id);
        this.quietSince = fact.at;
        return;
      case "faults-over":
        this.faultsOver = fact;
        return;
      case "synchronous-set":
        if (this.primary === null || fact.process === this.primary) this.synchronous = fact.standbys;
        else if (fact.standbys === 0) this.zombies.add(fact.process); // an old primary that now waits for no standby
        return;
      case "command-invoked": {
        const { command } = fact;
        if (command.type !== "createSession" && command.type !== "refreshSession") return;
        const [round] = command.profile.claims["round"] ?? [];
        if (typeof round === "number") this.#rounds.set(fact.commandId, round);
        return;
      }
      case "wrote":
        this.#wrote(fact);
        return;
      case "committed-cleanly":
        this.#committed(fact);
        return;
      case "promoted":
        this.#promoted(fact);
        return;
      case "demoted":
        this.#noZombie(fact.process);
        return;
      case "receipt-answered":
        this.#receipt(fact);
        return;
      default:
        this.#observeNode(fact);
    }
  }

  #observeNode(fact: SimFact): void {
    switch (fact.type) {
      case "request-began":
        this.requests.set(fact.request, {
          began: fact,
          decided: null,
          opened: null,
          openedAt: null,
          seenFloor: null,
          seenEnforced: null,
        });
        return;
      case "decided": {
        const request = this.requests.get(fact.request);
        if (request === undefined) return;
        request.decided = fact;
        if (fact.verdict !== "permit") this.requests.delete(fact.request);
        return;
      }
      case "exchange-opened": {
        const request = this.requests.get(fact.request);
        if (request === undefined) return;
        request.opened = fact;
        request.openedAt = this.nodes.get(fact.process)?.applied ?? null;
        return;
      }
      case "exchange-ended":
        this.requests.delete(fact.request);
        return;
      case "applied":
        this.#move(fact.process, fact.to);
        return;
      case "snapshot-loaded":
        this.#move(fact.process, fact.link);
        return;
      case "rebuilding":
        this.#with(fact.process, (node) => {
          node.rebuilding = fact;
        });
        return;
      case "rebuilt":
        this.#move(fact.process, fact.to);
        this.#with(fact.process, (node) => {
          node.rebuilding = null;
        });
        return;
      case "enforced":
        this.#with(fact.process, (node) => {
          node.enforced = this.find(fact.link) ?? node.enforced;
          node.enforcedFact = fact;
        });
        return;
      case "goodbye-sent":
        this.#with(fact.process, (node) => {
          node.leaving = fact;
        });
        return;
      case "config-activated":
        this.#with(fact.process, (node) => {
          node.config = fact;
          node.routes = new Map(fact.routes.map((route) => [route.route, route]));
        });
        return;
      default: // only single monitors use the other facts
    }
  }

  #newNode(fact: SimFactOf<"started">): NodeView {
    const { genesis } = this.chains;
    return {
      process: fact.process,
      node: fact.node ?? fact.process,
      boot: fact.boot ?? "",
      region: fact.region,
      lessee: fact.lessee,
      unknownTypes: new Set(fact.unknownTypes),
      up: true,
      startedAt: fact.at,
      applied: genesis,
      enforced: genesis,
      enforcedFact: null,
      rebuilding: null,
      config: null,
      routes: new Map(),
      degraded: null,
      leaving: null,
    };
  }

  #killed(fact: SimFactOf<"killed">): void {
    this.up.delete(fact.process);
    this.paused.delete(fact.process);
    this.#noZombie(fact.process);
    const node = this.nodes.get(fact.process);
    if (node === undefined) return;
    node.up = false;
    for (const [id, request] of this.requests) if (request.decided?.process === fact.process) this.requests.delete(id);
  }

  #wrote(fact: SimFactOf<"wrote">): void {
    let at = this.find(fact.previous) ?? this.#serverHeads.get(fact.process) ?? this.chains.genesis;
    for (const { recorded } of fact.entries) {
      const known = this.chains.size;
      at = this.chains.add(recorded, at);
      if (this.chains.size === known) continue; // written before, by another server
      const wrong = this.rights.fold(at, this.#roundAt(fact, at));
      if (wrong !== null) this.findings.add(21, wrong, [fact]);
    }
    this.#serverHeads.set(fact.process, at);
  }

  #roundAt({ commands }: SimFactOf<"wrote">, { link: { position } }: LogPoint): number | null {
    const command = commands.find(({ first, count }) => first <= position && position < first + count);
    return command === undefined ? null : (this.#rounds.get(command.commandId) ?? null);
  }

  #committed(fact: SimFactOf<"committed-cleanly">): void {
    const point = this.find(fact.head);
    if (point === undefined) return;
    this.chains.acknowledge(point);
    // An old primary may report late an event that its successor has. Without synchronous standbys, it may also report
    // one that the successor lacks.
    if (fact.process !== this.primary && !this.#isOnPrimary(point)) {
      if (this.zombies.has(fact.process)) this.#lose(point);
      return;
    }
    if (point.link.position <= this.head.link.position) return;
    this.head = point;
    this.acknowledged.push({ at: fact.at, point, fact });
  }

  #isOnPrimary(point: LogPoint): boolean {
    const head = this.primary === null ? undefined : this.#serverHeads.get(this.primary);
    return head !== undefined && this.chains.contains(head, point);
  }

  #promoted(fact: SimFactOf<"promoted">): void {
    const head = this.find(fact.head) ?? this.chains.genesis;
    this.#serverHeads.set(fact.process, head);
    const other = this.primary !== null && this.primary !== fact.process;
    if (fact.how === "restarted" && other) {
      // An old primary is back, and its commits may still find a standby.
      if (this.#unproven || this.synchronous === 0) this.zombies.add(fact.process);
      return;
    }
    if (other && this.primary !== null && this.up.has(this.primary)) this.zombies.add(this.primary);
    this.#noZombie(fact.process);
    this.primary = fact.process;
    this.synchronous = fact.standbys ?? this.synchronous;
    this.#unproven = fact.how === "unsafe";
    if (fact.how === "procedure") this.zombies.clear(); // the procedure ensures that none is accepted
    if (fact.how !== "unsafe" && fact.how !== "restored") return;
    this.unprovenUntil = fact.at + this.#leasesOverMs();
    if (this.chains.contains(head, this.head)) return;
    this.#lose(this.head);
    this.#rewind(this.chains.common(head, this.head));
  }

  #lose(tip: LogPoint): void {
    const last = this.lost.at(-1);
    if (last !== undefined && this.chains.contains(tip, last)) this.lost.pop();
    this.lost.push(tip);
  }

  #rewind(to: LogPoint): void {
    this.head = to;
    this.acknowledged = this.acknowledged.filter(({ point }) => this.chains.contains(to, point));
    for (const floors of [this.#floors, ...this.#floorsOf.values()]) {
      const kept = floors.filter(({ point }) => this.chains.contains(to, point));
      floors.splice(0, floors.length, ...kept);
    }
  }

  #noZombie(process: ProcessName): void {
    if (!this.zombies.delete(process)) return;
    this.heardOfTwoUntil = this.now + heardMs;
    this.#secondUntil = this.now + this.#leasesOverMs();
    this.unprovenUntil = Math.max(this.unprovenUntil, this.#secondUntil);
  }

  #leasesOverMs(): number {
    const { windowMaxMs, drift } = this.options;
    return (windowMaxMs * (1 + drift)) / (1 - drift) + 1_000;
  }

  #receipt(fact: SimFactOf<"receipt-answered">): void {
    const { answer, region } = fact;
    if (!answer.complete || answer.link === null) return;
    const point = this.find(answer.link);
    if (point === undefined || !this.chains.contains(this.head, point)) return;
    const floors = answer.wait === "region" && region !== null ? this.#floorsIn(region) : this.#floors;
    const last = floors.at(-1);
    if (last === undefined || last.point.link.position < point.link.position) floors.push({ at: fact.at, point, fact });
  }

  #floorsIn(region: string): Floor[] {
    const floors = this.#floorsOf.get(region) ?? [];
    this.#floorsOf.set(region, floors);
    return floors;
  }

  #move(process: ProcessName, to: Link): void {
    this.#with(process, (node) => {
      node.applied = this.find(to) ?? node.applied;
    });
  }

  #with(process: ProcessName, change: (node: NodeView) => void): void {
    const node = this.nodes.get(process);
    if (node !== undefined) change(node);
  }
}

/** The last item strictly before a moment, in a list ordered by time. */
function lastBefore<Item extends Readonly<{ at: SimMs }>>(list: readonly Item[], at: SimMs): Item | undefined {
  const newest = list.at(-1);
  if (newest === undefined || newest.at < at) return newest;
  let from = 0;
  let to = list.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    const item = list[middle];
    if (item !== undefined && item.at < at) from = middle + 1;
    else to = middle;
  }
  return list[from - 1];
}
