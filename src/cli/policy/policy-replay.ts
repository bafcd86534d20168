/** `cardea policy replay`: replays recorded decisions under another configuration: who would gain or lose access. */
import { readFileSync } from "node:fs";
import type { DecisionRecord } from "../../auth/index.ts";
import { type Config, formatProblem } from "../../config/index.ts";
import { recordSource } from "../operator/audit-records.ts";
import { operatorOptions, type Parsed, parse } from "../terminal/arguments.ts";
import { type CliCommand, UsageError } from "../terminal/command.ts";
import { maskControlCharacters } from "../terminal/print.ts";
import { fillRecords, openPolicy, routeLabel } from "./policy-document.ts";
import { type KnownPerson, type ReplayOutcome, replayDecision } from "./replay-decision.ts";
import { replayAtServer } from "./server-replay.ts";

const defaultSinceMs = 24 * 3_600_000;

export const policyReplay: CliCommand = {
  name: "policy replay",
  usage:
    "(-c NEW.yaml [--shadow] [--kept files|nats] [--input FILE|-] [--people FILE] | (--policy FILE --route R | --configuration HASH) [--facts then|now]) [--since 24h] [--json]",
  summary: "replay recorded decisions under a new configuration: who would gain or lose access",
  help: `-c NEW.yaml alone: evaluates NEW.yaml for each decision record, at the record's own time, without a server. The records come from where
NEW.yaml stores them: the audit stream in NATS, which has the records of all nodes, or the first audit file with its rotated files (also
.gz). --kept chooses; --input reads one file. --shadow uses the shadow_policy of routes that have one.
--people FILE is the output of \`cardea users list --json\`. It supplies each person's current e-mail, domain, user and groups. A record holds no
claims, devices, certificates, headers or query: if the answer depends on one of these, the decision counts as not replayed, with the
reason. --json prints {replayed, differences: [{route, person, change, count, example}], notReplayed}.
--policy FILE --route R, or --configuration HASH: the server replays its records, with the people, groups and claims of each decision's time, or
with --facts now as they are. --base HASH is the configuration of the route, -c or --url the server, --until a time, --limit the most
decisions. --markdown prints a summary for a pull request, with a digest that is the same for the same question and answer.
--since takes 30m, 24h or 7d (default 24h), and with a server also a time, such as 2026-11-23T00:00:00Z.
Exit 0: no answer differs; 1: an answer differs; 2: usage error, an invalid policy or NEW.yaml, or unreadable records.`,
  async run(args, terminal) {
    const options = {
      ...operatorOptions,
      since: { type: "string" },
      shadow: { type: "boolean" },
      kept: { type: "string" },
      input: { type: "string" },
      people: { type: "string" },
      policy: { type: "string" },
      configuration: { type: "string" },
      route: { type: "string" },
      base: { type: "string" },
      facts: { type: "string" },
      until: { type: "string" },
      limit: { type: "string" },
      markdown: { type: "boolean" },
    } as const;
    const parsed = parse(args, options, { min: 0, max: 0 });
    const isAtServer = parsed.text("policy") !== undefined || parsed.text("configuration") !== undefined;
    checkOptions(parsed, isAtServer ? localOnly : serverOnly, isAtServer);
    const since = parsed.text("since");
    if (isAtServer) {
      const isTime = since?.includes("T") === true && !Number.isNaN(Date.parse(since));
      const from = isTime ? Date.parse(since) : Date.now() - parseSince(since);
      return replayAtServer(parsed, terminal, new Date(from).toISOString());
    }
    if (parsed.text("config") === undefined) throw new UsageError("name the new configuration with -c");
    const from = Date.now() - parseSince(since);
    const people = readPeople(parsed.text("people"));
    const opened = openPolicy(parsed, terminal);
    if (!opened.ok) {
      for (const problem of opened.problems) terminal.err(`${formatProblem(problem)}\n`);
      return 2;
    }
    const { target } = opened;
    const { config } = target;
    if (config === null) throw new UsageError("name the new configuration with -c");
    const source = recordSource(config, { input: parsed.text("input"), from, kept: parseKept(parsed.text("kept")) });
    await fillRecords(target, terminal);
    const report = new ReplayReport();
    for await (const read of source.read()) {
      const record = "problem" in read ? null : parseRecord(read.value);
      if (record === "act") continue;
      if ("refused" in read) report.notReplayed(`a message of the audit stream was refused: ${read.refused}`);
      else if (record === null) report.notReplayed("the line is not a decision record");
      else if (record === "gap") report.notReplayed("records were lost before they were written (a gap in the file)");
      else if (record.at >= from && record.occasion !== "closed")
        report.add(record, replayDecision(record, { config, target, people }));
    }
    terminal.out(parsed.flag("json") ? `${JSON.stringify(report.toJson())}\n` : report.toText(config));
    return report.differs ? 1 : 0;
  },
};

const localOnly = ["shadow", "kept", "input", "people"] as const;
const serverOnly = ["url", "data-dir", "route", "base", "facts", "until", "limit", "markdown"] as const;

