/** `cardea users list|show|refresh|suspend|restore|erase` */
import type {
  AskAnswer,
  ChangeAnswer,
  EraseAnswer,
  ErasureReport,
  MembershipView,
  UserView,
} from "../../console/index.ts";
import { listOptions, readPages } from "../operator/list-pages.ts";
import { connectOperator, inPath, withOperator } from "../operator/operator-client.ts";
import { printPreviewOf } from "../operator/preview-text.ts";
import { checkRegion, postChange, printOutcome, runChange } from "../operator/run-change.ts";
import { operatorOptions, type Parsed, parse, parseWait, waitOptions } from "../terminal/arguments.ts";
import { type CliCommand, type Terminal, UsageError } from "../terminal/command.ts";
import { formatTable, maskControlCharacters } from "../terminal/print.ts";
import { timeBoxBody, timeBoxOptions } from "../terminal/time-box.ts";
import { lastSeenText } from "./sessions.ts";

export const usersList: CliCommand = {
  name: "users list",
  usage: "[--search TEXT] [--status active|suspended|erased|all] [--sort name|email] [--limit 1000]",
  summary: "list everyone who has signed in",
  help: "Shows each user's id, e-mail, status, groups and number of live sessions. TEXT is a part of a name, e-mail, subject or id. --sort=-name: descending.",
  async run(args, terminal) {
    const options = { ...operatorOptions, ...listOptions, status: { type: "string" } } as const;
    const parsed = parse(args, options, { min: 0, max: 0 });
    const client = await connectOperator(parsed, terminal);
    try {
      const query = new URLSearchParams({ status: parsed.text("status") ?? "all" });
      const users = await readPages<UserView>(client, parsed, { path: "/users", query, key: "users" });
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

export const usersShow: CliCommand = {
  name: "users show",
  usage: "NAME",
  summary: "show a user: status, groups, what ends when, and what identity providers said last",
  help: "NAME is a user id, a subject or an e-mail. Shows ends of suspensions and of additions to groups, with their reasons.",
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 1, max: 1 });
    const client = await connectOperator(parsed, terminal);
    try {
      const path = `/users/${inPath(parsed.positionals[0] ?? "")}`;
      const { users } = (await client.get(path)) as { users: readonly ShownUser[] };
      terminal.out(parsed.flag("json") ? `${JSON.stringify(users)}\n` : users.map(textOf).join("\n"));
      return 0;
    } finally {
      await client.close();
    }
  },
};

type ShownUser = UserView & Readonly<{ memberships: readonly MembershipView[] }>;

function textOf(user: ShownUser): string {
  const { suspension, grants, memberships, providers } = user;
  const lines = [
    `${user.id}  ${user.email || user.subject}  ${user.name}`,
    `status: ${user.status}${suspension === null ? "" : ` until ${suspension.until}: ${suspension.reason}`}`,
    `sessions: ${user.sessions}`,
    ...sessionText(user.lastSession),
    `groups: ${user.groups.join(", ") || "none"}`,
    ...memberships.map(textOfMembership),
    ...providers.map(providerText),
    ...grants.map(({ group, until, reason }) => `  ${group} until ${until}: ${reason}`),
  ];
  return lines.map((line) => `${maskControlCharacters(line)}\n`).join("");
}

function sessionText(last: UserView["lastSession"]): readonly string[] {
  if (last === null) return [];
  const seen = last.lastSeenBy === null ? "" : ` seen ${lastSeenText(last, Date.now())},`;
  const idle = last.idleAt === null ? "" : ` ends ${last.idleAt} if it is not used, and`;
  return [`last session: ${last.id},${seen}${idle} ends ${last.expiresAt ?? "never"} at the latest`];
}

function textOfMembership({ group, excluded, sources }: MembershipView): string {
  const named = sources.map(({ source, name, asOf }) => {
    const age = asOf === null ? "" : ` (as of ${asOf})`;
    return `${source}${name === null ? "" : ` ${name}`}${age}`;
  });
  return `  ${group} from ${named.join(", ") || "no source"}${excluded ? "; excluded by an operator" : ""}`;
}

