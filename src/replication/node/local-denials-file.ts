/**
 * Local denials file: the revocations that a node's region accepted by itself, on the node's own disk. They are in
 * force before the first decision after a restart. The node can bring them to the log if no broker has them any more.
 */
import { hash as digestOf } from "node:crypto";
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import { decode, encode, type NodeId } from "../../events/index.ts";
import type { Logger } from "../runtime/logger.ts";
import { revocationIn } from "../wire/local-revocation.ts";
import type { LocalDenialsFile } from "./denial-calls.ts";

/**
 * Opens the file of a node. `load` never throws: a damaged file is reported, and what it held is fetched from the
 * brokers again. `write` throws when the disk rejects it; otherwise the file is on the disk when it settles.
 */
export function openLocalDenialsFile(
  of: Readonly<{ dataDir: string; node: NodeId; logger: Logger }>,
): LocalDenialsFile {
  const { logger } = of;
  const path = join(of.dataDir, `local-denials-${encodeURIComponent(of.node)}`);
  return {
    async load() {
      try {
        const [hash, body] = decode(await readFile(path)) as [string, Uint8Array];
        if (digestOf("sha256", body, "hex") !== hash) throw new Error("its hash does not match its bytes");
        const envelopes = decode(body) as readonly Uint8Array[];
        return envelopes.map((envelope) => ({ envelope, revocation: revocationIn(envelope) }));
      } catch (error) {
        const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
        if (!missing)
          logger.error(
            { err: error, path },
            "could not read the local revocations on this disk; the brokers of the region give them again",
          );
        return [];
      }
    },
    async write(sealed) {
      const body = encode(sealed.map(({ envelope }) => envelope));
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      const file = await open(`${path}.part`, "w", 0o600);
      try {
        await file.writeFile(encode([digestOf("sha256", body, "hex"), body]));
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(`${path}.part`, path);
      const folder = await open(dirname(path), "r");
      try {
        await folder.sync();
      } finally {
        await folder.close();
      }
    },
  };
}
