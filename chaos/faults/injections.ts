/** Injections: how each kind of fault is made and undone. */
import { auditFaults } from "./audit-faults.ts";
import type { FaultKind } from "./fault-kinds.ts";
import type { Inject } from "./injection.ts";
import { networkFaults } from "./network-faults.ts";
import { processFaults } from "./process-faults.ts";
import { storeFaults } from "./store-faults.ts";

export const injections: Readonly<Record<FaultKind, Inject>> = {
  ...processFaults,
  ...networkFaults,
  ...storeFaults,
  ...auditFaults,
};
