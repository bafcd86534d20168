/** `cardea held list|show|release|drop|allow` */
import type { BlastRadius, HeldView } from "../../../console/index.ts";
import { printBlastRadius } from "../../operator/blast-radius.ts";
import { type OperatorClient, withOperator } from "../../operator/operator-client.ts";
import { runChange } from "../../operator/run-change.ts";
import { operatorOptions, type Parsed, parse, waitOptions } from "../../terminal/arguments.ts";
import { type CliCommand, type Terminal, UsageError } from "../../terminal/command.ts";
import { formatTable } from "../../terminal/print.ts";

type Shown = HeldView & Readonly<{ now: BlastRadius }>;

const reasonOption = { reason: { type: "string" } } as const;

export const heldList: CliCommand = {
  name: "held list",
  usage: "",
  summary: "list mass changes that wait for an operator",
  help: `A change that would take a group from many people has no effect until an operator releases it (mass_change in the configuration).
A dropped change stays listed until it expires: its source gets the same refusal.`,
  run: (args, terminal) =>
    withOperator(parse(args, operatorOptions, { min: 0, max: 0 }), terminal, async (client, parsed) => {
      const answer = (await client.get("/held")) as Readonly<{
        held: readonly HeldView[];
        allowed: readonly Readonly<{ source: string; until: string }>[];
      }>;
      if (parsed.flag("json")) {
        terminal.out(`${JSON.stringify(answer)}\n`);
        return 0;
      }
      const rows = answer.held.map((h) => [h.id, h.status, h.source, h.subject, String(h.people), h.expiresAt]);
      if (rows.length === 0) terminal.out("no held changes\n");
      else terminal.out(formatTable(["ID", "STATUS", "SOURCE", "SUBJECT", "PEOPLE", "EXPIRES"], rows));
      for (const { source, until } of answer.allowed)
        terminal.out(`mass changes of ${source} are allowed until ${until}\n`);
      return 0;
    }),
};

export const heldShow: CliCommand = {
  name: "held show",
  usage: "ID",
  summary: "show a held change: which people and routes it concerns",
  help: "Says what a release would do now: the people who would lose a group or their access, and who would lose which routes.",
  run: (args, terminal) =>
    withOperator(parse(args, operatorOptions, { min: 1, max: 1 }), terminal, async (client, parsed) => {
      const shown = await showHeld(client, parsed);
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(shown)}\n`);
      else printHeld(terminal, shown);
      return 0;
    }),
};

export const heldRelease: CliCommand = {
  name: "held release",
  usage: "ID --reason TEXT [--version N] [--allow 1h] [--wait [--region [NAME]] [--timeout 10s]]",
  summary: "make a held change",
  help: `Makes what is still true of it, and prints which people that concerns. --version refuses it if it has changed since you saw that version.
--allow lets its source make more mass changes for a while, at most 24h. --reason goes into the log in clear, forever: name no person.`,
  run: (args, terminal) =>
    withOperator(
      parse(
        args,
        { ...operatorOptions, ...waitOptions, ...reasonOption, version: { type: "string" }, allow: { type: "string" } },
        { min: 1, max: 1 },
      ),
      terminal,
      async (client, parsed) => {
        const reason = reasonIn(parsed);
        const allow = parsed.text("allow");
        const allowForMs = allow === undefined ? {} : { allowForMs: parseHours("--allow", allow) };
        const shown = await showHeld(client, parsed);
        if (!parsed.flag("json")) printHeld(terminal, shown);
        return runChange(client, parsed, terminal, {
          path: `/held/${encodeURIComponent(shown.id)}/release`,
          body: { version: versionIn(parsed, shown), reason, ...allowForMs },
          done: `held change ${shown.id} released`,
          unchanged: "nothing to change",
        });
      },
    ),
};

export const heldDrop: CliCommand = {
  name: "held drop",
  usage: "ID --reason TEXT [--version N]",
  summary: "refuse a held change",
  help: `The change is not made, and its source gets a refusal if it repeats it, until the held change expires. Correct it at its source.
--reason goes into the log in clear, forever: name no person.`,
  run: (args, terminal) =>
    withOperator(
      parse(
        args,
        { ...operatorOptions, ...waitOptions, ...reasonOption, version: { type: "string" } },
        { min: 1, max: 1 },
      ),
      terminal,
      async (client, parsed) => {
        const reason = reasonIn(parsed);
        const shown = await showHeld(client, parsed);
        return runChange(client, parsed, terminal, {
          path: `/held/${encodeURIComponent(shown.id)}/drop`,
          body: { version: versionIn(parsed, shown), reason },
          done: `held change ${shown.id} dropped`,
          unchanged: `nothing changed: ${shown.id} was dropped already`,
        });
      },
    ),
};

export const heldAllow: CliCommand = {
  name: "held allow",
  usage: "SOURCE --for 1h --reason TEXT",
  summary: "let a source make mass changes for a while",
  help: `SOURCE is as \`held list\` shows it, such as service:scim/okta. For a reorganisation that needs many requests; at most 24h. --for 0h ends
it. --reason goes into the log in clear, forever: name no person.`,
  run: (args, terminal) =>
    withOperator(
      parse(args, { ...operatorOptions, ...waitOptions, ...reasonOption, for: { type: "string" } }, { min: 1, max: 1 }),
      terminal,
      async (client, parsed) => {
        const source = parsed.positionals[0] ?? "";
        const forMs = parseHours("--for", parsed.text("for") ?? "");
        return runChange(client, parsed, terminal, {
          path: "/held/allow",
          body: { source, forMs, reason: reasonIn(parsed) },
          done: forMs === 0 ? `mass changes of ${source} are held again` : `mass changes of ${source} are allowed`,
          unchanged: "nothing to change",
        });
      },
    ),
};

async function showHeld(client: OperatorClient, parsed: Parsed): Promise<Shown> {
  return (await client.get(`/held/${encodeURIComponent(parsed.positionals[0] ?? "")}`)) as Shown;
}

function printHeld(terminal: Terminal, { id, version, status, source, subject, heldAt, expiresAt, now }: Shown): void {
  terminal.out(`${id} version ${version}, ${status} since ${heldAt}, expires ${expiresAt}\n`);
  terminal.out(`source ${source}, about ${subject}\n`);
  printBlastRadius(terminal, now);
}

function reasonIn(parsed: Parsed): string {
  const reason = parsed.text("reason");
  if (reason === undefined || reason.trim() === "") throw new UsageError("--reason is missing: say why");
  return reason;
}

function versionIn(parsed: Parsed, { version }: Shown): number {
  const text = parsed.text("version");
  if (text === undefined) return version;
  if (!/^\d{1,9}$/.test(text)) throw new UsageError("--version is a number, as `held show` prints it");
  return Number(text);
}

function parseHours(option: string, text: string): number {
  const match = /^(\d{1,4})(m|h)$/.exec(text);
  if (match === null) throw new UsageError(`${option} is a duration such as 30m or 2h`);
  return Number(match[1]) * (match[2] === "h" ? 3_600_000 : 60_000);
}
