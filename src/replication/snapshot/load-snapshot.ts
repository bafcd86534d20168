/**
 * Snapshot loading: builds a projection from chunks on this disk or from a broker.
 *
 * It fetches and checks a few chunks ahead while it loads the current one. In between, it yields to other work. Pure.
 */
import { type Projection, ProjectionLoader } from "../../events/index.ts";
import type { ChunkRef } from "./builder.ts";
import type { SnapshotManifest } from "./manifest.ts";

const ahead = 4;

/**
 * @param chunk returns a chunk with a verified hash
 * @throws what `chunk` throws, MalformedSnapshotError
 */
export async function loadSnapshot(
  manifest: SnapshotManifest,
  chunk: (ref: ChunkRef) => Promise<Uint8Array>,
): Promise<Projection> {
  const loader = new ProjectionLoader(manifest);
  const coming: Promise<Uint8Array>[] = [];
  let next = 0;
  const ask = (): void => {
    const ref = manifest.chunks[next];
    if (ref === undefined) return;
    next += 1;
    const promise = chunk(ref);
    promise.catch(() => {}); // it is awaited later; until then a rejection is not unhandled
    coming.push(promise);
  };
  for (let n = 0; n < ahead; n++) ask();
  try {
    for (let first = coming.shift(); first !== undefined; first = coming.shift()) {
      const bytes = await first;
      ask();
      loader.loadChunk(bytes);
    }
  } finally {
    await Promise.allSettled(coming); // no fetch continues after the return
  }
  return loader.finish();
}
