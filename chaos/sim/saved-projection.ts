/** Saved projection: a projection as a simulated disk stores it, in the product's own format, and its load and save. */
import {
  type Link,
  loadProjection,
  type Projection,
  SnapshotChunks,
  type SnapshotCounts,
  type Stream,
} from "../../src/events/index.ts";
import type { LoadedSnapshot, Savepoint } from "../../src/replication/node/index.ts";

export type Saved = Readonly<{
  link: Link;
  digest: string;
  level: number;
  counts: SnapshotCounts;
  chunks: readonly Uint8Array[];
  epochs: LoadedSnapshot["epochs"];
  retained: readonly Stream[];
}>;

const entitiesAtOnce = 1_000;

export function save({ projection, link, epochs, retained }: Savepoint): Saved {
  const digest = projection.digest();
  const { level } = projection;
  const writer = new SnapshotChunks(projection.capture());
  const chunks: Uint8Array[] = [];
  for (let step = writer.step(entitiesAtOnce); step !== "done"; step = writer.step(entitiesAtOnce))
    if (step !== "more") chunks.push(Uint8Array.from(step));
  return { link, digest, level, counts: { ...writer.counts }, chunks, epochs: [...epochs], retained: [...retained] };
}

export function load({ link, digest, level, counts, chunks, epochs, retained }: Saved): LoadedSnapshot {
  const projection: Projection = loadProjection({ link, digest, level, counts }, chunks);
  return { projection, link, epochs, keys: [], retained };
}
