/** Preview: prints the people, sessions and routes that a change would concern, for `--dry-run`. */
import type { Preview } from "../../console/index.ts";
import type { Parsed } from "../terminal/arguments.ts";
import type { ExitCode, Terminal } from "../terminal/command.ts";
import { maskControlCharacters } from "../terminal/print.ts";
import type { OperatorClient } from "./operator-client.ts";

const shownMax = 20;

export async function printPreviewOf(
  client: OperatorClient,
  parsed: Parsed,
  terminal: Terminal,
  command: object,
): Promise<ExitCode> {
  const preview = (await client.post("/preview", { command })) as Preview;
  terminal.out(parsed.flag("json") ? `${JSON.stringify(preview)}\n` : previewText(preview));
  return 0;
}

function previewText(preview: Preview): string {
  const { people, named, sessions, liveSessions, more, routes, self, final, refusal, changes, may, role } = preview;
  const lines = [
    ...(refusal === null ? [] : [`it would be refused now: ${refusal}`]),
    ...(refusal === null && !changes ? ["nothing would change"] : []),
    ...(may ? [] : [`it needs the role ${role}`]),
    `${count(people, "person", "people")}, ${count(liveSessions, "live session")}; ${count(sessions, "session")} would end${more ? ", and more that match" : ""}`,
    ...named.slice(0, shownMax).map(({ userId, email, name }) => `  ${email || name || userId}`),
    ...(people > shownMax ? [`  and ${people - Math.min(shownMax, named.length)} more`] : []),
    ...routesText(routes.lost, "lose it"),
    ...routesText(routes.cut, "lose it until they sign in again"),
    ...routesText(routes.gained, "gain it"),
    ...(self === "none" ? [] : [self === "session" ? "it signs you out" : "it ends your own access"]),
    final ? "nothing undoes it" : "it can be undone",
  ];
  return lines.map((line) => `${maskControlCharacters(line)}\n`).join("");
}

function routesText({ routes, moreRoutes, unchecked }: Preview["routes"]["lost"], what: string): readonly string[] {
  const others = moreRoutes + Math.max(0, routes.length - shownMax);
  return [
    ...routes.slice(0, shownMax).map(({ route, people, conditional }) => {
      const some = conditional === 0 ? "" : `, and ${conditional} in some requests`;
      return `${route}: ${count(people, "person", "people")} ${what}${some}`;
    }),
    ...(others > 0 ? [`and ${others} more routes`] : []),
    ...(unchecked > 0
      ? [`${count(unchecked, "person", "people")} not checked, because it would have taken too long`]
      : []),
  ];
}

const count = (number: number, one: string, many = `${one}s`): string => `${number} ${number === 1 ? one : many}`;
