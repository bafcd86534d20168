/** Entry point of seals: hashes audit records, has their roots sealed into the log, and proves and checks them. */
export { erasedMember, eraseLine, lostLeaf, recordLeafOf } from "./record-leaf.ts";
export type { SealPort, SubmittedSeal } from "./seal-port.ts";
export { AuditForkedError, AuditSealer, type SealerStats } from "./sealer.ts";
