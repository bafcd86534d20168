/**
 * Simulated node: runs the real node core in a process of the world and reports facts about it.
 *
 * It does the work of node-process.ts: effects of the core become messages, timers and cuts; answers become inputs. Its
 * disk survives its boots: the saved projection and the name of its last boot.
 */
import type { BootId, NeededLink, NodeId, Recorded } from "../../src/events/index.ts";
import type { PageOutcome } from "../../src/replication/index.ts";
import { readAnswer } from "../../src/replication/node/broker-answers.ts";
import {
  createPersonKeys,
  type DenialsOnDisk,
  type LoadedSnapshot,
  type NodeEffect,
  newNodeCore,
  type PersonKeys,
  type ReadAnswer,
} from "../../src/replication/node/index.ts";
import type { NodeKey } from "../../src/replication/wire/index.ts";
import type { NodeActor, NodeCopy } from "./actors.ts";
import type { BrokerPort, Unavailable } from "./broker-port.ts";
import { readsOf } from "./builds.ts";
import { CopyDriver, callMs, type OwnEffect, replacementBy } from "./copy-driver.ts";
import type { Seals, SimEnvelope } from "./envelopes.ts";
import { Exchanges } from "./exchanges.ts";
import type { RoutePolicy } from "./facts.ts";
import type { NatsClient, NatsModel } from "./nats-model.ts";
import type { NodeConfig, NodeFiles } from "./node-file.ts";
import { NodeRevocationIo, type RevocationDisk } from "./node-revocation-io.ts";
import type { SimProcess } from "./process.ts";
import { load, type Saved, save } from "./saved-projection.ts";
import type { SimOptions } from "./swarm.ts";
import type { World } from "./world.ts";

export type SimNodeOptions = Readonly<{
  world: World;
  options: SimOptions;
  nats: NatsModel<SimEnvelope>;
  seals: Seals;
  cluster: string;
  secret: Uint8Array;
  name: string;
  node: NodeId;
  region: string;
  /** `authorize`: decides for an external proxy, and carries no bytes. */
  lessee: "proxy" | "authorize";
  build: string;
  unknownTypes: readonly string[];
  /** Brokers, in the order in which the node tries them. */
  brokers: () => readonly BrokerPort[];
  /** The addresses of its brokers. Null: its build keeps no local revocations. */
  addresses: readonly string[] | null;
  files: NodeFiles;
}>;

/** The state that survives a boot. */
type Disk = RevocationDisk & {
  saves: Saved[];
  /** The node's denials, as in the product's denials file. */
  kept: DenialsOnDisk;
  lastBoot: NodeKey | null;
  next: "kept" | "old" | "lost";
  /** Keys of people. A boot gets them from a broker before it serves; the model omits that request. */
  readonly keys: PersonKeys;
};

const saveEveryMs = [7_000, 16_000] as const;
const savesMax = 4;
const moreGraceMs = 6_000;
const sizesEveryMs = 2_000;
/** Adds the process to the world; it is down until its first start. */
export function addSimNode(options: SimNodeOptions): NodeActor {
  const { world, name, node, region, lessee, build, unknownTypes } = options;
  const keys = createPersonKeys([options.secret]);
  const disk: Disk = { saves: [], kept: nothingKept, lastBoot: null, local: [], limit: "none", next: "kept", keys };
  let running: Boot | undefined;
  let routes = 1;
  const process = world.addProcess({
    name,
    region,
    identity: { role: "node", node, lessee, build, unknownTypes },
    start(started) {
      const turned = turnDisk(disk);
      if (turned !== "kept") world.report({ type: "disk-replaced", at: world.now, process: name });
      running = new Boot(options, { process: started, disk, config: configOf(options.options, routes) });
      running.start();
    },
  });
  return {
    process,
    request: (incoming, decided) => {
      if (lessee === "authorize") running?.ask({ ...incoming, forMs: -1 }, decided);
      else running?.ask(incoming, decided);
    },
    disk(what) {
      disk.next = what;
    },
    limitRevocations(limit) {
      disk.limit = limit;
    },
    configure(which) {
      routes = which;
      running?.configure(configOf(options.options, routes));
    },
    stop: () => running?.stop(),
    copy: () => (process.status === "running" ? running?.copy() : undefined),
  };
}

const nothingKept: DenialsOnDisk = { retained: [], denials: [] };