function providerText({ name, idpId, sessions, confirmedAt, dueBy, groups }: UserView["providers"][number]): string {
  const next = dueBy === null ? "" : `, next by ${dueBy}`;
  const claimed = groups.length === 0 ? "" : `, groups: ${groups.join(", ")}`;
  return `provider ${name ?? idpId}: sessions ${sessions}, confirmed at ${confirmedAt}${next}${claimed}`;
}

const dryRunOption = { "dry-run": { type: "boolean" } } as const;

type VerbTexts = Readonly<{ summary: string; help: string; done: string; unchanged: string }>;

const onUser = (verb: "restore", { summary, help, done, unchanged }: VerbTexts): CliCommand => ({
  name: `users ${verb}`,
  usage: "NAME [--dry-run] [--wait [--region [NAME]] [--timeout 10s]]",
  summary,
  help,
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, ...waitOptions, ...dryRunOption }, { min: 1, max: 1 });
    const name = parsed.positionals[0] ?? "";
    const client = await connectOperator(parsed, terminal);
    try {
      if (parsed.flag("dry-run"))
        return await printPreviewOf(client, parsed, terminal, { type: "restoreUser", user: name });
      return await runChange(client, parsed, terminal, {
        path: `/users/${inPath(name)}/${verb}`,
        body: {},
        done: `${name} ${done}`,
        unchanged: `${name} ${unchanged}`,
      });
    } finally {
      await client.close();
    }
  },
});

export const usersSuspend: CliCommand = {
  name: "users suspend",
  usage: "NAME [--until TIME|DURATION] [--reason TEXT] [--dry-run] [--wait [--region [NAME]] [--timeout 10s]]",
  summary: "end a user's sessions and refuse new ones",
  help: `Revokes every session of the user and refuses new sign-ins until the user is restored.
--until ends the suspension by itself: 8h, 3d, or a time with its zone. The person may then sign in again; old sessions stay revoked. It
never shortens a suspension: restore the user for that. --dry-run changes nothing, and prints what it would concern. --reason goes into the log in clear, forever: name no person.`,
  async run(args, terminal) {
    const options = { ...operatorOptions, ...waitOptions, ...timeBoxOptions, ...dryRunOption };
    const parsed = parse(args, options, { min: 1, max: 1 });
    const name = parsed.positionals[0] ?? "";
    const body = timeBoxBody(parsed);
    const client = await connectOperator(parsed, terminal);
    try {
      if (parsed.flag("dry-run"))
        return await printPreviewOf(client, parsed, terminal, { type: "suspendUser", user: name, ...body });
      const until = parsed.text("until");
      return await runChange(client, parsed, terminal, {
        path: `/users/${inPath(name)}/suspend`,
        body,
        done: `${name} suspended${until === undefined ? "" : ` (--until ${until})`}`,
        unchanged: `nothing changed: ${name} was already suspended`,
      });
    } finally {
      await client.close();
    }
  },
};
export const usersRestore = onUser("restore", {
  summary: "let a suspended user sign in again",
  help: "Sessions that were revoked stay revoked.",
  done: "restored",
  unchanged: "was already restored: nothing changed",
});
export const usersRefresh: CliCommand = {
  name: "users refresh",
  usage: "NAME [--wait [--region [NAME]]] [--timeout 10s]",
  summary: "ask the identity provider and the directories about a user now",
  help: `The leader refreshes the user's sessions within seconds, each at most every 10 s, and only those with a refresh token.
users show says when the provider last confirmed them. Cardea asks each directory about the user, and applies what it says: the answer
names what was said, whether it changed something, and the position. --timeout is also how long to wait for the directories, at most 30s.`,
  run: (args, terminal) =>
    withOperator(
      parse(args, { ...operatorOptions, ...waitOptions }, { min: 1, max: 1 }),
      terminal,
      async (client, parsed) => {
        const name = parsed.positionals[0] ?? "";
        await checkRegion(client, parsed);
        const answer = (await postChange(client, `/users/${inPath(name)}/refresh`, {})) as ChangeAnswer;
        const timeoutMs = Math.min(30_000, parseWait(parsed.text("timeout"), 10_000));
        const asked = (await client.post(`/users/${inPath(name)}/ask`, { timeoutMs }, timeoutMs + 10_000)) as AskAnswer;
        const isAnswered = asked.directories.every(({ result }) => result === "answered" || result === "cannot");
        if (parsed.flag("json")) {
          terminal.out(`${JSON.stringify({ ...answer, ...asked })}\n`);
          return isAnswered ? 0 : 1;
        }
        const sentence = answer.changed
          ? `${name} will be asked about at the identity provider`
          : `${name} has no live session, so the identity provider is not asked`;
        const code = await printOutcome(client, parsed, terminal, answer, sentence);
        for (const each of asked.directories) terminal.out(`${directoryText(each)}\n`);
        return isAnswered ? code : 1;
      },
    ),
};

