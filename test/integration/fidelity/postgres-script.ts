/**
 * Postgres script: a random story of writers and accidents, told to a bench, and what was answered and seen at each
 * step. Told to two benches with one seed it must read the same.
 */
import { streamOf } from "../../../chaos/sim/random.ts";
import type { CommandId } from "../../../src/events/index.ts";
import type { EventLog } from "../../../src/replication/index.ts";
import { aCommandId, anIncarnation, aSession, LogWriter, openEpoch } from "../../support/log-writer.ts";
import type { PostgresBench } from "./postgres-bench.ts";

type Teller = { readonly name: string; readonly log: EventLog; writer: LogWriter | undefined };
type Answer = Readonly<{ type: string }>;

/** @returns a line for each step */
export async function tell(bench: PostgresBench, seed: number, steps: number): Promise<readonly string[]> {
  const random = streamOf(seed, "script");
  const tellers: Teller[] = [];
  for (const name of ["A", "B"]) tellers.push({ name, log: await bench.open(), writer: undefined });
  const lines: string[] = [];
  const commands: CommandId[] = [];

  for (let step = 0; step < steps; step += 1) {
    const teller = random.pick(tellers);
    const { writer } = teller;
    const draw = random.next();
    let line: string;
    if (writer === undefined || draw < 0.1) line = await open(teller);
    else if (draw < 0.45) line = await append(writer, "clean");
    else if (draw < 0.6) line = tale(await writer.beat());
    else if (draw < 0.66) line = tale(await writer.beat({ incarnation: anIncarnation() }));
    else if (draw < 0.74) line = await append(writer, "repeated");
    else line = await hang(writer);
    // One who was refused may say so again, or begins anew.
    if (!/appended|beaten|opened/.test(line) && random.chance(0.6)) teller.writer = undefined;
    const heads: number[] = [];
    for (const { log } of tellers) heads.push((await log.observe()).head.position);
    const last = commands.at(-1);
    const found = last === undefined ? undefined : await random.pick(tellers).log.findCommand(last);
    lines.push(
      `${step} ${teller.name} ${line}; visible ${await bench.visibleHead("primary")}, served ${heads.join(" and ")}, last command ${found?.first ?? "unknown"}`,
    );
  }
  return lines;

  async function open(teller: Teller): Promise<string> {
    const incarnation = anIncarnation();
    const outcome = await openEpoch(teller.log, { incarnation });
    if (outcome.type === "opened") teller.writer = LogWriter.of(teller.log, incarnation, outcome);
    return tale(outcome);
  }

  async function append(writer: LogWriter, how: "clean" | "repeated"): Promise<string> {
    const repeated = how === "repeated" ? commands.at(-1) : undefined;
    const commandId = repeated ?? aCommandId();
    const events = Array.from({ length: random.between(1, 3) }, () => aSession());
    if (repeated === undefined) commands.push(commandId);
    return `append ${how} → ${tale(await writer.append([{ commandId, events }]))}`;
  }

  /** A commit that has to wait for its standby, and what becomes of that. */
  async function hang(writer: LogWriter): Promise<string> {
    const alive = (await writer.beat()).type === "beaten";
    await bench.standbyAway();
    const commandId = aCommandId();
    commands.push(commandId);
    const batch = writer.batch([{ commandId, events: [aSession()] }]);
    const answer: Promise<Answer> = writer.send(batch);
    let end = "refused";
    if (alive) {
      await bench.commitWaits();
      end = random.pick(["cancelled", "standby back", "let go", "crash", "emptied and set again"]);
      if (end === "cancelled") await bench.cancelWait();
      else if (end === "let go") await bench.setSynchronous(0);
      else if (end === "emptied and set again") {
        await bench.setSynchronous(0);
        await answer;
        await bench.setSynchronous(1);
      } else if (end === "crash") {
        await bench.kill("primary");
        await bench.start("primary");
      }
    }
    if (end !== "standby back") await answer;
    const seen = await bench.visibleHead("primary");
    const alone = end === "standby back" ? "not asked" : await tellers[0]?.log.durabilityOf(batch.last);
    await bench.setSynchronous(1);
    await bench.standbyBack();
    const told = tale(await answer);
    const log = tellers[1]?.log;
    if (log !== undefined && alive)
      await bench.until("the standby to hold it", async () => (await log.durabilityOf(batch.last)) === "synchronous");
    return `append, ${end} → ${told}, visible ${seen} and ${alone} while the standby was away`;
  }
}

function tale(outcome: Answer): string {
  const { type, epoch, head, first, count } = outcome as Record<string, unknown> & { type: string };
  const at = (head as { position?: number } | undefined)?.position;
  const facts = { epoch, head: at, first, count };
  return [
    type,
    ...Object.entries(facts).flatMap(([name, value]) => (value === undefined ? [] : [`${name} ${value}`])),
  ].join(" ");
}
