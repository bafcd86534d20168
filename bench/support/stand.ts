/**
 * Stand: one bench's folder and processes. The measured process has one core to itself; upstream and load share
 * another.
 *
 * All processes end with the bench, even when it is interrupted.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Pinned, startPinned } from "./pinned.ts";

export const coreOfProxy = "0";
export const coreOfLoad = "1";

export type Stand = Readonly<{
  folder: string;
  /** Runs until the stand is taken down; ready when its port answers. */
  start(core: string, command: string, args: readonly string[], port: number): Promise<Pinned>;
  /** Runs before anything that started earlier ends. */
  atEnd(stop: () => Promise<void>): void;
}>;

export async function withStand(run: (stand: Stand) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "cardea-bench-"));
  const stops: (() => Promise<void>)[] = [];
  const takeDown = async (): Promise<void> => {
    for (const stop of stops.splice(0).reverse()) await stop();
    rmSync(folder, { recursive: true, force: true });
  };
  const interrupted = (): void => void takeDown().finally(() => process.exit(1));
  process.once("SIGINT", interrupted).once("SIGTERM", interrupted);
  try {
    await run({
      folder,
      async start(...args) {
        const pinned = await startPinned(...args);
        stops.push(pinned.stop);
        return pinned;
      },
      atEnd: (stop) => void stops.push(stop),
    });
  } finally {
    process.off("SIGINT", interrupted).off("SIGTERM", interrupted);
    await takeDown();
  }
}
