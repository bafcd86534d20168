/** `cardea operator whoami`: which role the credential of this command has. */
import type { Me } from "../../../console/index.ts";
import { withOperator } from "../../operator/operator-client.ts";
import { operatorOptions, parse } from "../../terminal/arguments.ts";
import type { CliCommand } from "../../terminal/command.ts";

export const operatorWhoami: CliCommand = {
  name: "operator whoami",
  usage: "",
  summary: "show the role of your credential, its limit, and when it ends",
  help: "Asks the server, which reads the roles from its configuration. See docs/operator-roles.md for what each role may do.",
  run: (args, terminal) =>
    withOperator(parse(args, operatorOptions, { min: 0, max: 0 }), terminal, async (client, parsed) => {
      const me = (await client.get("/me")) as Me;
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(me)}\n`);
      else terminal.out(textOf(me));
      return 0;
    }),
};

function textOf({ role, routeGroups, name, email, viaToken, until, cluster, version, capabilities }: Me): string {
  const limit = routeGroups === null ? "all routes" : `routes of ${routeGroups.join(", ")}`;
  const who = viaToken ? `token ${name}` : `${name} ${email}`.trim();
  const rows = [
    ["who", who],
    ["role", `${role}, ${limit}`],
    ["until", until],
    ["cluster", `${cluster}, cardea ${version}`],
    ["has", capabilities.join(", ") || "-"],
  ];
  return rows.map(([label = "", value]) => `${label.padEnd(8)}${value}\n`).join("");
}
