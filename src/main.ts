/**
 * The program: finds the command in the arguments and runs it. What each command is made of is said in src/cli/.
 *
 * Exit codes: 0 done, 1 the check failed or is incomplete, 2 usage error, 3 could not be done.
 */
import { createInterface } from "node:readline/promises";
import { inspect } from "node:util";
import { commandsFor, runCommandLine } from "./cli/index.ts";

// No `await` out here: the built program is a script (scripts/program.mjs). The code is of a command that never ends.
process.exitCode = 3;
main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`${inspect(error)}\n`);
    process.exitCode = 3;
  },
);

async function main(args: readonly string[]): Promise<number> {
  return runCommandLine(args, await commandsFor(args), {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    interactive: process.stderr.isTTY === true,
    ...(process.stdout.isTTY ? { columns: () => process.stdout.columns } : {}),
    env: process.env,
    ...(process.stdin.isTTY === true ? { ask } : {}),
  });
}

async function ask(question: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await lines.question(question);
  } finally {
    lines.close();
  }
}
