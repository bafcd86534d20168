/** The command line. */
import type { Command } from "./terminal/command.ts";

export { runCommandLine } from "./terminal/command-line.ts";

/**
 * Those that the arguments can mean. Containers ask for their health every few seconds, and load nothing else for it; servers go
 * without what operators and the demo have.
 */
export async function commandsFor(args: readonly string[]): Promise<readonly Command[]> {
  if (args[0] === "health") return [(await import("./commands/health.ts")).health];
  if (args[0] === "run") return [(await import("./commands/run.ts")).run];
  return (await import("./commands/commands.ts")).commands;
}
