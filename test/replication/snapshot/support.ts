/** Test support: snapshots of small projections, each in its own temporary folder. */
import { randomBytes, randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type BootId,
  type BrokerId,
  type CardeaEvent,
  type Epoch,
  type Incarnation,
  type Position,
  Projection,
  type SessionId,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import {
  type BuilderEffect,
  newBuilder,
  projectorVersion,
  stepBuilder,
} from "../../../src/replication/snapshot/builder.ts";
import type { SnapshotManifest } from "../../../src/replication/snapshot/manifest.ts";
import { SnapshotFolder } from "../../../src/replication/snapshot/snapshot-folder.ts";
import {
  createBrokerOpener,
  enrolKey,
  enrolmentRoot,
  type Signer,
  signingPairFromSeed,
} from "../../../src/replication/wire/index.ts";
import { record } from "../../events/support.ts";

export const secret = Buffer.alloc(32, 7);
export const cluster = "test";

export function signer(
  parts: Partial<{ secret: Uint8Array; cluster: string; epoch: number; role: "broker" | "proxy" }> = {},
): Signer {
  const { epoch = 1, role = "broker" } = parts;
  return enrolKey(
    {
      cluster: parts.cluster ?? cluster,
      role,
      name: "broker-1" as BrokerId,
      boot: "boot" as BootId,
      epoch: epoch as Epoch,
      incarnation: "one" as Incarnation,
    },
    signingPairFromSeed(randomBytes(32)),
    enrolmentRoot(parts.secret ?? secret, role),
  );
}

export const opener = createBrokerOpener({ cluster, secrets: [secret] });

export function folderFor(t: { after(fn: () => void): void }, open = opener): SnapshotFolder {
  const path = mkdtempSync(join(tmpdir(), "cardea-snapshots-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return new SnapshotFolder({ path, open });
}

export function projectionOf(sessions: number, people = 50): Projection {
  const events: CardeaEvent[] = Array.from({ length: sessions }, (_, n) => ({
    type: "SessionCreated",
    sessionId: randomUUID() as SessionId,
    userId: `user-${n % people}` as UserId,
    idpId: "idp",
    issuedAt: 1 as UnixMs,
    expiresAt: 2_000_000_000_000 as UnixMs,
    profile: randomBytes(300),
  }));
  const projection = new Projection();
  for (const event of record(events)) projection.apply(event);
  return projection;
}

/** Builds a snapshot without pauses, and performs each effect at once. */
export async function build(
  projection: Projection,
  folder: SnapshotFolder,
): Promise<Omit<SnapshotManifest, "epochs" | "takenAt" | "cluster">> {
  const capture = projection.capture();
  const { link, digest } = capture;
  let builder = newBuilder(capture);
  const effects: BuilderEffect[] = [{ type: "again" }];
  for (let effect = effects.shift(); effect !== undefined; effect = effects.shift()) {
    const feed = (input: Parameters<typeof stepBuilder>[1]): void => {
      const [next, more] = stepBuilder(builder, input);
      builder = next;
      effects.push(...more);
    };
    if (effect.type === "again") feed({ type: "turn" });
    else if (effect.type === "store")
      feed({ type: "stored", index: effect.index, ...(await folder.putChunk(effect.bytes)) });
    else if (effect.type === "gaveUp") throw effect.cause;
    else {
      const { chunks, counts } = effect;
      return {
        link,
        digest,
        counts,
        chunks,
        level: projection.level,
        projectorVersion,
      };
    }
  }
  throw new Error("the builder stopped half-way");
}

export function manifestOf(parts: Awaited<ReturnType<typeof build>>): SnapshotManifest {
  const epochs = [{ epoch: 1 as Epoch, start: 1 as Position, incarnation: "one" as Incarnation }];
  return { ...parts, cluster, epochs, takenAt: 5 as UnixMs };
}
