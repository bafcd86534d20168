/** The command line. */
import type { CliCommand } from "./terminal/command.ts";

export { runCommandLine } from "./terminal/command-line.ts";

/**
 * The commands that the arguments can name. `health` runs every few seconds in containers and loads nothing else; `run`
 * does not load the commands of operators and the demo.
 */
export async function commandsFor(args: readonly string[]): Promise<readonly CliCommand[]> {
  if (args[0] === "health") return [(await import("./commands/health.ts")).health];
  if (args[0] === "run") return [(await import("./commands/run.ts")).run];
  return (await import("./commands/commands.ts")).commands;
}
