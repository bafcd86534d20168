/**
 * Postgres model: a primary and its standbys, and the actions of operators and accidents on them.
 *
 * A promotion follows docs/protocol.md §4.4. First, enough standbys stop their receivers, so that the old primary can
 * no longer answer any commit cleanly. Then the operator compares their positions and promotes the furthest one. The
 * model calls every lesser procedure unsafe, and reports it so. Faults decide when something breaks; the model does
 * not.
 */
import type { Report } from "./facts.ts";
import type { Network } from "./network.ts";
import { type PostgresCommon, type PostgresCounts, PostgresServer } from "./postgres-server.ts";
import type { WalRecord } from "./postgres-state.ts";
import type { Stream } from "./random.ts";
import type { World } from "./world.ts";

export type PostgresOptions = Readonly<{
  world: World;
  /** The first server is the initial primary. */
  servers: readonly Readonly<{ name: string; region: string }>[];
  /** Number of standbys that a commit waits for. 0: asynchronous. */
  synchronous: number;
  partitionSize?: number;
  /** `absent`: the operator acts only on request. */
  operator?: "tends" | "absent";
  /** Maximum delay (ms) before a checkpointer reads a changed file. 0: it reads the file at once. */
  checkpointerMsMax?: number;
  report?: Report;
}>;

export type FailoverOutcome =
  | Readonly<{ type: "promoted"; server: PostgresServer }>
  /** Too few standbys were reachable to rule out the loss of acknowledged commits. */
  | Readonly<{ type: "impossible"; reason: string }>;

/** Time between two steps of an operator's tool. */
const stepMs = 60;
const rebuildMs = [300, 1_500] as const;
/** Interval between two operator checks, and the maximum time an old primary keeps its role after another promotion. */
const tendEveryMs = 2_000;
const zombieMsMax = 12_000;

export class PostgresModel {
  readonly servers: readonly PostgresServer[];
  readonly counts: PostgresCounts;
  readonly #world: World;
  readonly #operator: "tends" | "absent";
  readonly #checkpointerMsMax: number;
  readonly #checkpointers: Stream;
  #synchronous: number;
  /** The primary, as the operator knows it. */
  #primary: PostgresServer;
  #busy = false;
  /**
   * Length of the primary's log when commits last began to wait for more standbys than before. Infinity: the change is
   * not yet in effect.
   */
  #raisedAt = 0;
  #zombiesUntil = 0;
  readonly #rebuilding = new Set<PostgresServer>();

  constructor(options: PostgresOptions) {
    const { world } = options;
    this.#world = world;
    this.#synchronous = options.synchronous;
    this.#checkpointerMsMax = options.checkpointerMsMax ?? 0;
    this.#checkpointers = world.random("checkpointers");
    this.#operator = options.operator ?? "tends";
    this.counts = {
      ...{ committed: 0, hung: 0, cancelled: 0, visibleByCrash: 0, refused: 0, lockTimeouts: 0 },
      ...{ answersLost: 0, promotions: 0, recordsLost: 0 },
    };
    let txn = 0;
    let timeline = 1;
    const common: PostgresCommon = {
      world,
      random: world.random("pg"),
      report: options.report ?? ((fact) => world.report(fact)),
      nextTxn: () => {
        txn += 1;
        return txn;
      },
      nextTimeline: () => {
        timeline += 1;
        return timeline;
      },
      names: () => options.servers.map(({ name }) => name),
      partitionSize: options.partitionSize ?? 1_000_000,
      counts: this.counts,
    };
    this.servers = options.servers.map((machine) => new PostgresServer(common, machine));
    const [first] = this.servers;
    if (first === undefined) throw new Error("a Postgres model needs a server");
    this.#primary = first;
    for (const server of this.servers) {
      server.named = options.synchronous;
      server.synchronous = options.synchronous;
      server.onConfigured = () => this.#configured(server);
      server.upstream = server === first ? undefined : first;
    }
    first.role = "primary";
  }

  get partitionSize(): number {
    return this.#primary.common.partitionSize;
  }

  get network(): Network {
    return this.#world.network;
  }

  get primary(): PostgresServer {
    return this.#primary;
  }

  /** True during a promotion, a restore or a full rebuild. */
  get isBusy(): boolean {
    return this.#busy;
  }

  get synchronous(): number {
    return this.#synchronous;
  }

