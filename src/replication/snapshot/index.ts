/** Entry point of snapshots: a projection as chunks and a signed manifest, built, saved, fetched and loaded. */

export {
  type Builder,
  type BuilderEffect,
  type BuilderInput,
  type ChunkRef,
  newBuilder,
  projectorVersion,
  SnapshotCancelledError,
  stepBuilder,
} from "./builder.ts";
export { EventArchiveFolder, type StoredBlock, unpackBlock } from "./event-archive-folder.ts";
export {
  type BlockName,
  type EventBlock,
  EventBlockError,
  type EventPage,
  eventBlock,
  linkInBlock,
} from "./event-block.ts";
export { loadSnapshot } from "./load-snapshot.ts";
export { createLogArchive, type LogArchive } from "./log-archive-client.ts";
export {
  hashOfChunk,
  openManifest,
  type SignedManifest,
  type SnapshotManifest,
  SnapshotRefusedError,
  sameContent,
  sealManifest,
} from "./manifest.ts";
export { SnapshotCorruptError, SnapshotFolder, type SnapshotList, SnapshotNotSavedError } from "./snapshot-folder.ts";
export {
  type ArchiveTarget,
  allKeys,
  fetchSnapshot,
  isUpTo,
  keysPage,
  type SnapshotSupply,
  supplyFrom,
} from "./snapshot-supply.ts";
