/**
 * Sealer state: how far the spool is hashed, the tree of the boot there, and the seals that the log does not have. One
 * small file.
 */
import { parseBootId } from "../../events/index.ts";
import { readAuditSeal } from "../../replication/wire/index.ts";
import type { SpoolDisk, SpoolPosition } from "../spool/index.ts";
import { BootTree, type BootTreeForm } from "./boot-tree.ts";

export type SealerState = Readonly<{
  position: SpoolPosition;
  tree: BootTreeForm | null;
  pending: readonly Uint8Array[];
}>;

/** The file is padded to a multiple of this, so that a later state needs no further room on a full disk. */
const stateBytesStep = 32 * 1_024;

export async function writeSealerState(disk: SpoolDisk, name: string, state: SealerState): Promise<void> {
  const pending = state.pending.map((envelope) => Buffer.from(envelope).toString("base64url"));
  const text = JSON.stringify({ version: 1, ...state, pending });
  const bytes = Buffer.from(`${text.padEnd(Math.ceil((text.length + 1) / stateBytesStep) * stateBytesStep - 1)}\n`);
  try {
    await disk.replace(name, bytes);
  } catch (error) {
    if (!isDiskFull(error)) throw error;
    await overwrite(disk, name, bytes);
  }
}

/** Without this a full disk could never be emptied: what is not stored as hashed is not removed. */
async function overwrite(disk: SpoolDisk, name: string, bytes: Buffer): Promise<void> {
  const file = await disk.open(name);
  try {
    await file.write([bytes], 0);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** @returns undefined: there is no state, or it cannot be read; what is in the spool is then hashed again */
export function parseSealerState(bytes: Buffer | null): SealerState | undefined {
  if (bytes === null) return undefined;
  try {
    const { version, position, tree, pending } = JSON.parse(bytes.toString("utf8")) as Record<string, unknown>;
    if (version !== 1 || !Array.isArray(pending)) return undefined;
    const envelopes = pending.map((text) => new Uint8Array(Buffer.from(String(text), "base64url")));
    for (const envelope of envelopes) readAuditSeal(envelope);
    const form = tree as BootTreeForm | null;
    if (form !== null) BootTree.from({ ...form, boot: parseBootId(form.boot) });
    return { position: positionIn(position), tree: form, pending: envelopes };
  } catch {
    return undefined;
  }
}

function positionIn(value: unknown): SpoolPosition {
  const { index, offset, next, boot } = value as Record<string, unknown>;
  const numbers = [index, offset, next];
  if (!numbers.every((number) => Number.isSafeInteger(number))) throw new Error("not a position");
  const [at, from, following] = numbers as [number, number, number];
  return { index: at, offset: from, next: following, boot: boot === null ? null : parseBootId(boot) };
}

function isDiskFull(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOSPC" || error.code === "EDQUOT");
}
