/**
 * Member: one process of a small cluster, started from its configuration file. The start waits until it reports ready.
 */
import { Child } from "./child.ts";
import { mainFile } from "./program.ts";
import { waitFor } from "./wait-for.ts";

/** `metrics`: the port on which the process reports whether it is ready. */
export type Member = { name: string; port: number; metrics: number; config: string; child: Child | undefined };

export async function isReady({ metrics }: Member): Promise<boolean> {
  const signal = AbortSignal.timeout(5_000);
  return (await fetch(`http://127.0.0.1:${metrics}/readyz`, { signal }).catch(() => undefined))?.ok === true;
}

export async function startMember(of: Member, logFile: string): Promise<void> {
  of.child = await Child.start({
    command: process.execPath,
    args: ["--no-warnings", mainFile, "run", "-c", of.config],
    logFile,
  });
  await waitFor(
    `${of.name} to be ready`,
    () => {
      if (of.child?.running !== true) throw new Error(of.child?.log().slice(-2_000));
      return isReady(of);
    },
    { withinMs: 60_000 },
  );
}