function directoryText({ directory, result, said, changed, position }: AskAnswer["directories"][number]): string {
  if (result === "answered")
    return `directory ${directory}: ${said}; ${changed ? "changed" : "nothing changed"} (position ${position})`;
  const what = { cannot: "not asked", failed: "failed", refused: "not asked", waiting: "waiting" }[result];
  return `directory ${directory}: ${what}: ${said}`;
}

export const usersErase: CliCommand = {
  name: "users erase",
  usage: "NAME [--dry-run] [--yes] [--wait [--region [NAME]] [--timeout 10s]]",
  summary: "erase a person permanently",
  help: `Destroys the person's key, so that their names, e-mails and claims become unreadable in every copy of the log, and their provider tokens.
Prints what was destroyed and what it does not reach (docs/erasure.md). --dry-run prints the same and destroys nothing. On a terminal it asks
for the name once more, unless --yes is given. With --output, the signed receipts of the person and of each SCIM record. This cannot be undone.`,
  async run(args, terminal) {
    const options = {
      ...operatorOptions,
      ...waitOptions,
      "dry-run": { type: "boolean" },
      yes: { type: "boolean" },
    } as const;
    const parsed = parse(args, options, { min: 1, max: 1 });
    const name = parsed.positionals[0] ?? "";
    const client = await connectOperator(parsed, terminal);
    try {
      if (parsed.flag("dry-run")) {
        const report = (await client.get(`/users/${inPath(name)}/erasure`)) as ErasureReport;
        terminal.out(parsed.flag("json") ? `${JSON.stringify(report)}\n` : erasureText(report));
        return 0;
      }
      await confirmName(name, parsed, terminal);
      await checkRegion(client, parsed);
      const answer = (await postChange(client, `/users/${inPath(name)}/erase`, {})) as EraseAnswer;
      const saved = [...answer.recordLinks.map((link) => ({ ...answer, link })), answer];
      const sentence = answer.changed ? `${name} erased` : `nothing changed: ${name} was already erased`;
      const code = await printOutcome(client, parsed, terminal, answer, sentence, saved);
      if (!parsed.flag("json")) terminal.out(erasureText(answer.erasure));
      return code;
    } finally {
      await client.close();
    }
  },
};

/** @throws UsageError when another name is typed */
async function confirmName(name: string, parsed: Parsed, terminal: Terminal): Promise<void> {
  if (parsed.flag("yes") || terminal.ask === undefined) return;
  const typed = await terminal.ask(`this cannot be undone; type ${maskControlCharacters(name)} to erase: `);
  if (typed.trim() !== name) throw new UsageError("the name does not match; nothing was erased");
}

const keyTexts = {
  destroyed: "key destroyed",
  "destroyed-before": "key destroyed before",
  "to-be-destroyed": "key to be destroyed",
} as const;

function erasureText({ people, configurations, unsearched, kept }: ErasureReport): string {
  const rows = people.map(({ userId, kind, client, key, sessions, memberships }) => [
    userId,
    client === null ? kind : `${kind} of ${client}`,
    keyTexts[key],
    String(sessions),
    String(memberships),
  ]);
  const named = configurations.map((hash) => `cardea config show ${hash.slice(0, 12)}`);
  return [
    formatTable(["USER", "KIND", "KEY", "SESSIONS AND TOKENS", "MEMBERSHIPS KEPT"], rows),
    ...(named.length === 0 ? [] : [`stored configurations name the person: ${named.join(", ")}\n`]),
    ...(unsearched === 0 ? [] : [`${unsearched} older configurations were not searched\n`]),
    "not reached (docs/erasure.md):\n",
    ...kept.map(({ holds, remedy }) => `  ${holds}: ${remedy}\n`),
  ].join("");
}
