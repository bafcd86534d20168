/** `cardea groups list|add|remove|delete` */
import type { GroupView } from "../../console/index.ts";
import { connectOperator, inPath } from "../operator/operator-client.ts";
import { runChange } from "../operator/run-change.ts";
import { operatorOptions, parse, waitOptions } from "../terminal/arguments.ts";
import type { CliCommand } from "../terminal/command.ts";
import { formatTable } from "../terminal/print.ts";

export const groupsList: CliCommand = {
  name: "groups list",
  usage: "",
  summary: "list groups and their members",
  help: "A member marked `excluded` was removed by an operator and stays out, even if the identity provider or a directory lists them.",
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 0, max: 0 });
    const client = await connectOperator(parsed, terminal);
    try {
      const { groups } = (await client.get("/groups")) as { groups: readonly GroupView[] };
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(groups)}\n`);
      else if (groups.length === 0) terminal.out("no groups\n");
      else {
        const rows = groups.flatMap((g) =>
          g.members.length === 0
            ? [[g.id, "", "", ""]]
            : g.members.map((m) => [
                g.id,
                m.email || m.userId,
                m.excluded ? "excluded" : m.member ? "member" : "",
                m.sources.join(", "),
              ]),
        );
        terminal.out(formatTable(["GROUP", "USER", "STATUS", "SOURCES"], rows));
      }
      return 0;
    } finally {
      await client.close();
    }
  },
};

const change = (verb: "add" | "remove"): CliCommand => ({
  name: `groups ${verb}`,
  usage: "GROUP NAME… [--wait [--region [NAME]] [--timeout 10s]]",
  summary: verb === "add" ? "add users to a group" : "remove users from a group",
  help:
    verb === "add"
      ? "Takes effect on every node at once. Also lifts an earlier exclusion."
      : "Takes effect on every node at once, on open connections too. The exclusion lasts until `groups add`, whatever the identity provider says.",
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, ...waitOptions }, { min: 2, max: 1_001 });
    const [group = "", ...names] = parsed.positionals;
    const client = await connectOperator(parsed, terminal);
    try {
      return await runChange(client, parsed, terminal, {
        path: `/groups/${inPath(group)}/members`,
        body: { [verb]: names },
        done: `${names.join(", ")} ${verb === "add" ? "added to" : "removed from"} ${group}`,
        unchanged: "nothing to change",
      });
    } finally {
      await client.close();
    }
  },
});

export const groupsAdd = change("add");
export const groupsRemove = change("remove");

export const groupsDelete: CliCommand = {
  name: "groups delete",
  usage: "GROUP [--wait [--region [NAME]] [--timeout 10s]] [--output FILE]",
  summary: "delete a group with all its memberships",
  help: `Takes effect on every node at once, on open connections too. If the identity provider or a directory names the group again, it starts
empty: an operator's earlier exclusions and additions no longer apply.`,
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, ...waitOptions }, { min: 1, max: 1 });
    const group = parsed.positionals[0] ?? "";
    const client = await connectOperator(parsed, terminal);
    try {
      return await runChange(client, parsed, terminal, {
        path: `/groups/${inPath(group)}/remove`,
        body: {},
        done: `group ${group} removed`,
        unchanged: "nothing to change",
      });
    } finally {
      await client.close();
    }
  },
};
