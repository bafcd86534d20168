/**
 * Home move: a planned move of the home region between three regions on loopback, with a delay between each two of them
 * and between each and the operator, and with the default leases. A client changes something without a pause meanwhile.
 */
import { runCardea } from "../../test/integration/cluster/cluster.ts";
import { startThreeRegions } from "../../test/integration/regions/three-regions.ts";
import { waitFor } from "../../test/support/wait-for.ts";

export type HomeMove = Readonly<{
  /** As the command prints it: from the fence until a broker of the new home leads. */
  withoutChangesMs: number;
  /** The longest time that one change took, requested in the third region. */
  longestChangeMs: number;
}>;

/** @param options.lateMs the delay of each byte between two regions, in each direction */
export async function measureHomeMove(options: Readonly<{ lateMs: number }>): Promise<HomeMove> {
  const regions = await startThreeRegions("default", options);
  try {
    await waitFor(
      "a leader",
      async () => (await regions.client("ap", "operator").status()).leader?.brokerId === "broker-east",
      { withinMs: 60_000 },
    );
    const moved = new AbortController();
    const changing = changeUntil(moved.signal, (n) => regions.session("ap", `user-${n}`));
    const { code, out, err } = await runCardea([...["region", "move-home", "us", "--json", "-c", regions.commandFile]]);
    if (code !== 0) throw new Error(`the move failed (${code}): ${out}${err}`);
    moved.abort();
    const { withoutChangesMs } = JSON.parse(out) as { withoutChangesMs: number };
    return { withoutChangesMs, longestChangeMs: await changing };
  } finally {
    await regions.stop();
  }
}

/** One change after another. @returns the longest time that one took, ms */
async function changeUntil(signal: AbortSignal, change: (n: number) => Promise<unknown>): Promise<number> {
  let longestMs = 0;
  for (let n = 0; !signal.aborted; n++) {
    const from = performance.now();
    await waitFor("a change", () => change(n).catch(() => undefined), { withinMs: 60_000, everyMs: 10 });
    longestMs = Math.max(longestMs, performance.now() - from);
  }
  return longestMs;
}
