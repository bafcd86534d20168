/**
 * Revocations file: the store of local revocations on the disk of a regional broker. Each write replaces the whole file
 * and is on the disk when it returns: there are few of them, and callers wait for it.
 */
import { hash as digestOf } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { decode, encode } from "../../events/index.ts";
import { revocationIn } from "../../replication/wire/index.ts";
import type { StoredRevocations } from "./revocation-store.ts";

export type RevocationsFile = Readonly<{
  /** What was on the disk when the file was opened. */
  stored: StoredRevocations;
  /** The disk has it when this returns. @throws when the disk rejects it */
  write(stored: StoredRevocations): void;
}>;

type Saved = Readonly<{
  store: string;
  head: number;
  entries: readonly Readonly<{ seq: number; envelope: Uint8Array }>[];
  windowMs: number;
  drift: number;
}>;

/**
 * Opens the file, or begins a new one.
 * @param options.initial the store of a new file; its random id replaces the one of the boot before
 * @throws when the file is damaged: without it, this broker could pass on leases that a receipt calls ended
 */
export function openRevocationsFile(
  options: Readonly<{ path: string; initial: Pick<StoredRevocations, "store" | "windowMs" | "drift"> }>,
): RevocationsFile {
  const { path, initial } = options;
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const found = read(path);
  const stored = found === null ? { ...initial, head: 0, entries: [] } : { ...found, store: initial.store };
  if (found === null) write(path, stored);
  return { stored, write: (next) => write(path, next) };
}

/** Null: there is no file. */
function read(path: string): StoredRevocations | null {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
  try {
    const [hash, body] = decode(bytes) as [string, Uint8Array];
    if (digestOf("sha256", body, "hex") !== hash) throw new Error("its hash does not match its bytes");
    const { store, head, entries, windowMs, drift } = decode(body) as Saved;
    const sealed = entries.map(({ seq, envelope }) => ({
      seq,
      sealed: { envelope, revocation: revocationIn(envelope) },
    }));
    return { store, head, entries: sealed, windowMs, drift };
  } catch (cause) {
    const remedy = "if its revocations are merged or stored by another broker of the region, remove the file";
    throw new Error(`${path} is damaged; ${remedy}`, { cause });
  }
}

function write(path: string, { entries, ...rest }: StoredRevocations): void {
  const saved: Saved = { ...rest, entries: entries.map(({ seq, sealed }) => ({ seq, envelope: sealed.envelope })) };
  const body = encode(saved);
  const file = openSync(`${path}.part`, "w", 0o600);
  try {
    writeAll(file, encode([digestOf("sha256", body, "hex"), body]));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(`${path}.part`, path);
  const folder = openSync(dirname(path), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
}
