/**
 * Record spool: audit records from the spool folder of a node, read without disturbing a process that writes there.
 *
 * - Gaps are declared as a sink would get them, except what the newest process may have lost: its next start knows.
 * - A segment that every sink has is removed at any moment. The sinks have its records, so reading continues behind it.
 */
import { open, readdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { BootId, NodeId } from "../../events/index.ts";
import { SpoolCursor, type SpoolDisk, type SpoolPosition, SpoolStore } from "../spool/index.ts";
import type { ReadingProgress, RecordSource } from "./record-source.ts";

/** How often reading begins again because segments went away. */
const reopensMax = 1_000;

/** @param node whose spool it is: the name of the folder */
export function createSpoolSource(
  path: string,
  node: NodeId,
  { nowMs, onProgress }: Readonly<{ nowMs: () => number; onProgress?: ReadingProgress }>,
): RecordSource {
  return {
    name: path,
    async *lines({ signal }) {
      const disk = readOnlyFolder(path);
      let position: SpoolPosition | null = null;
      for (let reopened = 0; ; reopened++) {
        const store: SpoolStore = await openStore(disk, { node, nowMs });
        const boot = store.segments.at(-1)?.boot;
        if (boot === undefined) return;
        const from: SpoolPosition = position === null ? store.joinPosition : resume(store, position);
        const cursor = new SpoolCursor(store, { disk, node, boot, nowMs, onDamage: () => undefined, position: from });
        try {
          for (let batch = await cursor.next(); batch !== undefined; batch = await cursor.next()) {
            signal?.throwIfAborted();
            const passed = store.segments.filter(({ index }) => index < cursor.position.index).length;
            onProgress?.(passed, store.segments.length, "segments");
            const lines = batch.bytes.toString("utf8").split("\n");
            for (const line of lines) if (line !== "") yield line;
          }
          return;
        } catch (error) {
          if (!isMissing(error) || reopened >= reopensMax) throw error;
          position = cursor.position;
        } finally {
          await cursor.close();
        }
      }
    },
    async close() {},
  };
}

async function openStore(
  disk: SpoolDisk,
  { node, nowMs }: Readonly<{ node: NodeId; nowMs: () => number }>,
): Promise<SpoolStore> {
  for (let attempt = 0; ; attempt++) {
    const bytesMax = Number.MAX_SAFE_INTEGER;
    const store = new SpoolStore({ disk, node, boot: "" as BootId, bytesMax, nowMs, onDamage: () => undefined });
    try {
      await store.open();
      return store;
    } catch (error) {
      if (!isMissing(error) || attempt >= reopensMax) throw error; // removed while it was listed
    }
  }
}

/** Behind segments that are gone because the sinks have them; a list of gaps says what became of dropped ones. */
function resume({ segments }: SpoolStore, position: SpoolPosition): SpoolPosition {
  const next = segments.find(({ index }) => index >= position.index);
  if (next === undefined || next.kind === "gap" || next.index === position.index) return position;
  return { index: next.index, offset: 0, boot: next.boot, next: next.first };
}

/** The node whose spool a folder is, by its name. A copy may have any name; it then stands for the node. */
export function nodeOfSpoolFolder(path: string): NodeId {
  const name = basename(resolve(path));
  try {
    return decodeURIComponent(name) as NodeId;
  } catch {
    return name as NodeId;
  }
}

/** @returns the folders of nodes in a spool folder, or the folder itself if it has segments */
export async function spoolFolders(path: string): Promise<readonly string[]> {
  const entries = await readdir(path, { withFileTypes: true });
  if (entries.some(({ name }) => /^\d{12,15}-.*\.(records|gap)$/.test(name))) return [path];
  return entries.flatMap((entry) => (entry.isDirectory() ? [join(path, entry.name)] : [])).sort();
}

function readOnlyFolder(path: string): SpoolDisk {
  const refuse = (): Promise<never> => Promise.reject(new Error("the spool is only read"));
  return {
    async list() {
      const names = await readdir(path);
      const files = await Promise.all(
        names.map(async (name) => ({ name, size: (await stat(join(path, name)).catch(() => null))?.size ?? null })),
      );
      return files.flatMap(({ name, size }) => (size === null ? [] : [{ name, size }]));
    },
    create: refuse,
    replace: refuse,
    readSmall: async () => null,
    remove: async () => undefined,
    async open(name) {
      const handle = await open(join(path, name), "r");
      return {
        write: refuse,
        sync: refuse,
        truncate: refuse,
        async read(into, at) {
          let total = 0;
          while (total < into.length) {
            const { bytesRead } = await handle.read(into, total, into.length - total, at + total);
            if (bytesRead === 0) break;
            total += bytesRead;
          }
          return total;
        },
        close: () => handle.close(),
      };
    },
  };
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
