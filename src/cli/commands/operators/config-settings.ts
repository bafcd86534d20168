/** `cardea config settings`: the configuration in force on the server, and where each value comes from. */
import type { SettingsAnswer } from "../../../console/index.ts";
import { withOperator } from "../../operator/operator-client.ts";
import { operatorOptions, parse } from "../../terminal/arguments.ts";
import type { CliCommand } from "../../terminal/command.ts";
import { formatTable, maskControlCharacters } from "../../terminal/print.ts";

const charsMax = 80;

export const configSettings: CliCommand = {
  name: "config settings",
  usage: "[--all]",
  summary: "show the settings of the server that answers, and where each comes from",
  help: `Without --all only what differs from the defaults. SOURCE: file, env (with its variable), command line, or default. Secrets show only whether
they are set. waiting: the file has another value, which takes effect with a restart.`,
  run: (args, terminal) =>
    withOperator(
      parse(args, { ...operatorOptions, all: { type: "boolean" } }, { min: 0, max: 0 }),
      terminal,
      async (client, parsed) => {
        const answer = (await client.get("/settings")) as SettingsAnswer;
        if (parsed.flag("json")) terminal.out(`${JSON.stringify(answer)}\n`);
        else terminal.out(textOf(answer, { isAll: parsed.flag("all") }));
        return 0;
      },
    ),
};

function textOf({ sections }: SettingsAnswer, { isAll }: Readonly<{ isAll: boolean }>): string {
  const rows = sections.flatMap(({ settings }) =>
    settings
      .filter(({ source, waiting }) => isAll || waiting || source !== "default")
      .map(({ key, value, secret, set, source, variable, waiting }) => [
        key,
        secret ? (set ? "(secret, set)" : "(secret, not set)") : maskControlCharacters(shortOf(value)),
        variable === null ? source : `env ${variable}`,
        waiting ? "waiting" : "",
      ]),
  );
  return rows.length === 0 ? "every setting has its default\n" : formatTable(["KEY", "VALUE", "SOURCE", ""], rows);
}

function shortOf(value: unknown): string {
  const text = typeof value === "string" ? value : value === null ? "" : JSON.stringify(value);
  return text.length > charsMax ? `${text.slice(0, charsMax - 1)}…` : text;
}
