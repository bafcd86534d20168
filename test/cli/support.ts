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
    env,
  });
  return { code, out, err };
}
