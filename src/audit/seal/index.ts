/** Entry point of seals: hashes audit records, has their roots sealed into the log, and proves and checks them. */
export { CodeBlock } from "./leaf-code.ts";
export { erasedMember, eraseLine, lostLeaf, recordLeafOf } from "./record-leaf.ts";
export { erasuresMax, locateErrors } from "./reed-solomon.ts";
export type { SealPort, SubmittedSeal } from "./seal-port.ts";
export { AuditForkedError, AuditSealer, type SealerStats } from "./sealer.ts";
