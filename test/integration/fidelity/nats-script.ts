/**
 * NATS script: a random sequence of stream publications and subscriptions, with the observations of each step.
 *
 * Two benches must give the same lines for the same seed.
 */
import { streamOf } from "../../../chaos/sim/random.ts";
import type { BenchConnection, NatsBench } from "./nats-bench.ts";

type Listener = { readonly connection: BenchConnection; heard: number };

const connectionsMax = 4;

/** @returns a line for each step */
export async function runScript(bench: NatsBench, seed: number, steps: number): Promise<readonly string[]> {
  const random = streamOf(seed, "script");
  const listeners: Listener[] = [{ connection: await bench.connect(), heard: 1 }];
  const lines: string[] = [];
  const ids: string[] = [];
  /** The end of the stream by its last answer. A relay that is behind uses an older one. */
  let [end, exists] = [0, false];

  for (let step = 0; step < steps; step += 1) {
    const { connection } = random.pick(listeners);
    const draw = random.next();
    let line: string;
    if (!exists || draw < 0.04) line = await turnStream();
    else if (draw < 0.1 && listeners.length < connectionsMax) line = await join();
    else if (draw < 0.3) line = core(connection, `core ${step}`);
    else line = await relay(connection, `batch ${step}`);
    const heard: string[] = [];
    for (const listener of listeners) {
      await connection.flush();
      await listener.connection.flush();
      const seen = listener.connection.seen();
      heard.push(seen.slice(listener.heard).join(", ") || "nothing");
      listener.heard = seen.length;
    }
    lines.push(`${step} ${line}; heard: ${heard.join(" | ")}`);
    if (step % 10 === 9 && exists) lines.push(`${step} the stream holds ${(await bench.streamed(end)).join(", ")}`);
  }
  return lines;

  async function turnStream(): Promise<string> {
    if (exists) await bench.deleteStream();
    else await bench.createStream();
    exists = !exists;
    if (exists) end = 0;
    return exists ? "the stream is made" : "the stream is gone";
  }

  async function join(): Promise<string> {
    listeners.push({ connection: await bench.connect(), heard: 1 });
    return `one more listener, ${listeners.length} now`;
  }

  function core(connection: BenchConnection, text: string): string {
    connection.publish(text);
    end += 1;
    return `publishes ${text}`;
  }

  async function relay(connection: BenchConnection, text: string): Promise<string> {
    const known = ids.length > 0 && random.chance(0.3);
    const id = random.chance(0.7) ? (known ? random.pick(ids) : `id-${text}`) : undefined;
    if (id !== undefined && !known) ids.push(id);
    const expected = random.pick(["none", "none", "right", "right", "older", "later"]);
    const of = { right: end, older: Math.max(0, end - 1), later: end + 2 }[expected];
    const condition = {
      ...(id === undefined ? {} : { id }),
      ...(of === undefined ? {} : { expectedLast: of }),
    };
    const answer = await connection.publishToStream(text, condition);
    const stored = /^stored (\d+)$/.exec(answer)?.[1];
    if (stored !== undefined) end = Number(stored);
    return `relays ${text} as ${id ?? "no id"}, after ${of ?? "any message"} → ${answer}`;
  }
}