/** Applies a disk fault. `old`: a disk restored from a backup. `lost`: an empty disk. @returns the fault */
function turnDisk(disk: Disk): Disk["next"] {
  const { next } = disk;
  if (next !== "kept") disk.local = [];
  if (next === "lost") {
    disk.saves = [];
    disk.kept = nothingKept;
    disk.lastBoot = null;
  } else if (disk.next === "old") {
    disk.saves = disk.saves.slice(0, 1);
    disk.kept = nothingKept;
    disk.lastBoot = null; // the backup has another file, which names no boot
  }
  disk.next = "kept";
  return next;
}

/**
 * Number of configurations. 1: as drawn by the seed. 2 and 3 tolerate less time without a lease, 4 more than any leader
 * grants. 5 gives one group's route to another group and removes a route. 6 changes the door of a route.
 */
const configurations = 6;

/** @param much from 0 (inclusive) to 1 (exclusive) */
export function configurationAt(much: number): number {
  return 1 + Math.floor(much * configurations);
}

function configOf({ routes, lease }: SimOptions, which: number): NodeConfig {
  return { hash: `file-${which}`, deltaMs: lease.deltaMs, routes: routes.flatMap((route) => changed(route, which)) };
}

function changed(route: RoutePolicy, which: number): readonly RoutePolicy[] {
  if (which === 1) return [route];
  if (which === 5)
    return route.route === "vault" ? [] : [route.group === "board" ? { ...route, group: "payroll" } : route];
  if (which === 6) return [route.route === "wiki" ? { ...route, precedingGroup: "board" } : route];
  if (route.onStale === "deny") return [route];
  if (which === 2) return [{ ...route, staleGraceMs: Math.floor(route.staleGraceMs / 2) }];
  if (which === 4) return [{ ...route, staleGraceMs: route.staleGraceMs + moreGraceMs }];
  return [{ ...route, onStale: "deny", staleGraceMs: 0 }];
}

/** One boot of a node. */
class Boot {
  readonly #options: SimNodeOptions;
  readonly #process: SimProcess;
  readonly #disk: Disk;
  readonly #boot: BootId;
  readonly #driver: CopyDriver;
  readonly #exchanges: Exchanges;
  readonly #awaited = new Map<number, (outcome: "reached" | "behind" | "lost") => void>();
  readonly #unknown: ReadonlySet<string>;
  #config: NodeConfig;
  readonly #revocations: NodeRevocationIo;
  #nats: NatsClient<SimEnvelope> | undefined;
  #awaitedIds = 0;
  #stopping = false;
  #snapshotFrom: "disk" | "broker" = "disk";
  /** Number of final denials seen at the last write to the disk. */
  #keptAt = 0;

