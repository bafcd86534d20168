/** Runs a command line in this process, and keeps what it prints. */
import { commandsFor, runCommandLine } from "../../src/cli/index.ts";

export type Said = Readonly<{ code: number; out: string; err: string }>;

export async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Said> {
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
