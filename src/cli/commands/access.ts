/** `cardea access who|what`: who could reach a route, and what a person could reach, at a time. */
import type { AccessFact } from "../../audit/index.ts";
import type { AccessFailure, AccessProgress, WhatReport, WhoReport } from "../../console/index.ts";
import { formatLink } from "../../events/index.ts";
import { connectOperator, type OperatorClient } from "../operator/operator-client.ts";
import { operatorOptions, type Parsed, parse } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, type Terminal, UsageError } from "../terminal/command.ts";
import { formatTable, maskControlCharacters } from "../terminal/print.ts";
import { parseTime } from "../terminal/time-box.ts";

const reportMs = 630_000;
const options = {
  ...operatorOptions,
  at: { type: "string" },
  config: operatorOptions.config,
  hash: { type: "string" },
} as const;

const sharedHelp = `The log answers: its events up to --at (a time with its zone; default: now), and the configurations that nodes ran then. The policy engine
itself decides. What depends on the request (method, path, address, certificate, device, time) or on outside data is a condition.
--hash names one of several configurations. Exit 0: answered; 1: a configuration that nodes ran could not be asked; 2: usage error;
3: the server did not answer, or retention has dropped what the answer needs.`;

export const accessWho: CliCommand = {
  name: "access who",
  usage: "--route ROUTE [--at TIME] [--hash HASH] [--json]",
  summary: "who could reach a route at a time, with the events that made it so",
  help: `ROUTE is a route's id, name or \`from\`. Lists the people that the policy permits, or permits under conditions.
${sharedHelp}`,
  async run(args, terminal) {
    const parsed = parse(
      args,
      { ...options, route: { type: "string" }, limit: { type: "string" } },
      { min: 0, max: 0 },
    );
    const query = queryOf(parsed, { route: required(parsed, "route"), limit: parsed.text("limit") });
    const report = await fetchReport<WhoReport>(parsed, terminal, `/access/who?${query}`);
    terminal.out(parsed.flag("json") ? `${JSON.stringify(report)}\n` : whoText(report));
    return report.configurations.every(({ problem }) => problem === null) ? 0 : 1;
  },
};

export const accessWhat: CliCommand = {
  name: "access what",
  usage: "--user NAME [--at TIME] [--hash HASH] [--json]",
  summary: "which routes a person could reach at a time, with the events that made it so",
  help: `NAME is a user id, a subject or an e-mail.
${sharedHelp}`,
  async run(args, terminal) {
    const parsed = parse(args, { ...options, user: { type: "string" } }, { min: 0, max: 0 });
    const query = queryOf(parsed, { user: required(parsed, "user") });
    const report = await fetchReport<WhatReport>(parsed, terminal, `/access/what?${query}`);
    terminal.out(parsed.flag("json") ? `${JSON.stringify(report)}\n` : whatText(report));
    return report.configurations.every(({ problem }) => problem === null) ? 0 : 1;
  },
};

function required(parsed: Parsed, name: string): string {
  const value = parsed.text(name);
  if (value === undefined || value === "") throw new UsageError(`--${name} is missing`);
  return value;
}

function queryOf(parsed: Parsed, fields: Readonly<Record<string, string | undefined>>): URLSearchParams {
  const at = parsed.text("at");
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...fields, config: parsed.text("hash") }))
    if (value !== undefined) query.set(name, value);
  if (at !== undefined) query.set("at", parseTime(at, "--at"));
  return query;
}