  constructor(options: SimNodeOptions, parts: Readonly<{ process: SimProcess; disk: Disk; config: NodeConfig }>) {
    const { process, disk, config } = parts;
    const { world, name, region, lessee } = options;
    this.#options = options;
    this.#process = process;
    this.#disk = disk;
    this.#config = config;
    this.#boot = process.bootId as BootId;
    this.#unknown = new Set(process.identity.unknownTypes);
    const random = world.random(`node/${name}`);
    const core = newNodeCore({
      node: options.node,
      boot: this.#boot,
      role: lessee,
      region,
      version: process.identity.build,
      reads: readsOf(process.identity.build),
      ...replacementBy(process, disk.lastBoot),
      windowMs: windowOf(config),
      configHash: config.hash,
      keys: disk.keys,
      random: (size) => random.bytes(size),
      at: process.moment(),
      ...(options.addresses === null ? {} : { brokers: options.addresses }),
    });
    this.#driver = new CopyDriver({
      ...{ world, process, core, seals: options.seals, cluster: options.cluster, role: lessee, node: options.node },
      brokers: options.brokers,
      perform: (effect) => this.#perform(effect),
      waking: () => {},
      heard: () => {},
    });
    this.#revocations = new NodeRevocationIo({
      ...{ world, process, disk, driver: this.#driver, cluster: options.cluster, secret: options.secret },
    });
    this.#exchanges = new Exchanges({
      world,
      process,
      here: () => this.#driver.here(),
      core: () => this.#driver.core,
      ...{ keys: disk.keys, config, file: options.files.of(config) },
      reach: (link, timeoutMs, reached) => this.#reach(link, timeoutMs, reached),
      random: world.random(`exchanges/${name}`),
    });
  }

  start(): void {
    const { nats } = this.#options;
    this.#driver.report({ type: "config-activated", ...this.#driver.here(), ...this.#config });
    this.#revocations.begin();
    const saved = this.#disk.saves.findLast(({ level }) => level <= this.#driver.reads);
    const snapshot: LoadedSnapshot | null = saved === undefined ? null : { ...load(saved), retained: [] };
    this.#driver.feed({
      type: "started",
      snapshot,
      denials: this.#disk.kept,
      localDenials: this.#disk.local,
      fanout: "down",
      at: this.#process.moment(),
    });
    this.#nats = nats.client({
      process: this.#process,
      onMessage: (envelope) => this.#deliver(envelope),
      onConnected: () => this.#driver.feed({ type: "fanoutChanged", fanout: "up", at: this.#process.moment() }),
      onDisconnected: () => this.#driver.feed({ type: "fanoutChanged", fanout: "down", at: this.#process.moment() }),
    });
    this.#savePeriodically();
    this.#reportSizes();
  }

  ask(...[incoming, decided]: Parameters<NodeActor["request"]>): void {
    if (!this.#stopping) this.#exchanges.request(incoming, decided); // a stopping process has no listener
  }

  configure(config: NodeConfig): void {
    this.#config = config;
    this.#driver.report({ type: "config-activated", ...this.#driver.here(), ...config });
    this.#exchanges.configure(config, this.#options.files.of(config));
    const { hash: configHash } = config;
    this.#driver.feed({ type: "configured", windowMs: windowOf(config), configHash, at: this.#process.moment() });
  }

  copy(): NodeCopy | undefined {
    const { projection, appliedLink, rebuilding } = this.#driver.core;
    if (this.#stopping || rebuilding) return undefined;
    return {
      projection,
      appliedLink,
      profileOf: (userId) => {
        const sealed = projection.user(userId)?.profile ?? null;
        return sealed === null ? undefined : this.#disk.keys.open(sealed, userId);
      },
    };
  }

  stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#driver.feed({ type: "draining", at: this.#process.moment() });
    this.#exchanges.drain(() => this.#driver.feed({ type: "leaving", at: this.#process.moment() }));
  }

  // --- the core

  #perform(effect: OwnEffect): void {
    switch (effect.type) {
      case "read":
        this.#read(effect);
        return;
      case "recordBoot":
        this.#disk.lastBoot = this.#process.nodeKey;
        return;
      case "clearBoot":
        this.#disk.lastBoot = null;
        return;
      case "changed":
        this.#changed(effect);
        return;
      case "loadSnapshot":
        this.#loadSnapshot(effect.id);
        return;
      case "replay":
        this.#nats?.replay({ sinceMs: effect.sinceMs, timeoutMs: effect.timeoutMs, limit: 10_000 }, (found) => {
          for (const envelope of found) this.#deliver(envelope);
        });
        return;
      case "readDenials":
      case "keepLocalDenials":
      case "submitRevocation":
        this.#revocations.perform(effect);
        return;
      case "linkReached":
        this.#awaited.get(effect.id)?.(effect.outcome);
        this.#awaited.delete(effect.id);
        return;
      case "left":
        this.#nats?.close();
        this.#process.after(0, () => this.#process.kill());
        return;
      case "log":
        if (this.#options.world.trace.keeps) this.#options.world.note(this.#options.name, noteOf(effect));
    }
  }

  #changed(effect: Extract<NodeEffect, { type: "changed" }>): void {
    const { id } = effect;
    this.#driver.moved(effect, this.#snapshotFrom);
    this.#keepDenials();
    const enforced = this.#revocations.takeArriving();
    this.#exchanges.changed(effect, () => {
      this.#revocations.reportEnforced(enforced);
      this.#driver.feed({ type: "changeEnforced", id, at: this.#process.moment() });
    });
  }

  // --- the fan-out and the brokers

  #deliver(envelope: SimEnvelope): void {
    const { seals, cluster } = this.#options;
    const opened = seals.openBatch(envelope, cluster, (last) => this.#driver.core.hasApplied(last));
    if ("refused" in opened)
      this.#driver.report({
        type: "message-refused",
        ...this.#driver.at(),
        kind: envelope.payload.kind,
        reason: opened.refused,
      });
    const delivery = "refused" in opened ? opened : { ...opened.batch, events: this.#known(opened.events) };
    this.#driver.feed({ type: "delivered", delivery, at: this.#process.moment() });
  }

  #read({ id, after, limit, waitMs }: Extract<NodeEffect, { type: "read" }>): void {
    const by = this.#options.name;
    this.#driver.call<PageOutcome | Unavailable>(id, {
      timeoutMs: waitMs + callMs.readGrace,
      ask: (broker, reply) => broker.read({ after, limit, waitMs, by }, reply),
      isUnavailable: ({ type }) => type === "unavailable",
      done: (outcome) =>
        this.#driver.feed({ type: "readAnswered", id, answer: this.#page(outcome), at: this.#process.moment() }),
    });
  }

  #page(outcome: PageOutcome | Unavailable | undefined): ReadAnswer {
    if (outcome === undefined || outcome.type === "unavailable")
      return { type: "failed", error: new Error("no broker answers") };
    try {
      const answer = readAnswer(outcome);
      if (answer.type !== "page") return answer;
      return { ...answer, page: { ...answer.page, events: this.#known(answer.page.events) } };
    } catch (error) {
      return { type: "failed", error };
    }
  }

  #loadSnapshot(id: number): void {
    this.#driver.call<LoadedSnapshot | null>(id, {
      timeoutMs: callMs.snapshot,
      ask: (broker, reply) => broker.snapshot(reply),
      isUnavailable: () => false,
      done: (found) => {
        this.#snapshotFrom = "broker";
        this.#driver.snapshotAnswered(id, found && { ...found, retained: [] });
      },
    });
  }

  #reach(link: NeededLink, timeoutMs: number, reached: (outcome: "reached" | "behind" | "lost") => void): void {
    this.#awaitedIds += 1;
    const id = this.#awaitedIds;
    this.#awaited.set(id, reached);
    this.#driver.feed({ type: "linkAwaited", id, link, timeoutMs, at: this.#process.moment() });
  }

  /** Writes the denials to the disk if any was added or removed. */
  #keepDenials(): void {
    const { retained } = this.#driver.core.savepoint;
    const { kept } = this.#disk;
    const same = retained.size === kept.retained.length && kept.retained.every((stream) => retained.has(stream));
    if (same && this.#driver.core.tightened === this.#keptAt) return;
    this.#keptAt = this.#driver.core.tightened;
    this.#disk.kept = { retained: [...retained], denials: this.#driver.core.denialsToPersist() };
  }

  // --- events that its build can read, its disk, its reports

  #known(events: readonly Recorded[]): readonly Recorded[] {
    if (this.#unknown.size === 0) return events;
    return events.map((recorded) =>
      this.#unknown.has(recorded.type) ? { ...recorded, event: { type: "Unknown", name: recorded.type } } : recorded,
    );
  }

  #savePeriodically(): void {
    const random = this.#options.world.random(`disk/${this.#options.name}`);
    this.#process.after(random.within(saveEveryMs[0], saveEveryMs[1]), () => {
      if (
        !this.#driver.core.rebuilding &&
        this.#driver.core.applied.position > 0 &&
        this.#driver.core.projection.guessed === undefined
      ) {
        const saved = save(this.#driver.core.savepoint);
        this.#disk.saves = [...this.#disk.saves, saved].slice(-savesMax);
        const { link, digest } = saved;
        this.#driver.report({ type: "snapshot-built", ...this.#driver.at(), link, digest, id: null });
      }
      this.#savePeriodically();
    });
  }

  #reportSizes(): void {
    this.#process.after(sizesEveryMs, () => {
      const { enforcing, waiting, reasserting } = this.#driver.core.metrics();
      const sizes = [
        ["changes that are being enforced", enforcing, 1_024],
        ["requests that wait for a link", waiting, 10_000],
        ["lost denials to hand back", reasserting, 32_768],
        ["exchanges", this.#exchanges.size, 10_000],
      ] as const;
      for (const [what, size, sizeMax] of sizes)
        if (size > 0) this.#driver.report({ type: "sized", ...this.#driver.at(), what, size, sizeMax });
      this.#reportSizes();
    });
  }
}

function windowOf({ deltaMs, routes }: NodeConfig): number {
  return deltaMs + Math.max(0, ...routes.map(({ onStale, staleGraceMs }) => (onStale === "serve" ? staleGraceMs : 0)));
}

function noteOf({ level, message, fields }: Extract<NodeEffect, { type: "log" }>): string {
  const reached = Object.entries(fields).map(
    ([key, value]) => `${key}=${value instanceof Error ? value.message : JSON.stringify(value)}`,
  );
  return `${level}: ${message} ${reached.join(" ")}`;
}
