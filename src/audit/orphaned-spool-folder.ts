/**
 * Orphaned spool folder: the spool of a node that no process runs any more, because it was renamed, removed, or runs
 * other services. Its records wait until the node starts again, or an operator has them delivered.
 *
 * Looking at a folder changes nothing in it. It is locked for that moment, so a folder in use is left alone.
 */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { type BootId, type NodeId, parseNodeId } from "../events/index.ts";
import { cursorName, parseStoredState } from "./sink-delivery.ts";
import {
  backlogOf,
  openSpoolFolder,
  type SpoolDisk,
  type SpoolPosition,
  SpoolStore,
  SpoolUnusableError,
  tailOf,
} from "./spool/index.ts";

export type SpoolFolder = Readonly<{
  node: NodeId;
  path: string;
  /** `undelivered`: some sink lacks records, or the gap of a killed process. `unreadable`: see `why`. */
  state: "in use" | "delivered" | "undelivered" | "unreadable";
  /** Records that some sink lacks; null: not known. */
  records: number | null;
  bytes: number;
  /** Time of the newest record, in milliseconds since 1970; 0: there is none, or it is not known. */
  newestMs: number;
  /** Files of records that sinks rejected. */
  deadLetters: readonly string[];
  why: string | null;
}>;

/** Folders beyond these are not looked at. */
const foldersMax = 1_000;
const observer = "observer" as BootId;

/** @returns the folder of a node's spool */
export function spoolFolderOf(spoolDir: string, node: NodeId): string {
  return join(spoolDir, folderNameOf(node));
}

/** A name of dots alone would be another folder. */
function folderNameOf(node: NodeId): string {
  return /^\.+$/.test(node) ? node.replaceAll(".", "%2E") : encodeURIComponent(node);
}

/** @param except folders that are not looked at @returns the folders of all nodes under the configured folder */
export async function listSpoolFolders(spoolDir: string, except: ReadonlySet<string>): Promise<readonly SpoolFolder[]> {
  const found: SpoolFolder[] = [];
  for (const node of await nodesIn(spoolDir)) {
    const path = spoolFolderOf(spoolDir, node);
    if (!except.has(path)) found.push(await inspectSpool(path, node));
  }
  return found;
}

async function nodesIn(spoolDir: string): Promise<readonly NodeId[]> {
  const entries = await readdir(spoolDir, { withFileTypes: true }).catch(() => []); // there is none yet
  const names = entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  return names
    .toSorted()
    .slice(0, foldersMax)
    .flatMap((name) => {
      try {
        const node = parseNodeId(decodeURIComponent(name));
        return folderNameOf(node) === name ? [node] : [];
      } catch {
        return []; // not of a node
      }
    });
}

/** @param options.waitMs how long to wait for a process that only looks at it; the thread waits */
export async function inspectSpool(
  path: string,
  node: NodeId,
  { waitMs = 0 }: Readonly<{ waitMs?: number }> = {},
): Promise<SpoolFolder> {
  const unknown = { node, path, records: null, bytes: 0, newestMs: 0, deadLetters: [], why: null } as const;
  let disk: ReturnType<typeof openSpoolFolder>;
  try {
    disk = openSpoolFolder(path, { waitMs });
  } catch (error) {
    if (error instanceof SpoolUnusableError && error.isInUse) return { ...unknown, state: "in use" };
    return { ...unknown, state: "unreadable", why: error instanceof Error ? error.message : String(error) };
  }
  try {
    return { ...unknown, ...(await contentOf(disk, node)) };
  } catch (error) {
    return { ...unknown, state: "unreadable", why: error instanceof Error ? error.message : String(error) };
  } finally {
    disk.release();
  }
}

async function contentOf(disk: SpoolDisk, node: NodeId): Promise<Omit<SpoolFolder, "node" | "path" | "why">> {
  const bounds = { bytesMax: Number.MAX_SAFE_INTEGER, nowMs: () => 0, onDamage: () => undefined };
  const store = new SpoolStore({ disk: unchanged(disk), node, boot: observer, ...bounds });
  await store.open();
  const files = await disk.list();
  const positions: (SpoolPosition | undefined)[] = [];
  for (const { name } of files)
    if (cursorName.test(name)) positions.push(parseStoredState(await disk.readSmall(name))?.position);
  if (positions.length === 0) positions.push(undefined);
  const waiting = positions.map((position) => waitingFor(store, position ?? store.joinPosition));
  const isDelivered = waiting.every(({ records, hasGap }) => records === 0 && !hasGap);
  return {
    state: isDelivered ? "delivered" : "undelivered",
    records: Math.max(...waiting.map(({ records }) => records)),
    bytes: store.bytes,
    newestMs: store.segments.at(-1)?.toMs ?? 0,
    deadLetters: files.flatMap(({ name }) => (name.startsWith("dead-letters-") ? [name] : [])),
  };
}

/** @returns the records that a sink lacks, and whether it also lacks the gap of the last process */
function waitingFor({ segments }: SpoolStore, position: SpoolPosition): { records: number; hasGap: boolean } {
  const { records } = backlogOf(segments, position);
  const newest = segments.at(-1);
  const isPast =
    newest === undefined ||
    newest.index < position.index ||
    (newest.boot === position.boot && position.next > newest.reserved);
  return { records, hasGap: !isPast && tailOf(segments, segments.length - 1, observer) > 0 };
}

/** The disk, as one that changes nothing. */
function unchanged(disk: SpoolDisk): SpoolDisk {
  const refused = (): Promise<never> => Promise.reject(new Error("the folder is only looked at"));
  const none = async (): Promise<void> => undefined;
  return {
    ...disk,
    create: refused,
    replace: refused,
    remove: none,
    async open(name) {
      return { ...(await disk.open(name)), write: refused, truncate: none };
    },
  };
}
