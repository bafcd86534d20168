/**
 * Snapshot disk: the snapshots on one simulated broker's disk, as in src/broker/snapshots/snapshot-store.ts.
 *
 * - A snapshot counts only if its link is in the current log.
 * - A broker without enough snapshots copies the newest one of another broker.
 * - Chunks are stored by hash. Occasionally a write damages a chunk, which only a later read detects. The read removes
 *   the chunk, and an intact one may replace it.
 */
import { snapshotsKept } from "../../src/broker/snapshots/snapshot-run.ts";
import { type Hash, type Position, sameLink } from "../../src/events/index.ts";
import { LogUnavailableError } from "../../src/replication/log/log.ts";
import type { LoadedSnapshot } from "../../src/replication/node/index.ts";
import type { SnapshotManifest } from "../../src/replication/snapshot/index.ts";
import type { SimProcess } from "./process.ts";
import { load, type Saved } from "./saved-projection.ts";
import type { SimBroker } from "./sim-broker.ts";
import type { SimLog } from "./sim-log.ts";
import type { World } from "./world.ts";

export type BrokerSave = Saved & Readonly<{ id: Hash; manifest: SnapshotManifest }>;
/**
 * The disk's content, which survives every boot. `saves`: snapshots in no order. `damaged`: damaged chunks, undetected
 * (`unknown`) or already removed.
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
  /** The other brokers. */
  others: () => readonly SimBroker[];
  /** Highest level that this build can read. */
  reads: number;
}>;

type InLog = readonly BrokerSave[] | LogUnavailableError;

const copyMsMax = 1_000;
/** Share of written chunks that are damaged. */
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

  /** Writes a chunk unless it already exists. */
  putChunk(hash: Hash): void {
    const { disk } = this.#parts;
    const isThere = disk.saves.some(({ manifest }) => manifest.chunks.some((chunk) => chunk.hash === hash));
    if (isThere && disk.damaged.get(hash) !== "removed") return;
    disk.damaged.delete(hash);
    if (this.#random.chance(damagedChance)) disk.damaged.set(hash, "unknown");
  }

  /** @returns false if the chunk is damaged; it is then removed */
  readChunk(hash: Hash): boolean {
    const { damaged } = this.#parts.disk;
    if (!damaged.has(hash)) return true;
    damaged.set(hash, "removed");
    return false;
  }

  isWhole({ manifest }: BrokerSave): boolean {
    return isWholeOn(this.#parts.disk, manifest);
  }

  /** All snapshots on this disk, newest first. */
  get saves(): readonly BrokerSave[] {
    return this.#parts.disk.saves.toSorted((a, b) => b.link.position - a.link.position);
  }

  /** Finds the snapshots whose link is in the current log, newest first. */
  inLog(answered: (found: InLog) => void): void {
    const { log } = this.#parts;
    const found: BrokerSave[] = [];
    const [...waiting] = this.saves;
    const next = (): void => {
      const saved = waiting.shift();
      if (saved === undefined) {
        answered(found);
        return;
      }
      log.linkAt(saved.link.position, (at) => {
        if (at instanceof Error) return answered(at);
        if (at !== undefined && sameLink(at, saved.link)) found.push(saved);
        next();
      });
    };
    next();
  }

  /** Keeps the newest snapshots of this log's history, and those added during the check. */
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

  /** Copies the newest snapshot of another broker, unless this disk has one as new. */
  refresh(done: () => void): void {
    this.inLog((found) => {
      if (found instanceof LogUnavailableError) return done();
      this.#copyNewerThan(found[0]?.link.position ?? 0, done);
    });
  }

  #copyNewerThan(position: number, done: () => void): void {
    const { world, process, others } = this.#parts;
    const from = others()[this.#asked++ % Math.max(1, others().length)];
    if (from === undefined) {
      done();
      return;
    }
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

  /**
   * Loads the snapshot that precedes a log from `first`: from this disk, else from another broker. Null: there is none.
   */
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

  /** Reads the snapshot. The read removes the first damaged chunk. */
  #isOfUse({ level, manifest }: BrokerSave): boolean {
    return level <= this.#parts.reads && manifest.chunks.every(({ hash }) => this.readChunk(hash));
  }
}

export function isWholeOn({ damaged }: BrokerDisk, { chunks }: SnapshotManifest): boolean {
  return !chunks.some(({ hash }) => damaged.has(hash));
}
