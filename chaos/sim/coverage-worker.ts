/**
 * Coverage worker: a worker that counts which lines of `src/` its seeds run, from before anything of `src/` is loaded.
 */
import { startCoverage } from "./coverage.ts";
import { readCoverageBy } from "./worker-orders.ts";

readCoverageBy(startCoverage());
await import("./worker.ts");
