/**
 * Bench: the cost of a stranger's message on NATS for a process, beside an honest batch of ten events.
 *
 * Per kind: the delivery guard, then the envelope opener while the budget of forgeries lasts, as in nats-fanout.ts. The
 * yardstick in the same run is a decoder that reads the message first, as msgpackr does by default. Prints processor
 * time and ratios; reading bytes from the socket costs the same either way and is left out.
 */
import { randomBytes } from "node:crypto";
import { Unpackr } from "msgpackr";
import { DeliveryGuard } from "../src/replication/fanout/delivery-guard.ts";
import { createDeliveryTag, deliveryTagHeader, deliveryTagKey } from "../src/replication/fanout/delivery-tag.ts";
import { openBatch } from "../src/replication/fanout/index.ts";
import { createBrokerOpener } from "../src/replication/wire/index.ts";
import { cluster, history, leaderOf, sealMessage, secret } from "../test/replication/support.ts";
import { hostileKinds, hostileMessage } from "../test/support/hostile-nats-client.ts";

const key = deliveryTagKey(secret);
const leader = leaderOf(1);
const log = history(2_000);
const lenient = new Unpackr({ useRecords: false });
const repetitions = 400;

type Sample = Readonly<{ data: Uint8Array; tag: string | undefined; overheadBytes: number }>;

/** @returns microseconds a message */
function costOf(samples: readonly Sample[]): number {
  const guard = new DeliveryGuard([key]);
  const open = createBrokerOpener({ cluster, secrets: [secret] });
  openBatch(honest[0]?.data ?? Buffer.of(), open); // the leader's certificate is known, as in a running process
  const from = process.cpuUsage();
  for (const { data, tag, overheadBytes } of samples) {
    const now = { monotonicMs: performance.now(), wallMs: Date.now() };
    if (guard.refuse({ data, overheadBytes, tag: () => tag }, now) !== undefined) continue;
    if ("refused" in openBatch(data, open)) guard.reportForgery(data.length, now);
  }
  return processorMicrosecondsSince(from) / samples.length;
}

function costOfDecodingFirst(samples: readonly Sample[]): number {
  const few = samples.slice(0, 20);
  const from = process.cpuUsage();
  for (const { data } of few) {
    try {
      lenient.unpack(data);
    } catch {
      // Most are malformed: detecting that is the cost.
    }
  }
  return processorMicrosecondsSince(from) / few.length;
}

/** Processor time rather than elapsed time: the machine may be busy. */
function processorMicrosecondsSince(from: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(from);
  return user + system;
}

const honest: readonly Sample[] = Array.from({ length: 190 }, (_, n) => {
  const data = Uint8Array.from(sealMessage(leader, "batch", log.batch(n * 10 + 1, n * 10 + 10)));
  return { data, tag: createDeliveryTag(data, key, Date.now()), overheadBytes: 100 };
});
const [overheard] = honest;
if (overheard === undefined) throw new TypeError("no honest batch");

costOf(honest); // warm-up
const base = costOf(honest);
console.log(`honest batch of 10 events: ${base.toFixed(1)} µs (tag, signature, decoding)\n`);
console.log("kind                      µs      × honest   decoded first, µs");
for (const kind of hostileKinds) {
  const samples = Array.from({ length: repetitions }, (): Sample => {
    const { data, headers } = hostileMessage(kind, { data: overheard.data, tag: overheard.tag ?? null });
    const overheadBytes = kind === "large-headers" ? 300_000 : 100;
    return { data, tag: headers?.get(deliveryTagHeader) || undefined, overheadBytes };
  });
  const cost = costOf(samples);
  const first = costOfDecodingFirst(samples);
  const cells = [cost.toFixed(1).padStart(8), (cost / base).toFixed(2).padStart(8), first.toFixed(0).padStart(14)];
  console.log(`${kind.padEnd(22)} ${cells.join("   ")}`);
}
const junk = randomBytes(8);
const floods: readonly Sample[] = Array.from({ length: 100_000 }, () => ({
  data: junk,
  tag: undefined,
  overheadBytes: 20,
}));
console.log(`flood of small messages: ${costOf(floods).toFixed(2)} µs each`);
