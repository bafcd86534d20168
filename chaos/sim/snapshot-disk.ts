/**
 * Snapshot disk: the snapshots on one simulated broker's disk, as src/broker/snapshots/snapshot-store.ts has them: what
 * counts is what stands in the log as it is now, and a broker that has too little copies the newest one of another.
 *
 * Chunks lie there by their hashes. Now and then one is written as something else, which only shows when it is read
 * back: then it is removed, and a whole one may come in its place.
 */
import { snapshotsKept } from "../../src/broker/snapshots/snapshot-run.ts";
import { type Hash, type Position, sameLink } from "../../src/events/index.ts";
import type { LoadedSnapshot, SnapshotManifest } from "../../src/replication/index.ts";
import { LogUnavailableError } from "../../src/replication/log/log.ts";
import type { SimProcess } from "./process.ts";
import { load, type Saved } from "./saved-projection.ts";
import type { SimBroker } from "./sim-broker.ts";
import type { SimLog } from "./sim-log.ts";
import type { World } from "./world.ts";

export type BrokerSave = Saved & Readonly<{ id: Hash; manifest: SnapshotManifest }>;
/**
 * Outlives every boot of its process. Snapshots in no order; of chunks that are not whole, whether that has been found
 * out.
 */
export type BrokerDisk = { saves: readonly BrokerSave[]; readonly damaged: Map<Hash, "unknown" | "removed"> };

export function emptyDisk(): BrokerDisk {
  return { saves: [], damaged: new Map() };
}

export type SnapshotDiskParts = Readonly<{
  world: World;
  process: SimProcess;
  disk: BrokerDisk;
  log: SimLog;
  /** The other ones. */
  others: () => readonly SimBroker[];
  /** Up to which level this build can read. */
  reads: number;
}>;

type InLog = readonly BrokerSave[] | LogUnavailableError;

const copyMsMax = 1_000;
/** Of the chunks that are written. */
const damagedChance = 0.01;

export class SnapshotDisk {
  readonly #parts: SnapshotDiskParts;
  readonly #random: ReturnType<World["random"]>;
  #asked = 0;

  constructor(parts: SnapshotDiskParts) {
    this.#parts = parts;
    this.#random = parts.world.random(`damage/${parts.process.name}`);
  }

  put(saved: BrokerSave): void {
    const { disk } = this.#parts;
    disk.saves = [...disk.saves.filter(({ id }) => id !== saved.id), saved];
  }

  /** One that is there already is not written again. */
  putChunk(hash: Hash): void {
    const { disk } = this.#parts;
    const isThere = disk.saves.some(({ manifest }) => manifest.chunks.some((chunk) => chunk.hash === hash));
    if (isThere && disk.damaged.get(hash) !== "removed") return;
    disk.damaged.delete(hash);
    if (this.#random.chance(damagedChance)) disk.damaged.set(hash, "unknown");
  }

  /** @returns whether it is still what it was */
  readChunk(hash: Hash): boolean {
    const { damaged } = this.#parts.disk;
    if (!damaged.has(hash)) return true;
    damaged.set(hash, "removed");
    return false;
  }

  isWhole({ manifest }: BrokerSave): boolean {
    return isWholeOn(this.#parts.disk, manifest);
  }

  /** All that is here, newest first. */
  get saves(): readonly BrokerSave[] {
    return this.#parts.disk.saves.toSorted((a, b) => b.link.position - a.link.position);
  }

  /** Those that stand in the log as it is now, newest first. */
  inLog(answered: (found: InLog) => void): void {
    const { log } = this.#parts;
    const found: BrokerSave[] = [];
    const [...waiting] = this.saves;
    const next = (): void => {
      const saved = waiting.shift();
      if (saved === undefined) return answered(found);
      log.linkAt(saved.link.position, (at) => {
        if (at instanceof Error) return answered(at);
        if (at !== undefined && sameLink(at, saved.link)) found.push(saved);
        next();
      });
    };
    next();
  }

  /** Keeps the newest of this log's history; what has come meanwhile stays too. */
  tidy(tidied: (failure: LogUnavailableError | null) => void): void {
    const { disk } = this.#parts;
    const looked = new Set(disk.saves);
    this.inLog((found) => {
      if (found instanceof LogUnavailableError) return tidied(found);
      const kept = new Set(found.slice(0, snapshotsKept));
      disk.saves = disk.saves.filter((saved) => kept.has(saved) || !looked.has(saved));
      tidied(null);
    });
  }

  /** Copies the newest one of another broker, unless it is here. */
  refresh(done: () => void): void {
    this.inLog((found) => {
      if (found instanceof LogUnavailableError) return done();
      this.#copyNewerThan(found[0]?.link.position ?? 0, done);
    });
  }

  #copyNewerThan(position: number, done: () => void): void {
    const { world, process, others } = this.#parts;
    const from = others()[this.#asked++ % Math.max(1, others().length)];
    if (from === undefined) return done();
    world.network.request<BrokerSave | undefined>(process, from.process, {
      timeoutMs: copyMsMax,
      handle: (reply) => reply(from.newestSave()),
      done: (outcome) => {
        const copy = outcome.type === "answered" ? outcome.value : undefined;
        if (copy === undefined || copy.link.position <= position) return done();
        for (const { hash } of copy.manifest.chunks) this.putChunk(hash);
        this.put(copy);
        this.tidy(() => done());
      },
    });
  }

  /** Where a ledger goes on, whose log begins at `first`: from here, else from another broker. Null: there is none. */
  load(first: Position, done: (found: LoadedSnapshot | null) => void): void {
    const look = (otherwise: () => void): void =>
      this.inLog((found) => {
        if (found instanceof LogUnavailableError) return otherwise();
        const leading = found.filter(({ link }) => link.position >= first - 1);
        const saved = leading.find((each) => this.#isOfUse(each));
        if (saved === undefined) otherwise();
        else done(load(saved));
      });
    look(() => this.#copyNewerThan(first - 2, () => look(() => done(null))));
  }

  /** Reads it, which removes the first chunk that is damaged. */
  #isOfUse({ level, manifest }: BrokerSave): boolean {
    return level <= this.#parts.reads && manifest.chunks.every(({ hash }) => this.readChunk(hash));
  }
}

export function isWholeOn({ damaged }: BrokerDisk, { chunks }: SnapshotManifest): boolean {
  return !chunks.some(({ hash }) => damaged.has(hash));
}