/** @throws UsageError for an option of the other way */
function checkOptions(parsed: Parsed, others: readonly string[], isAtServer: boolean): void {
  const other = others.find((name) => parsed.text(name) !== undefined || parsed.flag(name));
  if (other === undefined) return;
  const why = isAtServer ? "is for a replay without a server" : "needs --policy or --configuration";
  throw new UsageError(`--${other} ${why}`);
}

type Difference = {
  readonly route: string | null;
  readonly person: string | null;
  readonly change: "gains" | "loses";
  count: number;
  readonly example: string;
};

class ReplayReport {
  #replayed = 0;
  readonly #differences = new Map<string, Difference>();
  readonly #notReplayed = new Map<string, number>();

  get differs(): boolean {
    return this.#differences.size > 0;
  }

  notReplayed(why: string): void {
    this.#notReplayed.set(why, (this.#notReplayed.get(why) ?? 0) + 1);
  }

  add(record: DecisionRecord, replayed: ReplayOutcome): void {
    if (replayed.type === "not") {
      this.notReplayed(replayed.why);
      return;
    }
    this.#replayed++;
    const { before, after, routeId: route, reasons } = replayed;
    if (before === after) return;
    const person = record.userId;
    const change = after ? "gains" : "loses";
    const key = JSON.stringify([route, person, change]);
    const known = this.#differences.get(key);
    if (known !== undefined) {
      known.count++;
      return;
    }
    const why = reasons.length === 0 ? "" : ` [${reasons.join(", ")}]`;
    const at = new Date(record.at).toISOString();
    const example = `${record.method} ${record.host}${record.path} at ${at}, request ${record.requestId}${why}`;
    this.#differences.set(key, { route, person, change, count: 1, example });
  }

  toJson(): object {
    const notReplayed = [...this.#notReplayed].map(([why, count]) => ({ why, count }));
    return { replayed: this.#replayed, differences: this.#sorted(), notReplayed };
  }

  toText(config: Config): string {
    const lines: string[] = [];
    let before: string | null | undefined;
    for (const { route, person, change, count, example } of this.#sorted()) {
      if (route !== before) lines.push(`route ${route === null ? "(none)" : routeLabel(config, route)}`);
      before = route;
      lines.push(`  ${change}  ${person ?? "not signed in"}  ${count} ×, first ${example}`);
    }
    lines.push(`${this.#replayed} decisions replayed, ${this.#differences.size} differences`);
    const missing = [...this.#notReplayed.values()].reduce((sum, count) => sum + count, 0);
    if (missing > 0) lines.push(`${missing} could not be replayed:`);
    for (const [why, count] of this.#notReplayed) lines.push(`  ${count} ×  ${why}`);
    return lines.map((line) => `${maskControlCharacters(line)}\n`).join("");
  }

  #sorted(): readonly Difference[] {
    const keyOf = ({ route, change, person }: Difference): string => JSON.stringify([route, change, person]);
    return [...this.#differences.values()].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  }
}

export function parseKept(text: string | undefined): "files" | "nats" | undefined {
  if (text === undefined || text === "files" || text === "nats") return text;
  throw new UsageError(`--kept ${text}: write files or nats`);
}

export function parseSince(text: string | undefined): number {
  if (text === undefined) return defaultSinceMs;
  const [, count, unit = ""] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const unitMs = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }[unit];
  if (unitMs === undefined) throw new UsageError(`--since ${text}: write a time such as 30m, 24h or 7d`);
  return Number(count) * unitMs;
}

/** Null: not a decision record. */
function parseRecord(value: unknown): DecisionRecord | "gap" | "act" | null {
  if (typeof value !== "object" || value === null) return null;
  const record = value as Readonly<Record<string, unknown>>;
  if (record["kind"] === "gap") return "gap";
  if (record["kind"] === "operator" || record["kind"] === "authentication") return "act";
  const texts = ["requestId", "method", "host", "path", "ip", "result"].every((key) => typeof record[key] === "string");
  const ids = ["routeId", "sessionId", "userId"].every(
    (key) => record[key] === null || typeof record[key] === "string",
  );
  const at = record["at"];
  const isMoment = typeof at === "number" && Math.abs(at) <= 8.64e15;
  return record["kind"] === "decision" && texts && ids && isMoment ? (value as DecisionRecord) : null;
}

/** @throws UsageError */
function readPeople(path: string | undefined): ReadonlyMap<string, KnownPerson> {
  if (path === undefined) return new Map();
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new UsageError(`--people ${path} cannot be read as JSON`, { cause });
  }
  if (!Array.isArray(value) || !value.every(isPerson))
    throw new UsageError(`--people ${path} is not what \`cardea users list --json\` prints`);
  return new Map(value.map((person) => [person.id, person]));
}

function isPerson(value: unknown): value is KnownPerson & Readonly<{ id: string }> {
  if (typeof value !== "object" || value === null) return false;
  const person = value as Readonly<Record<string, unknown>>;
  const { groups } = person;
  return (
    ["id", "subject", "email", "name"].every((key) => typeof person[key] === "string") &&
    Array.isArray(groups) &&
    groups.every((group) => typeof group === "string")
  );
}
