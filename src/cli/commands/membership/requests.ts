/** `cardea requests list|show|approve|deny|end` */
import { formatDuration } from "../../../config/index.ts";
import type { RequestDetail, RequestList, RequestView } from "../../../console/index.ts";
import { type OperatorClient, withOperator } from "../../operator/operator-client.ts";
import { runChange } from "../../operator/run-change.ts";
import { operatorOptions, type Parsed, parse, waitOptions } from "../../terminal/arguments.ts";
import { type CliCommand, type Terminal, UsageError } from "../../terminal/command.ts";
import { formatTable } from "../../terminal/print.ts";
import { parseEnd } from "../../terminal/time-box.ts";

const statuses = ["open", "over", "all", "pending", "approved", "denied"];
const noteOption = { note: { type: "string" } } as const;

export const requestsList: CliCommand = {
  name: "requests list",
  usage: "[--status open] [--query WORDS] [--after ID] [--limit 100]",
  summary: "list access requests: who asks for what, and what became of it",
  help: `--status: open (what waits or is in force), over, all, pending, approved or denied. The newest first; --after continues behind a page.
Those that ended long ago are in \`cardea changes\`.`,
  run: (args, terminal) =>
    withOperator(
      parse(
        args,
        {
          ...operatorOptions,
          status: { type: "string" },
          query: { type: "string" },
          after: { type: "string" },
          limit: { type: "string" },
        },
        { min: 0, max: 0 },
      ),
      terminal,
      async (client, parsed) => {
        const answer = (await client.get(`/access-requests?${listQuery(parsed)}`)) as RequestList;
        if (parsed.flag("json")) {
          terminal.out(`${JSON.stringify(answer)}\n`);
          return 0;
        }
        const rows = answer.requests.map((one) => [
          one.id,
          one.status,
          nameOf(one),
          one.route.name === "" ? one.route.id : one.route.name,
          formatDuration(one.durationMs),
          one.requestedAt,
          one.until ?? "",
        ]);
        if (rows.length === 0) terminal.out("no access requests\n");
        else terminal.out(formatTable(["ID", "STATUS", "PERSON", "ROUTE", "ASKS FOR", "REQUESTED", "UNTIL"], rows));
        if (answer.next !== null) terminal.out(`more: --after ${answer.next}\n`);
        return 0;
      },
    ),
};

