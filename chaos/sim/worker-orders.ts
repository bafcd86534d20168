/** Worker orders: the messages between a runner and its worker processes. */
import type { Coverage } from "./coverage.ts";
import type { SeedReport } from "./seed-report.ts";

export type SeedOrder = Readonly<{ type: "seed"; seed: number; twice: boolean }>;
/** `coverage`: sent once, to a coverage worker; it stops counting. */
export type Order = SeedOrder | Readonly<{ type: "coverage" }>;
export type Done = Readonly<{ type: "done"; report: SeedReport; repeated: boolean; cpuMs: number }>;
export type Covered = Readonly<{ type: "covered"; coverage: Coverage }>;

let readCoverage: (() => Coverage) | undefined;

/** Called in a coverage worker, before `takeOrders`. */
export function readCoverageBy(read: () => Coverage): void {
  readCoverage = read;
}

/** Runs each seed that the runner orders. The process ends when the runner disconnects. */
export function takeOrders(run: (order: SeedOrder) => Promise<Done>): void {
  process.on("disconnect", () => process.exit(0));
  process.on("message", (order: Order) => {
    if (order.type === "seed") void run(order).then(send);
    else if (readCoverage !== undefined) send({ type: "covered", coverage: readCoverage() });
  });
}

function send(message: Done | Covered): void {
  process.send?.(message);
}
