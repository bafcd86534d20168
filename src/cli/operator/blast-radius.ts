/** Blast radius: prints which people and routes a change of groups concerns. */
import type { BlastRadius, HeldView, PreviewAnswer } from "../../console/index.ts";
import type { Terminal } from "../terminal/command.ts";
import type { OperatorClient } from "./operator-client.ts";

const shownMax = 20;

export function printBlastRadius(
  terminal: Terminal,
  { people, named, groups, routes, lost, refusal }: BlastRadius,
  print: (text: string) => void = (text) => terminal.out(text),
): void {
  if (refusal !== null) print(`it would be refused now: ${refusal}\n`);
  const what = groups.length === 0 ? "their access" : `a group: ${groups.join(", ")}`;
  if (people > 0 || groups.length > 0) print(`${people} ${people === 1 ? "person loses" : "people lose"} ${what}\n`);
  for (const { userId, email } of named.slice(0, shownMax)) print(`  ${email || userId}\n`);
  if (people > shownMax) print(`  and ${people - Math.min(shownMax, named.length)} more\n`);
  if (groups.length > 0)
    print(
      routes.length === 0
        ? "no policy of this server's routes names these groups\n"
        : `routes whose policies name them: ${routes.slice(0, shownMax).join(", ")}${andMore(routes.length - shownMax)}\n`,
    );
  printLosses(lost, print);
}

function printLosses(
  { routes, moreRoutes, people, morePeople, unchecked }: BlastRadius["lost"],
  print: (text: string) => void,
): void {
  for (const { route, people: count, conditional } of routes.slice(0, shownMax)) {
    const some = conditional === 0 ? "" : `, and ${conditional} more keep it only under conditions of the request`;
    print(`${route}: ${count} ${count === 1 ? "person loses" : "people lose"} it${some}\n`);
  }
  const otherRoutes = moreRoutes + Math.max(0, routes.length - shownMax);
  if (otherRoutes > 0) print(`and ${otherRoutes} more routes\n`);
  for (const { userId, email, routes: own, more } of people.slice(0, shownMax))
    print(`  ${email || userId} loses ${own.join(", ")}${andMore(more)}\n`);
  const others = morePeople + Math.max(0, people.length - shownMax);
  if (others > 0) print(`  and ${others} more people\n`);
  if (unchecked > 0) print(`${unchecked} people were not checked, because it would have taken too long\n`);
}

const andMore = (count: number): string => (count > 0 ? ` and ${count} more` : "");

export function printPreview(terminal: Terminal, preview: PreviewAnswer): void {
  printBlastRadius(terminal, preview);
  const { held, counted, limit } = preview;
  terminal.out(held ? `it would be held: ${counted} people are more than ${limit}\n` : "it would not be held\n");
}

/** After a refusal `held`: what waits, on standard error. */
export async function printHeldChange(client: OperatorClient, terminal: Terminal, heldId: string): Promise<void> {
  const shown = (await client.get(`/held/${encodeURIComponent(heldId)}`)) as HeldView & Readonly<{ now: BlastRadius }>;
  printBlastRadius(terminal, shown.now, (text) => terminal.err(text));
  terminal.err(`release it: cardea held release ${heldId} --reason TEXT\n`);
}