export const requestsShow: CliCommand = {
  name: "requests show",
  usage: "ID",
  summary: "show an access request, with what its group opens",
  help: "An approval adds the person to the group until the end, so it opens every route whose policy asks for that group.",
  run: (args, terminal) =>
    withOperator(parse(args, operatorOptions, { min: 1, max: 1 }), terminal, async (client, parsed) => {
      const shown = await show(client, parsed);
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(shown)}\n`);
      else print(terminal, shown);
      return 0;
    }),
};

export const requestsApprove: CliCommand = {
  name: "requests approve",
  usage: "ID [--until TIME|DURATION] [--note TEXT] [--wait [--region [NAME]] [--timeout 10s]]",
  summary: "approve an access request, until an end",
  help: `--until: 30m, 8h, 3d, or a time with its zone; without it, what the person asks for. Every node enforces the end by its own clock, on open
connections too. A newer approval for the same group replaces an earlier one. --note is for the person who asked.`,
  run: (args, terminal) =>
    withOperator(
      parse(args, { ...operatorOptions, ...waitOptions, ...noteOption, until: { type: "string" } }, { min: 1, max: 1 }),
      terminal,
      async (client, parsed) => {
        const until = parsed.text("until");
        const parsedEnd = until === undefined ? {} : parseEnd(until);
        const end = "forMs" in parsedEnd ? { durationMs: parsedEnd.forMs } : parsedEnd;
        const shown = await show(client, parsed);
        if (!parsed.flag("json")) print(terminal, shown);
        return runChange(client, parsed, terminal, {
          path: `/access-requests/${shown.id}/approve`,
          body: { ...end, ...noteOf(parsed) },
          done: `${nameOf(shown)} is in ${shown.group} until ${untilText(parsed, shown)}`,
          unchanged: "nothing to change",
        });
      },
    ),
};

export const requestsDeny: CliCommand = {
  name: "requests deny",
  usage: "ID [--note TEXT]",
  summary: "deny an access request",
  help: "--note is for the person who asked; only they, approvers and operators see it.",
  run: (args, terminal) =>
    withOperator(
      parse(args, { ...operatorOptions, ...waitOptions, ...noteOption }, { min: 1, max: 1 }),
      terminal,
      (client, parsed) =>
        runChange(client, parsed, terminal, {
          path: `/access-requests/${idIn(parsed)}/deny`,
          body: noteOf(parsed),
          done: `access request ${idIn(parsed)} denied`,
          unchanged: "nothing to change",
        }),
    ),
};

export const requestsEnd: CliCommand = {
  name: "requests end",
  usage: "ID [--wait [--region [NAME]] [--timeout 10s]]",
  summary: "end access that an approval gave, before its time",
  help: "Takes effect on every node at once, on open connections too. Memberships of other sources stay.",
  run: (args, terminal) =>
    withOperator(parse(args, { ...operatorOptions, ...waitOptions }, { min: 1, max: 1 }), terminal, (client, parsed) =>
      runChange(client, parsed, terminal, {
        path: `/access-requests/${idIn(parsed)}/end`,
        body: {},
        done: `the access of request ${idIn(parsed)} has ended`,
        unchanged: "nothing changed: it had ended before",
      }),
    ),
};

function listQuery(parsed: Parsed): URLSearchParams {
  const status = parsed.text("status") ?? "open";
  if (!statuses.includes(status)) throw new UsageError(`--status is one of ${statuses.join(", ")}`);
  const query = new URLSearchParams({ status });
  for (const [option, name] of [
    ["query", "q"],
    ["after", "after"],
    ["limit", "limit"],
  ] as const) {
    const value = parsed.text(option);
    if (value !== undefined) query.set(name, value);
  }
  return query;
}

const idIn = (parsed: Parsed): string => encodeURIComponent(parsed.positionals[0] ?? "");

async function show(client: OperatorClient, parsed: Parsed): Promise<RequestDetail> {
  return (await client.get(`/access-requests/${idIn(parsed)}`)) as RequestDetail;
}

function noteOf(parsed: Parsed): Readonly<{ note?: string }> {
  const note = parsed.text("note");
  return note === undefined ? {} : { note };
}

function untilText(parsed: Parsed, { durationMs }: RequestDetail): string {
  return parsed.text("until") ?? `${formatDuration(durationMs)} from now`;
}

const nameOf = ({ person }: Pick<RequestView, "person">): string => person.email || person.name || person.id;

function print(terminal: Terminal, request: RequestDetail): void {
  const { route, group, status, durationMs, requestedAt, expiresAt, reason, until, note, decidedBy } = request;
  terminal.out(`${request.id}: ${status}\n`);
  terminal.out(
    `${nameOf(request)} asks for ${route.name || route.id} for ${formatDuration(durationMs)}, at ${requestedAt}\n`,
  );
  if (reason !== null) terminal.out(`reason: ${reason}\n`);
  if (status === "pending") terminal.out(`without a decision it lapses at ${expiresAt}\n`);
  if (decidedBy !== null)
    terminal.out(`decided by ${decidedBy.name} at ${request.decidedAt}${until === null ? "" : `, until ${until}`}\n`);
  if (note !== null) terminal.out(`note: ${note}\n`);
  const opens = request.opens.map((one) => one.name || one.from).join(", ");
  const more = request.openCount - request.opens.length;
  terminal.out(`${group} opens ${opens === "" ? "no route here" : opens}${more > 0 ? ` and ${more} more` : ""}\n`);
}
