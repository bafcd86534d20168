/** Command line: finds the command that the arguments name, longest name first, and runs it. Prints help and errors. */
import { CannotError, type CliCommand, type ExitCode, type Terminal, UsageError } from "./command.ts";
import { maskMessage } from "./print.ts";
import { version } from "./version.ts";

/** Errors whose message names the folder and the remedy. */
const dataFolderCodes = new Set<unknown>([
  "ERR_REPLICATION_DATA_FOLDER_LOCKED",
  "ERR_REPLICATION_DATA_FOLDER_UNUSABLE",
]);

export async function runCommandLine(
  args: readonly string[],
  commands: readonly CliCommand[],
  terminal: Terminal,
): Promise<ExitCode> {
  const [first] = args;
  if (first === undefined || first === "help" || first === "--help" || first === "-h") {
    terminal.out(overview(commands));
    return first === undefined ? 2 : 0;
  }
  if (first === "--version" || first === "version") {
    terminal.out(`cardea ${version}, node ${process.version}\n`);
    return 0;
  }
  const command = findCommand(args, commands);
  if (command === undefined) {
    const family = commands.filter((c) => c.name.startsWith(`${first} `));
    if (family.length > 0 && args.length === 2 && (args[1] === "--help" || args[1] === "-h")) {
      terminal.out(`${listOf(family)}\n\nEach command has --help.\n${commonOptions}`);
      return 0;
    }
    terminal.err(await unknownCommand(args, commands));
    return 2;
  }
  const rest = args.slice(command.name.split(" ").length);
  if (rest.includes("--help") || rest.includes("-h")) {
    const options = operatorFamilies.includes(command.name.split(" ")[0] ?? "") ? commonOptions : exitCodes;
    terminal.out(`cardea ${command.name} ${command.usage}\n\n${command.summary}\n\n${command.help}\n\n${options}`);
    return 0;
  }
  try {
    return await command.run(rest, terminal);
  } catch (error) {
    const fail = (text: string): void => terminal.err(`${maskMessage(`cardea ${command.name}: ${text}`)}\n`);
    if (error instanceof UsageError) {
      const near = error.unknown === null ? undefined : await nearest(error.unknown.word, error.unknown.known);
      const meant = near === undefined ? "" : `; did you mean --${near}?`;
      fail(`${error.message}${meant || `; see cardea ${command.name} --help`}`);
      return 2;
    }
    if (error instanceof CannotError) {
      fail(error.message);
      return 3;
    }
    if (error instanceof Error && "code" in error && dataFolderCodes.has(error.code)) {
      fail(error.message);
      return 3;
    }
    if (error instanceof Error && "code" in error && error.code === "EADDRINUSE") {
      const taken = "port" in error ? ` ${error.port}` : "";
      const how = command.name === "dev" ? " with --port" : " in the configuration";
      fail(`port${taken} is in use; stop the program that uses it, or choose another port${how}`);
      return 3;
    }
    fail(`unexpected: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    return 3;
  }
}

/** Suggests the command that was probably meant. */
async function unknownCommand(args: readonly string[], commands: readonly CliCommand[]): Promise<string> {
  const [first = "", second] = args;
  const family = commands.filter((c) => c.name.startsWith(`${first} `));
  if (family.length > 0 && second !== undefined && !second.startsWith("-")) {
    const verbs = family.map((c) => c.name.split(" ")[1] ?? "");
    const near = await nearest(second, verbs);
    const remedy = near === undefined ? `use one of: ${listNames(family)}` : `did you mean cardea ${first} ${near}?`;
    return `cardea ${first}: there is no command ${JSON.stringify(second)}; ${remedy}\n`;
  }
  if (family.length > 0) return `cardea ${first}: use one of: ${listNames(family)}\n`;
  const near = await nearest(first, [...new Set(commands.map((c) => c.name.split(" ")[0] ?? ""))]);
  const said = `cardea: there is no command ${JSON.stringify(first)}`;
  if (near === undefined) return `${said}; see cardea --help\n`;
  const whole = findCommand([near, ...args.slice(1)], commands);
  return `${said}; did you mean cardea ${whole?.name ?? near}?\n`;
}

/** Loads `suggest` only for an unknown word: `cardea health` runs every few seconds. */
async function nearest(word: string, known: readonly string[]): Promise<string | undefined> {
  const { suggest } = await import("../../config/index.ts");
  // `suggest` compares configuration keys, which have underscores.
  const byKey = new Map(known.map((name) => [name.replaceAll("-", "_"), name]));
  return byKey.get(suggest(word, byKey.keys()) ?? "");
}

function listNames(family: readonly CliCommand[]): string {
  return family.map((c) => c.name).join(", ");
}

function findCommand(args: readonly string[], commands: readonly CliCommand[]): CliCommand | undefined {
  const named = commands.filter((command) => command.name.split(" ").every((word, i) => args[i] === word));
  return named.sort((a, b) => b.name.length - a.name.length)[0];
}

/** The commands that call a server, and so take the options that name it. */
const operatorFamilies = ["sessions", "users", "groups", "cluster", "receipt", "audit", "snapshot", "drill"];

const exitCodes = "Exit codes: 0 done; 1 the check failed or is incomplete; 2 usage error; 3 could not be done.\n";
const commonOptions = `Common options: --json prints JSON. Server and credential come from a configuration (-c FILE), from --url URL or CARDEA_URL with CARDEA_TOKEN,
or else from the data folder of cardea dev (--data-dir, default ./data).
${exitCodes}`;

function overview(commands: readonly CliCommand[]): string {
  return `Cardea ${version}: an identity-aware access proxy\n\n${listOf(commands)}\n\nEach command has --help.\n${commonOptions}`;
}

function listOf(commands: readonly CliCommand[]): string {
  const width = Math.max(...commands.map((c) => c.name.length));
  return commands.map((c) => `  cardea ${c.name.padEnd(width)}  ${c.summary}`).join("\n");
}
