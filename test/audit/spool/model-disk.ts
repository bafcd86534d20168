/**
 * Model disk: a file system in memory for the spool. It can fail, hang, fill up, and lose what was not synced.
 *
 * - `afterKill`: every write that returned is there, and a part of the one in flight: the process died.
 * - `afterPowerLoss`: of what was not synced any part may be there, torn at any byte, in any order; a file whose name
 *   was not synced may be missing, and a removed one may be back.
 */

import type { Random } from "../../../chaos/random.ts";
import type { SpoolDisk, SpoolFile } from "../../../src/audit/spool/index.ts";

type Change = Readonly<{ at: number; bytes: Buffer } | { size: number }>;
type Stored = { durable: Buffer; pending: Change[]; isNameDurable: boolean };

export type Operation =
  | "list"
  | "create"
  | "open"
  | "readSmall"
  | "replace"
  | "remove"
  | "write"
  | "sync"
  | "read"
  | "truncate";

export class ModelDisk implements SpoolDisk {
  readonly files = new Map<string, Stored>();
  /** Removed files, as they may come back. */
  readonly removed = new Map<string, Stored>();
  /** Called before each operation that changes something. It may throw, or wait. */
  before: (operation: Operation, name: string) => void | Promise<void> = () => undefined;
  bytesMax = Number.POSITIVE_INFINITY;

  async list() {
    await this.before("list", "");
    return [...this.files].map(([name, file]) => ({ name, size: contentOf(file).length }));
  }

  async create(name: string): Promise<SpoolFile> {
    await this.before("create", name);
    if (this.files.has(name)) throw Object.assign(new Error(`${name} exists`), { code: "EEXIST" });
    this.files.set(name, { durable: Buffer.alloc(0), pending: [], isNameDurable: false });
    return this.#fileOf(name);
  }

  async open(name: string): Promise<SpoolFile> {
    if (!this.files.has(name)) throw Object.assign(new Error(`no ${name}`), { code: "ENOENT" });
    return this.#fileOf(name);
  }

  async readSmall(name: string) {
    const file = this.files.get(name);
    return file === undefined ? null : contentOf(file);
  }

  async replace(name: string, bytes: Uint8Array) {
    await this.before("replace", name);
    this.#checkRoom(bytes.length);
    this.files.set(name, { durable: Buffer.from(bytes), pending: [], isNameDurable: true });
  }

  async remove(name: string) {
    await this.before("remove", name);
    const file = this.files.get(name);
    if (file !== undefined) this.removed.set(name, file);
    this.files.delete(name);
  }

  get size(): number {
    return [...this.files.values()].reduce((sum, file) => sum + contentOf(file).length, 0);
  }

  #checkRoom(bytes: number): void {
    if (this.size + bytes > this.bytesMax)
      throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
  }

  #fileOf(name: string): SpoolFile {
    const file = this.files.get(name) as Stored;
    const disk = this;
    let closed = false;
    const checkOpen = (): void => {
      if (closed) throw Object.assign(new Error("file closed"), { code: "EBADF" });
    };
    return {
      async write(chunks, at) {
        checkOpen();
        const bytes = Buffer.concat(chunks);
        disk.inFlight = { file, change: { at, bytes } };
        await disk.before("write", name);
        disk.#checkRoom(Math.max(0, at + bytes.length - contentOf(file).length));
        file.pending.push({ at, bytes });
        disk.inFlight = null;
      },
      async sync() {
        checkOpen();
        await disk.before("sync", name);
        const done = file.pending.length;
        file.durable = contentOf(file);
        file.pending.splice(0, done);
        file.isNameDurable = true;
      },
      async read(into, at) {
        checkOpen();
        await disk.before("read", name);
        return contentOf(file).copy(into, 0, at);
      },
      async truncate(size) {
        checkOpen();
        await disk.before("truncate", name);
        file.pending.push({ size });
      },
      async close() {
        closed = true;
      },
    };
  }

  /** The write that was called and has not returned. */
  inFlight: Readonly<{ file: Stored; change: Readonly<{ at: number; bytes: Buffer }> }> | null = null;

  afterKill(random: Random): ModelDisk {
    const next = new ModelDisk();
    for (const [name, file] of this.files) {
      const pending = [...file.pending];
      if (this.inFlight?.file === file) pending.push(tornBy(this.inFlight.change, random));
      next.files.set(name, { ...file, pending });
    }
    return next;
  }

  afterPowerLoss(random: Random): ModelDisk {
    const next = new ModelDisk();
    const candidates = new Map([...this.removed, ...this.files]);
    for (const [name, file] of candidates) {
      const isRemoved = !this.files.has(name);
      if ((isRemoved || !file.isNameDurable) && random.next() < 0.5) continue;
      const pending = [...file.pending];
      if (this.inFlight?.file === file) pending.push(this.inFlight.change);
      const survived = random
        .shuffled(pending)
        .filter(() => random.next() < 0.5)
        .map((change) => ("bytes" in change && random.next() < 0.5 ? tornBy(change, random) : change));
      const durable = contentOf({ ...file, pending: survived });
      next.files.set(name, { durable, pending: [], isNameDurable: true });
    }
    return next;
  }
}

function tornBy(change: Readonly<{ at: number; bytes: Buffer }>, random: Random): Change {
  return { at: change.at, bytes: change.bytes.subarray(0, random.between(0, change.bytes.length)) };
}

function contentOf({ durable, pending }: Stored): Buffer {
  let content = durable;
  for (const change of pending) {
    if ("size" in change) content = content.subarray(0, change.size);
    else {
      const size = Math.max(content.length, change.at + change.bytes.length);
      const grown = Buffer.alloc(size); // zeros, where nothing was written
      content.copy(grown);
      change.bytes.copy(grown, change.at);
      content = grown;
    }
  }
  return content;
}
