/**
 * Home moves: runs the command that moves the home region, as an operator does, and brings old primaries back as
 * standbys. Every run of the command is in the history.
 */
import { execFile } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import type { Cluster, ClusterRegion } from "../cluster/cluster.ts";
import { nsPerMs } from "../judge/history.ts";
import type { HistoryFile } from "../judge/history-file.ts";
import type { RunClock } from "../judge/run-clock.ts";
import { programFile } from "../program.ts";

export type CliResult = Readonly<{ code: number; out: string; err: string }>;

export type HomeMoves = Readonly<{
  /** The home region by the last command that ended well. */
  home(): ClusterRegion;
  /** Runs the command once, with the configuration of a broker of that region. @throws Error when it does not exit 0 */
  move(region: string, ...args: readonly string[]): Promise<CliResult>;
  /**
   * Runs it again and again until it exits 0, as an operator does whose move is refused or interrupted.
   * @throws Error when it has not within the time
   */
  moveWithin(ms: number, region: string): Promise<void>;
  /** Every Postgres server that follows no primary comes back as a standby. */
  rejoin(): Promise<void>;
}>;

const moveMs = 120_000;
const againMs = 1_000;

export function createHomeMoves(
  cluster: Cluster,
  { now, history, say }: Readonly<{ now: RunClock; history: HistoryFile; say: (text: string) => void }>,
): HomeMoves {
  let { home } = cluster;

  async function move(region: string, ...args: readonly string[]): Promise<CliResult> {
    const target = cluster.region(region);
    const [broker] = target.brokers;
    const begin = now();
    const result = await runCli(broker?.configFile ?? "", ["region", "move-home", region, ...args], moveMs);
    const end = now();
    const problem = result.code === 0 ? "" : `move-home ended with ${result.code}: ${result.out} ${result.err}`;
    history.write({ type: "home-move", region, begin, end, problem });
    const seconds = ((end - begin) / nsPerMs / 1_000).toFixed(1);
    const text = `the home region ${problem === "" ? "moved" : "did not move"} to ${region}, by a command that took ${seconds} s`;
    history.write({ type: "note", at: end, text });
    if (problem !== "") throw new Error(problem);
    say(text);
    home = target;
    // Each region that may lead has one server in such a cluster.
    const primary = cluster.databases.find((server) => server.region === region);
    if (primary !== undefined) await cluster.postgres.adopt(primary.name);
    return result;
  }

  async function moveWithin(ms: number, region: string): Promise<void> {
    const giveUpAt = performance.now() + ms;
    for (;;) {
      try {
        await move(region);
        return;
      } catch (error) {
        if (performance.now() > giveUpAt) throw error;
        say(`once more: ${lastLineOf(error)}`);
      }
      await delay(againMs);
    }
  }

  return { home: () => home, move, moveWithin, rejoin: () => cluster.postgres.rejoin() };
}

function lastLineOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.trim().split("\n").at(-1) ?? "";
}

/** Runs the command line of the product with a configuration file. */
export function runCli(configFile: string, args: readonly string[], timeout: number): Promise<CliResult> {
  const argv = ["--no-warnings", programFile(), ...args, "-c", configFile];
  return new Promise((resolve) => {
    execFile(process.execPath, argv, { timeout }, (error, out, err) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
      resolve({ code, out, err });
    });
  });
}
