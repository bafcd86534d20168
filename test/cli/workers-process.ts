/** Starts a process with two workers and reads its metrics page. */
import { join } from "node:path";
import type { TestContext } from "node:test";
import { Child, type TemporaryFolder } from "../support/child.ts";
import { mainFile } from "../support/program.ts";

export async function startWithWorkers(
  t: TestContext,
  { folder, configFile, metrics }: Readonly<{ folder: TemporaryFolder; configFile: string; metrics: number }>,
): Promise<Readonly<{ child: Child; readMetrics: () => Promise<string>; bothServe: () => Promise<boolean> }>> {
  const child = await Child.start({
    command: process.execPath,
    args: ["--no-warnings", mainFile, "run", "-c", configFile],
    logFile: join(folder.path, "log"),
  });
  t.after(() => child.kill());
  /** @throws if the process has exited */
  const readMetrics = async (): Promise<string> => {
    if (!child.running) throw new Error(child.log().slice(-2_000));
    const page = await fetch(`http://127.0.0.1:${metrics}/metrics`).catch(() => undefined);
    return (await page?.text()) ?? "";
  };
  const bothServe = async (): Promise<boolean> => {
    const ready = await fetch(`http://127.0.0.1:${metrics}/readyz`).catch(() => undefined);
    return (await readMetrics()).includes("cardea_workers 2") && ready?.ok === true;
  };
  return { child, readMetrics, bothServe };
}
