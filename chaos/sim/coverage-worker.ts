/**
 * Coverage worker: a worker that counts which lines of `src/` its seeds run. It starts to count before any module of
 * `src/` loads.
 */
import { startCoverage } from "./coverage.ts";
import { readCoverageBy } from "./worker-orders.ts";

readCoverageBy(startCoverage());
await import("./worker.ts");
