/** Runs a command line in this process and captures its output. */
import { commandsFor, runCommandLine } from "../../src/cli/index.ts";

export type CommandOutput = Readonly<{ code: number; out: string; err: string }>;

export async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<CommandOutput> {
  let [out, err] = ["", ""];
  const code = await runCommandLine(args, await commandsFor(args), {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    interactive: false,
    env: { CARDEA_SINGLE_THREADED_GC: "false", ...env }, // the same output on a machine with one core
  });
  return { code, out, err };
}
