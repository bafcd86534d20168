/**
 * Postgres script: a random sequence of writes and faults, with the answers and observations of each step.
 *
 * Two benches must give the same lines for the same seed.
 */
import { streamOf } from "../../../chaos/sim/random.ts";
import type { CommandId } from "../../../src/events/index.ts";
import type { EventLog } from "../../../src/replication/log/index.ts";
import { aCommandId, anIncarnation, aSession, LogWriter, openEpoch } from "../../support/log-writer.ts";
import type { PostgresBench } from "./postgres-bench.ts";

type Client = { readonly name: string; readonly log: EventLog; writer: LogWriter | undefined };
type Answer = Readonly<{ type: string }>;

/** @returns a line for each step */
export async function runScript(bench: PostgresBench, seed: number, steps: number): Promise<readonly string[]> {
  const random = streamOf(seed, "script");
  const clients: Client[] = [];
  for (const name of ["A", "B"]) clients.push({ name, log: await bench.open(), writer: undefined });
  const lines: string[] = [];
  const commands: CommandId[] = [];

  for (let step = 0; step < steps; step += 1) {
    const client = random.pick(clients);
    const { writer } = client;
    const draw = random.next();
    let line: string;
    if (writer === undefined || draw < 0.1) line = await open(client);
    else if (draw < 0.45) line = await append(writer, "clean");
    else if (draw < 0.6) line = describeOutcome(await writer.beat());
    else if (draw < 0.66) line = describeOutcome(await writer.beat({ incarnation: anIncarnation() }));
    else if (draw < 0.74) line = await append(writer, "repeated");
    else line = await hang(writer);
    // A refused writer may try again, or starts with a new epoch.
    if (!/appended|beaten|opened/.test(line) && random.chance(0.6)) client.writer = undefined;
    const heads: number[] = [];
    for (const { log } of clients) heads.push((await log.observe()).head.position);
    const last = commands.at(-1);
    const found = last === undefined ? undefined : await random.pick(clients).log.findCommand(last);
    lines.push(
      `${step} ${client.name} ${line}; visible ${await bench.visibleHead("primary")}, served ${heads.join(" and ")}, last command ${found?.first ?? "unknown"}`,
    );
  }
  return lines;

  async function open(client: Client): Promise<string> {
    const incarnation = anIncarnation();
    const outcome = await openEpoch(client.log, { incarnation });
    if (outcome.type === "opened") client.writer = LogWriter.of(client.log, incarnation, outcome);
    return describeOutcome(outcome);
  }

  async function append(writer: LogWriter, how: "clean" | "repeated"): Promise<string> {
    const repeated = how === "repeated" ? commands.at(-1) : undefined;
    const commandId = repeated ?? aCommandId();
    const events = Array.from({ length: random.between(1, 3) }, () => aSession());
    if (repeated === undefined) commands.push(commandId);
    return `append ${how} → ${describeOutcome(await writer.append([{ commandId, events }]))}`;
  }

  /** A commit that has to wait for the standby, and how that wait ends. */
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
      end = random.pick(["cancelled", "standby back", "released", "crash", "emptied and set again"]);
      if (end === "cancelled") await bench.cancelWait();
      else if (end === "released") await bench.setSynchronous(0);
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
    const durability = end === "standby back" ? "not checked" : await clients[0]?.log.durabilityOf(batch.last);
    await bench.setSynchronous(1);
    await bench.standbyBack();
    const result = describeOutcome(await answer);
    const log = clients[1]?.log;
    if (log !== undefined && alive)
      await bench.until("the standby to have it", async () => (await log.durabilityOf(batch.last)) === "synchronous");
    return `append, ${end} → ${result}, visible ${seen} and ${durability} while the standby was away`;
  }
}

function describeOutcome(outcome: Answer): string {
  const { type, epoch, head, first, count } = outcome as Record<string, unknown> & { type: string };
  const at = (head as { position?: number } | undefined)?.position;
  const facts = { epoch, head: at, first, count };
  return [
    type,
    ...Object.entries(facts).flatMap(([name, value]) => (value === undefined ? [] : [`${name} ${value}`])),
  ].join(" ");
}