  start(): void {
    const { primary } = this;
    const standbys = this.#synchronous;
    primary.common.report({ type: "names-set", ...primary.here(), standbys });
    primary.common.report({ type: "synchronous-set", ...primary.here(), standbys });
    for (const server of this.servers) server.process.start();
    if (this.#operator === "tends") this.#world.after(tendEveryMs, () => this.#tend());
  }

  server(name: string): PostgresServer {
    const found = this.servers.find((one) => one.name === name);
    if (found === undefined) throw new Error(`there is no server ${name}`);
    return found;
  }

  standbys(): PostgresServer[] {
    return this.servers.filter((one) => one !== this.#primary);
  }

  /**
   * Writes the setting into the files of the servers. Each checkpointer reads its file after its own delay; 0 then
   * releases the waiting commits.
   *
   * A manager lowers the number on the primary that it knows and on the standbys of that primary. It never lowers it on
   * an old primary that still accepts writes. With empty names there, two histories would grow side by side, and no
   * protocol on top can repair that.
   */
  setSynchronous(standbys: number): void {
    if (standbys > this.#synchronous) this.#raisedAt = Number.POSITIVE_INFINITY;
    this.#synchronous = standbys;
    const { primary } = this;
    primary.common.report({ type: "names-set", ...primary.here(), standbys });
    for (const server of this.servers) {
      const isManaged = server === primary || (server.process.isUp && !server.isPrimary);
      if (isManaged || standbys > server.named) server.configure(standbys, this.#checkpointerMs());
    }
  }

  #checkpointerMs(): number {
    const max = this.#checkpointerMsMax;
    if (max === 0) return 0;
    // Usually at once; much later during a long fsync.
    return this.#checkpointers.chance(0.7) ? this.#checkpointers.within(1, 20) : this.#checkpointers.within(20, max);
  }

  #configured(server: PostgresServer): void {
    if (server !== this.#primary || server.synchronous < this.#synchronous) return;
    this.#raisedAt = Math.min(this.#raisedAt, server.wal.length);
  }

  /**
   * Runs pg_cancel_backend on the oldest waiting commit of the first primary that has one. @returns false if none waits
   */
  cancelWait(): boolean {
    return this.servers.some((server) => server.isPrimary && server.cancelWait());
  }

  /**
   * Promotes another server. The old primary keeps its state: dead, or cut off and unaware of the promotion.
   * @param to the server that an unsafe failover promotes; by default the standby with the shortest log
   */
  failOver(how: "procedure" | "unsafe", done: (outcome: FailoverOutcome) => void, to?: PostgresServer): void {
    const impossible = (reason: string): void => done({ type: "impossible", reason });
    if (this.#busy) {
      impossible("another operation is under way");
      return;
    }
    const up = this.standbys().filter(
      (one) => one.isReady && one.role === "standby" && one.process.status === "running",
    );
    if (how === "unsafe") {
      const chosen = to ?? up.toSorted(byProgress)[0];
      if (chosen === undefined || !up.includes(chosen)) {
        impossible("no standby is up");
        return;
      }
      this.#promote(chosen, "unsafe");
      done({ type: "promoted", server: chosen });
      return;
    }
    // The stopped standbys must intersect every quorum that may have answered a commit.
    const voters = this.standbys().length;
    const needed = this.#synchronous === 0 ? 1 : voters - this.#synchronous + 1;
    const sure = up.filter((one) => !one.receiver.diverged && one.timeline === this.#primary.timeline);
    if (sure.length < needed) {
      impossible(`${sure.length} of ${needed} standbys that are needed can be reached`);
      return;
    }
    this.#busy = true;
    this.#primary.note(`is to be replaced: ${sure.map((one) => one.name).join(" and ")} stop receiving`);
    for (const standby of sure) standby.receives = false;
    for (const standby of sure) standby.process.run(() => standby.receiver.stop());
    this.#world.after(stepMs, () => {
      this.#busy = false;
      const still = sure.filter((one) => one.isReady && one.role === "standby");
      const furthest = still.toSorted(byProgress).at(-1);
      if (still.length < needed || furthest === undefined) {
        for (const standby of sure) this.#receiveAgain(standby);
        impossible("a standby was lost on the way");
        return;
      }
      // Commits acknowledged before the wait began or was raised may exist only on the old primary.
      const hasAll = this.#synchronous > 0 && furthest.wal.length >= this.#raisedAt;
      this.#promote(furthest, hasAll ? "procedure" : "unsafe", { count: still.length, of: voters });
      done({ type: "promoted", server: furthest });
    });
  }

  /** Replaces the server by a fresh copy of the primary. */
  rebuild(server: PostgresServer, done: () => void = () => {}): void {
    if (server === this.#primary) throw new Error("the primary cannot be rebuilt from itself");
    server.process.kill();
    this.#rebuilding.add(server);
    const { random } = server.common;
    this.#world.after(random.within(rebuildMs[0], rebuildMs[1]), () => {
      const source = this.#primary;
      this.#rebuilding.delete(server);
      if (server === source) return done();
      server.process.kill();
      server.common.counts.recordsLost += lostBy(server.wal, source.wal);
      server.restoreFrom(source.wal, source.timeline);
      this.#follow(server, source);
      server.note(`is rebuilt from ${source.name}`);
      server.process.start();
      done();
    });
  }

  /**
   * Restores all servers from a backup, which lacks every write of the last `ageMs`. Half of the servers begin a new
   * timeline, as after a point-in-time recovery. The others are file copies of a server and continue its timeline.
   */
  restoreBackup(ageMs: number, done: () => void = () => {}): void {
    const source = this.#primary;
    const { world } = source.common;
    const until = source.process.clock.wall() - ageMs;
    const wal = source.wal.filter((record) => record.at <= until);
    const timeline = source.common.random.chance(0.5) ? source.common.nextTimeline() : source.timeline;
    this.#busy = true;
    source.note(`a backup ${ageMs} ms old replaces the log: ${source.wal.length - wal.length} commits are gone`);
    source.common.counts.recordsLost += source.wal.length - wal.length;
    for (const server of this.servers) server.process.kill();
    world.after(stepMs * 5, () => {
      this.#busy = false;
      for (const server of this.servers) {
        server.process.kill();
        server.restoreFrom(wal, timeline);
        this.#raisedAt = wal.length;
        if (server === source) {
          server.role = "primary";
          server.reportRestored();
        } else this.#follow(server, source);
        server.process.start();
      }
      done();
    });
  }

  /** Restores order after faults: all servers up, one primary, the others follow it. */
  heal(done: () => void = () => {}): void {
    const primary = this.#primary;
    primary.diskFactor = 1;
    if (!primary.process.isUp) primary.process.start();
    let rebuilding = 1;
    const one = (): void => {
      rebuilding -= 1;
      if (rebuilding === 0) done();
    };
    for (const server of this.standbys()) {
      server.diskFactor = 1;
      const follows = server.role === "standby" && server.upstream === primary && !server.receiver.diverged;
      if (!follows || !isBeginningOf(server.wal, primary.wal)) {
        rebuilding += 1;
        this.rebuild(server, one);
      } else if (server.process.isUp) this.#receiveAgain(server);
      else {
        server.receives = true;
        server.process.start();
      }
    }
    one();
  }

  #promote(
    chosen: PostgresServer,
    how: "procedure" | "unsafe",
    stopped?: Readonly<{ count: number; of: number }>,
  ): void {
    const old = this.#primary;
    this.#primary = chosen;
    this.#zombiesUntil = this.#world.now + chosen.common.random.within(1_000, zombieMsMax);
    chosen.common.counts.recordsLost += lostBy(old.wal, chosen.wal);
    this.#raisedAt = chosen.wal.length;
    chosen.promote(how, stopped);
    // After a forced promotion the operator repoints the other standbys later. Until then one of them may still confirm
    // the old primary's commits.
    if (how === "procedure") this.#repoint();
  }

