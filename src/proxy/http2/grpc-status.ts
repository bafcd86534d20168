/** gRPC status: the status with which a cut gRPC stream ends. Pure. */
import type { CutReason } from "../message/close-codes.ts";

export const grpcStatusOfCut: Readonly<Record<CutReason, number>> = {
  "session-ended": 16,
  "not-permitted": 7,
  "route-removed": 12,
  stale: 14,
  lifetime: 14,
  draining: 14,
};
