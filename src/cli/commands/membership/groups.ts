/** `cardea groups list|show|members|add|remove|delete` */
import type { GroupView, MemberWithOrigin, PreviewAnswer } from "../../../console/index.ts";
import { printPreview } from "../../operator/blast-radius.ts";
import { listOptions, readPages } from "../../operator/list-pages.ts";
import { connectOperator, inPath, type OperatorClient } from "../../operator/operator-client.ts";
import { runChange } from "../../operator/run-change.ts";
import { operatorOptions, type Parsed, parse, waitOptions } from "../../terminal/arguments.ts";
import { type CliCommand, type ExitCode, type Terminal, UsageError } from "../../terminal/command.ts";
import { formatTable } from "../../terminal/print.ts";
import { timeBoxBody, timeBoxOptions } from "../../terminal/time-box.ts";

export const groupsList: CliCommand = {
  name: "groups list",
  usage: "[--search TEXT] [--sort name|-name] [--limit 1000]",
  summary: "list groups and their members",
  help: "A member marked `excluded` was removed by an operator and stays out, even if the identity provider or a directory lists them.",
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, ...listOptions }, { min: 0, max: 0 });
    const client = await connectOperator(parsed, terminal);
    try {
      const query = new URLSearchParams();
      const groups = await readPages<GroupView>(client, parsed, { path: "/groups", query, key: "groups" });
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(groups)}\n`);
      else if (groups.length === 0) terminal.out("no groups\n");
      else {
        const rows = groups.flatMap((g) =>
          g.members.length === 0
            ? [[g.id, "", "", "", ""]]
            : g.members.map((m) => [
                g.id,
                m.email || m.userId,
                statusOf(m),
                m.sources.join(", "),
                m.grant?.until ?? "",
              ]),
        );
        terminal.out(formatTable(["GROUP", "USER", "STATUS", "SOURCES", "UNTIL"], rows));
      }
      return 0;
    } finally {
      await client.close();
    }
  },
};

function statusOf({ member, excluded }: GroupView["members"][number]): string {
  return member ? "member" : excluded ? "excluded" : "";
}

export const groupsShow: CliCommand = {
  name: "groups show",
  usage: "GROUP",
  summary: "show a group: its members, their sources, and what ends when",
  help: `UNTIL is the end of an addition by an operator. A member of another source as well stays one after it; an exclusion that the
addition overrode is in force again.`,
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 1, max: 1 });
    const client = await connectOperator(parsed, terminal);
    try {
      const path = `/groups/${inPath(parsed.positionals[0] ?? "")}`;
      const { group } = (await client.get(path)) as { group: GroupView };
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(group)}\n`);
      else {
        const rows = group.members.map((m) => [
          m.userId,
          m.email,
          statusOf(m),
          m.sources.join(", "),
          m.grant?.until ?? "",
          m.grant?.reason ?? "",
        ]);
        terminal.out(formatTable(["USER", "E-MAIL", "STATUS", "SOURCES", "UNTIL", "REASON"], rows));
      }
      return 0;
    } finally {
      await client.close();
    }
  },
};