  /** Routine actions of an operator or Patroni, only on reachable servers. */
  #tend(): void {
    this.#world.after(tendEveryMs, () => this.#tend());
    if (this.#busy || !this.#primary.isPrimary) return;
    this.#repoint();
    for (const server of this.standbys()) {
      if (this.#rebuilding.has(server) || server.process.status === "paused" || this.#isCutOff(server)) continue;
      if (server.role === "primary" && this.#world.now >= this.#zombiesUntil) this.rebuild(server);
      else if (server.role === "standby" && server.receiver.diverged) this.rebuild(server);
    }
  }

  #repoint(): void {
    for (const server of this.standbys()) {
      if (server.role !== "standby" || !server.isReady || server.process.status === "paused") continue;
      if (server.upstream === this.#primary && server.receives) continue;
      this.#follow(server, this.#primary);
      this.#receiveAgain(server);
    }
  }

  #isCutOff(server: PostgresServer): boolean {
    const { network } = this.#world;
    const primary = this.#primary.process;
    return network.isCut(server.process, primary) || network.isCut(primary, server.process);
  }

  #follow(server: PostgresServer, upstream: PostgresServer): void {
    server.role = "standby";
    server.upstream = upstream;
    server.receives = true;
  }

  #receiveAgain(server: PostgresServer): void {
    server.receives = true;
    if (server.isReady) server.process.run(() => server.receiver.start());
  }
}

function byProgress(a: PostgresServer, b: PostgresServer): number {
  return a.timeline - b.timeline || a.wal.length - b.wal.length;
}

function isBeginningOf(wal: readonly WalRecord[], of: readonly WalRecord[]): boolean {
  return wal.length <= of.length && wal.at(-1) === of[wal.length - 1];
}

/** Number of records in the first log that are missing in the second. */
function lostBy(first: readonly WalRecord[], second: readonly WalRecord[]): number {
  let shared = Math.min(first.length, second.length);
  while (shared > 0 && first[shared - 1] !== second[shared - 1]) shared -= 1;
  return first.length - shared;
}
