/** `cardea directories list|sync` */
import type { DirectoryView } from "../../console/index.ts";
import { operatorOptions, parse, waitOptions } from "../terminal/arguments.ts";
import type { CliCommand } from "../terminal/command.ts";
import { formatTable, maskControlCharacters } from "../terminal/print.ts";
import { connectOperator } from "./operator-client.ts";
import { runChange } from "./run-change.ts";

export const directoriesList: CliCommand = {
  name: "directories list",
  usage: "",
  summary: "list the directories that the leader reads, and their last runs",
  help: `AGE is the time since the last complete run. A run that is partial or withheld has removed nothing; its problem says why. See
docs/directories.md.`,
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 0, max: 0 });
    const client = await connectOperator(parsed, terminal);
    try {
      const { directories } = (await client.get("/directories")) as { directories: readonly DirectoryView[] };
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(directories)}\n`);
      else if (directories.length === 0) terminal.out("no directories\n");
      else terminal.out(textOf(directories, Date.now()));
      return 0;
    } finally {
      await client.close();
    }
  },
};

export const directoriesSync: CliCommand = {
  name: "directories sync",
  usage: "NAME [--allow-removals] [--wait [--region [NAME]] [--timeout 10s]]",
  summary: "read a directory now, and whole",
  help: `The leader begins the run within a second or two; \`cardea directories list\` shows how it ended. With --allow-removals the run may take
access and groups from any number of people, also if the directory is suddenly empty. Without it, mass changes wait: cardea held list.`,
  async run(args, terminal) {
    const options = { ...operatorOptions, ...waitOptions, "allow-removals": { type: "boolean" } } as const;
    const parsed = parse(args, options, { min: 1, max: 1 });
    const name = parsed.positionals[0] ?? "";
    const client = await connectOperator(parsed, terminal);
    try {
      return await runChange(client, parsed, terminal, {
        path: `/directories/${encodeURIComponent(name)}/sync`,
        body: parsed.flag("allow-removals") ? { removals: true } : {},
        done: `directory ${name} will be read now`,
        unchanged: `nothing changed: directory ${name} is already waiting to be read`,
      });
    } finally {
      await client.close();
    }
  },
};

function textOf(directories: readonly DirectoryView[], now: number): string {
  const rows = directories.map(({ name, provider, complete, last, runningSince, asked }) => [
    name,
    provider,
    complete === null ? "never" : formatAge(now - Date.parse(complete.at)),
    runningSince === null ? (asked ? "asked" : (last?.result ?? "-")) : "running",
    String(complete?.people ?? "-"),
    String(complete?.groups ?? "-"),
    last === null ? "-" : `+${last.added} -${last.removed}`,
  ]);
  const head = ["DIRECTORY", "PROVIDER", "AGE", "LAST RUN", "PEOPLE", "GROUPS", "MEMBERSHIPS"];
  const problems = directories.flatMap(({ name, last }) =>
    last === null || last.problem === null ? [] : [`${maskControlCharacters(`${name}: ${last.problem}`)}\n`],
  );
  return formatTable(head, rows) + problems.join("");
}

function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 120) return `${seconds}s`;
  return seconds < 7_200 ? `${Math.round(seconds / 60)}m` : `${Math.round(seconds / 3_600)}h`;
}
