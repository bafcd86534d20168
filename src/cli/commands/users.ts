/** `cardea users list|suspend|restore|erase` */
import type { UserView } from "../../console/index.ts";
import { connectOperator, inPath } from "../operator/operator-client.ts";
import { runChange } from "../operator/run-change.ts";
import { operatorOptions, parse, waitOptions } from "../terminal/arguments.ts";
import type { CliCommand } from "../terminal/command.ts";
import { formatTable } from "../terminal/print.ts";

export const usersList: CliCommand = {
  name: "users list",
  usage: "",
  summary: "list everyone who has signed in",
  help: "Shows each user's id, e-mail, status, groups and number of live sessions.",
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 0, max: 0 });
    const client = await connectOperator(parsed, terminal);
    try {
      const { users } = (await client.get("/users")) as { users: readonly UserView[] };
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(users)}\n`);
      else if (users.length === 0) terminal.out("no users\n");
      else {
        const rows = users.map((u) => [u.id, u.email || u.subject, u.status, String(u.sessions), u.groups.join(", ")]);
        terminal.out(formatTable(["USER", "NAME", "STATUS", "SESSIONS", "GROUPS"], rows));
      }
      return 0;
    } finally {
      await client.close();
    }
  },
};

const onUser = (verb: "suspend" | "restore" | "erase", summary: string, help: string, past: string): CliCommand => ({
  name: `users ${verb}`,
  usage: "NAME [--wait [--region [NAME]] [--timeout 10s]]",
  summary,
  help,
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, ...waitOptions }, { min: 1, max: 1 });
    const name = parsed.positionals[0] ?? "";
    const client = await connectOperator(parsed, terminal);
    try {
      return await runChange(client, parsed, terminal, {
        path: `/users/${inPath(name)}/${verb}`,
        body: {},
        done: `${name} ${past}`,
        unchanged: `nothing changed: ${name} was already ${past}`,
      });
    } finally {
      await client.close();
    }
  },
});

export const usersSuspend = onUser(
  "suspend",
  "end a user's sessions and refuse new ones",
  "Revokes every session of the user and refuses new sign-ins until the user is restored.",
  "suspended",
);
export const usersRestore = onUser(
  "restore",
  "let a suspended user sign in again",
  "Sessions that were revoked stay revoked.",
  "restored",
);
export const usersErase = onUser(
  "erase",
  "erase a person permanently",
  "Destroys the person's key, so that their names, e-mails and claims become unreadable in every copy of the log. This cannot be undone.",
  "erased",
);