async function fetchReport<Report extends WhoReport | WhatReport>(
  parsed: Parsed,
  terminal: Terminal,
  path: string,
): Promise<Report> {
  const client: OperatorClient = await connectOperator(parsed, terminal);
  let report: Report | undefined;
  let failure: string | undefined;
  let drawn = false;
  try {
    await client.stream(
      path,
      null,
      (data) => {
        const event = JSON.parse(data) as Report | AccessProgress | AccessFailure;
        if (event.type === "report") report = event;
        else if (event.type === "failed") failure = event.error;
        else if (terminal.interactive) {
          const share = event.head === 0 ? 0 : Math.floor((100 * event.position) / event.head);
          terminal.err(
            `\r\u001b[2Kreading the log: event ${event.position} of ${event.head} (${share} %), ${event.at}`,
          );
          drawn = true;
        }
      },
      AbortSignal.timeout(reportMs),
    );
  } finally {
    if (drawn) terminal.err("\r\u001b[2K");
    await client.close();
  }
  if (failure !== undefined) throw new CannotError(failure);
  if (report === undefined) throw new CannotError("the server ended the report early; repeat it");
  return report;
}

function whoText({ at, link, snapshot, configurations }: WhoReport): string {
  const lines = [headText(at, link, snapshot)];
  for (const { configHash, nodes, route, problem, anyone, people, denied, more } of configurations) {
    lines.push(
      `configuration ${configHash.slice(0, 12)} on ${nodes.join(", ")}: ${problem ?? `route ${route?.from ?? ""}`}\n`,
    );
    if (anyone !== null && anyone.result !== "deny")
      lines.push(`without a sign-in: ${anyone.result}${conditionsText(anyone.conditions)}\n`);
    if (people.length > 0) {
      const rows = people.map((person) => [
        person.email || person.userId,
        person.result,
        person.rule ?? "",
        [...person.conditions, ...(person.note === null ? [] : [person.note])].join("; "),
        person.facts.map(factText).join("; "),
      ]);
      lines.push(formatTable(["USER", "RESULT", "RULE", "CONDITIONS", "BECAUSE OF"], rows));
    }
    if (problem === null)
      lines.push(
        `${people.length}${more ? " or more" : ""} could, or could under conditions${denied === null ? "" : `; the policy denied ${denied} others`}\n`,
      );
  }
  return lines.join("");
}

function whatText({ at, link, snapshot, userId, email, note, configurations, facts }: WhatReport): string {
  const lines = [
    headText(at, link, snapshot),
    maskControlCharacters(`user ${userId}  ${email}${note === null ? "" : `  (${note})`}`),
    "\n",
  ];
  for (const { configHash, nodes, problem, routes } of configurations) {
    lines.push(
      `configuration ${configHash.slice(0, 12)} on ${nodes.join(", ")}${problem === null ? "" : `: ${problem}`}\n`,
    );
    const rows = routes.map((route) => [
      route.name || route.id,
      route.from,
      route.problem === null ? route.result : "unknown",
      route.rule ?? "",
      route.problem ?? route.conditions.join("; "),
    ]);
    if (rows.length > 0) lines.push(formatTable(["ROUTE", "FROM", "RESULT", "RULE", "CONDITIONS"], rows));
  }
  lines.push(
    formatTable(
      ["FACT", "BECAUSE OF"],
      facts.map((fact) => [fact.fact, factText(fact)]),
    ),
  );
  return lines.join("");
}

function headText(at: string, link: WhoReport["link"], snapshot: number | null): string {
  const from =
    snapshot === null ? "this server's copy" : snapshot === 0 ? "the whole log" : `a snapshot at ${snapshot}`;
  return `at ${at}, position ${link.position} (${formatLink(link)}), from ${from}\n`;
}

function factText({ fact, member, until, position, exact, event }: AccessFact): string {
  const state = member === undefined ? "" : member ? " member" : " not a member";
  const end = until === undefined ? "" : ` until ${until}`;
  if (event === null)
    return `${fact}${state}${end}: ${position === 0 ? "no event" : `event ${exact ? "" : "≤ "}${position}`}`;
  return `${fact}${state}${end}: event ${event.position}, ${new Date(event.at).toISOString()}, ${event.actor}, ${event.says}`;
}

function conditionsText(conditions: readonly string[]): string {
  return conditions.length === 0 ? "" : ` if ${conditions.join("; ")}`;
}
