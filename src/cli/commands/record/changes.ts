/** `cardea changes` and `cardea activity`: what has changed, and how many requests are decided. */
import type { ActivityAnswer, ChangesPage, ChangeView } from "../../../console/index.ts";
import { connectOperator } from "../../operator/operator-client.ts";
import { operatorOptions, type Parsed, parse } from "../../terminal/arguments.ts";
import { type CliCommand, UsageError } from "../../terminal/command.ts";
import { formatTable, maskControlCharacters } from "../../terminal/print.ts";
import { parseTime } from "../../terminal/time-box.ts";

const limitDefault = 50;
const limitMax = 10_000;
const pageRows = 1_000;

export const changes: CliCommand = {
  name: "changes",
  usage: "[--subject NAME] [--actor NAME] [--type TYPES] [--from TIME] [--to TIME] [--all] [--limit N] [--json]",
  summary: "what has changed, newest first: who did what, and what would undo it",
  help: `NAME of --subject is a person (user id, subject or e-mail), or user:ID, group:ID, session:ID. NAME of --actor is a person or an actor as the log
names it. TYPES are event types or areas (sessions, people, groups, devices, configuration, cluster) with commas. TIME has a zone. --all shows sign-ins and
other frequent events one by one; without it they are counted, unless --type or --subject is given. --limit: default ${limitDefault}. --json prints one
change a line.`,
  async run(args, terminal) {
    const texts = { subject: { type: "string" }, actor: { type: "string" }, type: { type: "string" } } as const;
    const parsed = parse(
      args,
      { ...operatorOptions, ...texts, from: timeOption, to: timeOption, all: { type: "boolean" }, limit: timeOption },
      { min: 0, max: 0 },
    );
    const limit = numberOf(parsed, "limit", limitDefault, limitMax);
    const query = queryOf(parsed);
    const client = await connectOperator(parsed, terminal);
    try {
      let left = limit;
      for (let before: number | null | undefined; before !== null && left > 0; ) {
        if (before !== undefined) query.set("before", String(before));
        query.set("limit", String(Math.min(left, pageRows)));
        const page = (await client.get(`/changes?${query}`)) as ChangesPage;
        left -= page.changes.length;
        terminal.out(
          parsed.flag("json") ? page.changes.map((row) => `${JSON.stringify(row)}\n`).join("") : textOf(page),
        );
        if (page.missing !== null) terminal.err(`${page.missing}\n`);
        before = page.next;
      }
      return 0;
    } finally {
      await client.close();
    }
  },
};

export const activity: CliCommand = {
  name: "activity",
  usage: "[--minutes 60] [--json]",
  summary: "decisions per minute, as the server that answers saw them",
  help: "Counts what the server holds in memory: in a cluster the records of all nodes. It says whether that is complete.",
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, minutes: timeOption }, { min: 0, max: 0 });
    const minutes = numberOf(parsed, "minutes", 60, 1_440);
    const client = await connectOperator(parsed, terminal);
    try {
      const answer = (await client.get(`/activity?minutes=${minutes}`)) as ActivityAnswer;
      terminal.out(parsed.flag("json") ? `${JSON.stringify(answer)}\n` : activityText(answer));
      return 0;
    } finally {
      await client.close();
    }
  },
};

const timeOption = { type: "string" } as const;

function numberOf(parsed: Parsed, name: string, absent: number, max: number): number {
  const text = parsed.text(name);
  if (text === undefined) return absent;
  const number = Number(text);
  if (!/^\d+$/.test(text) || number < 1 || number > max)
    throw new UsageError(`--${name}: ${JSON.stringify(text)} is not a number from 1 to ${max}`);
  return number;
}

function queryOf(parsed: Parsed): URLSearchParams {
  const query = new URLSearchParams();
  for (const name of ["subject", "actor", "type"]) {
    const value = parsed.text(name);
    if (value !== undefined) query.set(name, value);
  }
  for (const name of ["from", "to"]) {
    const value = parsed.text(name);
    if (value !== undefined) query.set(name, parseTime(value, `--${name}`));
  }
  if (parsed.flag("all")) query.set("fold", "false");
  return query;
}

function textOf({ changes: rows }: ChangesPage): string {
  return rows
    .map((row) => {
      if ("folded" in row) {
        const counts = Object.entries(row.folded).map(([kind, count]) => `${count} ${foldedWords[kind] ?? kind}`);
        return `${row.at}  ${row.first}-${row.position}  (${counts.join(", ")})\n`;
      }
      const state = row.receipt === null ? "" : `  [${row.receipt}]`;
      return `${maskControlCharacters(`${row.at}  ${row.position}  ${row.text}${state}${undoText(row)}`)}\n`;
    })
    .join("");
}

const foldedWords: Readonly<Record<string, string>> = {
  signIns: "sign-ins",
  uses: "reports of use",
  profiles: "profile updates",
  groupLists: "lists of groups",
  syncs: "events of directory syncs",
  streams: "changes of signal streams",
};

const undoText = ({ undo }: ChangeView): string => (undo === null ? "" : `  undo: ${undo.command}`);

function activityText({ from, permit, deny, signIn, unavailable, complete, unknown }: ActivityAnswer): string {
  const start = Date.parse(from);
  const rows = permit.flatMap((count, index) => {
    const counts = [count, deny[index] ?? 0, signIn[index] ?? 0, unavailable[index] ?? 0];
    const at = new Date(start + index * 60_000).toISOString().slice(0, 16);
    return counts.some((each) => each > 0) ? [[`${at}Z`, ...counts.map(String)]] : [];
  });
  const table = formatTable(["MINUTE", "PERMIT", "DENY", "SIGN-IN", "UNAVAILABLE"], rows);
  return complete ? table : `${table}not complete: ${unknown.join("; ")}\n`;
}