export const groupsMembers: CliCommand = {
  name: "groups members",
  usage: "GROUP [--search TEXT] [--status member|excluded|all] [--sort name|-name] [--limit 1000]",
  summary: "list the members of a group by name, with the time and the actor of the last change",
  help: `SINCE and BY: when the log last changed the membership, and who did; empty where the server does not know. UNTIL is the end of an addition by an
operator.`,
  async run(args, terminal) {
    const options = { ...operatorOptions, ...listOptions, status: { type: "string" } } as const;
    const parsed = parse(args, options, { min: 1, max: 1 });
    const client = await connectOperator(parsed, terminal);
    try {
      const query = new URLSearchParams({ status: parsed.text("status") ?? "all" });
      const path = `/groups/${inPath(parsed.positionals[0] ?? "")}/members`;
      const members = await readPages<MemberWithOrigin>(client, parsed, { path, query, key: "members" });
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(members)}\n`);
      else {
        const rows = members.map((m) => [
          ...[m.userId, m.email || m.name, statusOf(m), m.sources.join(", ")],
          ...[m.since ?? "", m.byName ?? m.by ?? "", m.grant?.until ?? ""],
        ]);
        terminal.out(formatTable(["USER", "NAME", "STATUS", "SOURCES", "SINCE", "BY", "UNTIL"], rows));
      }
      return 0;
    } finally {
      await client.close();
    }
  },
};

const dryRunOption = { "dry-run": { type: "boolean" } } as const;

async function preview(
  client: OperatorClient,
  parsed: Parsed,
  terminal: Terminal,
  { path, body }: Readonly<{ path: string; body: object }>,
): Promise<ExitCode> {
  const answer = (await client.post(path, { ...body, dryRun: true })) as PreviewAnswer;
  if (parsed.flag("json")) terminal.out(`${JSON.stringify(answer)}\n`);
  else printPreview(terminal, answer);
  return 0;
}

const change = (verb: "add" | "remove"): CliCommand => ({
  name: `groups ${verb}`,
  usage: `GROUP NAME… ${verb === "add" ? "[--until TIME|DURATION] " : ""}[--reason TEXT] [--dry-run] [--wait [--region [NAME]] [--timeout 10s]]`,
  summary: verb === "add" ? "add users to a group" : "remove users from a group",
  help:
    verb === "add"
      ? `Takes effect on every node at once. Also lifts an earlier exclusion.
--until ends the addition by itself: 8h, 3d, or a time with its zone. Every node enforces the end by its own clock, on open connections
too. The newest addition counts: a later end renews, an earlier one shortens, and without --until it has none. At the end an exclusion
that it overrode is in force again, and memberships of other sources stay. --reason goes into the log in clear, forever: name no person.`
      : "Takes effect on every node at once, on open connections too. The exclusion lasts until `groups add`, whatever the identity provider says.\n--dry-run prints which people and routes it would concern. A change that concerns many people is held: see `cardea held list`.",
  async run(args, terminal) {
    const options = { ...operatorOptions, ...waitOptions, ...timeBoxOptions, ...dryRunOption };
    const parsed = parse(args, options, { min: 2, max: 1_001 });
    const [group = "", ...names] = parsed.positionals;
    const box = timeBoxBody(parsed);
    if (verb === "remove" && parsed.text("until") !== undefined)
      throw new UsageError("--until belongs to an addition; a removal lasts until `groups add`");
    const client = await connectOperator(parsed, terminal);
    try {
      const path = `/groups/${inPath(group)}/members`;
      if (parsed.flag("dry-run"))
        return await preview(client, parsed, terminal, { path, body: { [verb]: names, ...box } });
      return await runChange(client, parsed, terminal, {
        path,
        body: { [verb]: names, ...box },
        done: `${names.join(", ")} ${verb === "add" ? "added to" : "removed from"} ${group}${endText(parsed)}`,
        unchanged: "nothing to change",
      });
    } finally {
      await client.close();
    }
  },
});

function endText(parsed: Parsed): string {
  const until = parsed.text("until");
  return until === undefined ? "" : /^\d+[mhdw]$/.test(until) ? ` for ${until}` : ` until ${until}`;
}

export const groupsAdd = change("add");
export const groupsRemove = change("remove");

export const groupsDelete: CliCommand = {
  name: "groups delete",
  usage: "GROUP [--dry-run] [--wait [--region [NAME]] [--timeout 10s]] [--output FILE]",
  summary: "delete a group with all its memberships",
  help: `Takes effect on every node at once, on open connections too. If the identity provider or a directory names the group again, it starts
empty: an operator's earlier exclusions and additions no longer apply. --dry-run prints which people and routes it would concern. A change
that concerns many people is held: see cardea held list.`,
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, ...waitOptions, ...dryRunOption }, { min: 1, max: 1 });
    const group = parsed.positionals[0] ?? "";
    const client = await connectOperator(parsed, terminal);
    try {
      const path = `/groups/${inPath(group)}/remove`;
      if (parsed.flag("dry-run")) return await preview(client, parsed, terminal, { path, body: {} });
      return await runChange(client, parsed, terminal, {
        path,
        body: {},
        done: `group ${group} removed`,
        unchanged: "nothing to change",
      });
    } finally {
      await client.close();
    }
  },
};
