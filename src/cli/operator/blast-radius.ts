/** Blast radius: prints which people and routes a change of groups concerns. */
import type { BlastRadius, HeldView, PreviewAnswer } from "../../console/index.ts";
import type { Terminal } from "../terminal/command.ts";
import type { OperatorClient } from "./operator-client.ts";

const shownMax = 20;

export function printBlastRadius(
  terminal: Terminal,
  { people, named, groups, routes, refusal }: BlastRadius,
  print: (text: string) => void = (text) => terminal.out(text),
): void {
  if (refusal !== null) print(`it would be refused now: ${refusal}\n`);
  print(
    `${people} ${people === 1 ? "person loses" : "people lose"} a group${groups.length === 0 ? "" : `: ${groups.join(", ")}`}\n`,
  );
  for (const { userId, email } of named.slice(0, shownMax)) print(`  ${email || userId}\n`);
  if (people > shownMax) print(`  and ${people - Math.min(shownMax, named.length)} more\n`);
  print(
    routes.length === 0
      ? "no policy of this server's routes names these groups\n"
      : `routes whose policies name them: ${routes.join(", ")}\n`,
  );
}

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
