/** Entry point of proofs: checks stored records against the seals of the log, and makes proofs for single ones. */
export {
  addCheckpointBody,
  type Checkpoint,
  cosignedAt,
  formatNoteKey,
  type NoteKey,
  originOf,
  parseCheckpoint,
  parseNoteKey,
  parseSignatures,
  sealLeaf,
  signCheckpoint,
  treeOver,
} from "./checkpoint.ts";
export { type BootReport, type CheckReport, RecordCheck, type RecordFinding } from "./record-check.ts";
export {
  CannotProveError,
  type CheckedProof,
  type ConsistencyProof,
  checkProof,
  type InclusionProof,
  type KeptSeal,
  proveConsistency,
  proveInclusion,
} from "./record-proof-file.ts";
export {
  type EvidenceLine,
  formatEvidence,
  type OpenedEvidence,
  openEvidence,
  parseEvidence,
  type SealEvidence,
} from "./seal-evidence.ts";
export { SealIndex } from "./seal-index.ts";
