/**
 * A process that records decisions into a file until its test kills it: `node killed-recorder.ts FOLDER BOOT RECORDS`.
 */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createFileSink, createRecorder, openRecordNumbers, recordNumbersFile } from "../../src/audit/index.ts";
import type { BootId, NodeId, UnixMs } from "../../src/events/index.ts";
import { decision } from "./support.ts";

const [folder = "", boot = "", records = "0"] = process.argv.slice(2);
const who = { node: "node-1" as NodeId, boot: boot as BootId };
const sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
  delay(ms, undefined, signal === undefined ? {} : { signal });
const fail = (error: unknown): void => void process.stderr.write(`${String(error)}\n`);
const file = createFileSink(join(folder, "audit.jsonl"));
/** A sink that accepts the first 100 records and then stalls, as on a full disk. */
let lastWritten = 0;
const stalling = {
  ...file,
  write: async (batch: Parameters<typeof file.write>[0]): Promise<void> => {
    if (lastWritten >= 100) await new Promise(() => {});
    lastWritten = batch.last;
    await file.write(batch);
  },
};
const numbers = await openRecordNumbers({
  boot: who.boot,
  store: recordNumbersFile(join(folder, "records-node-1"), fail),
  written: () => recorder.written(),
  sleep,
  onFailure: fail,
});
const recorder = createRecorder({
  ...who,
  numbers,
  sinks: [stalling],
  queueMax: 10_000,
  gatherMs: 5,
  now: () => Date.now() as UnixMs,
  sleep,
  onFailure: (_sink, error) => fail(error),
});
for (let i = 0; i < 100; i++) recorder.record(decision(`/${i}`, who));
while (recorder.written() < 100) await delay(5);
for (let i = 100; i < Number(records); i++) recorder.record(decision(`/${i}`, who));
process.stdout.write("recorded\n");
process.stdin.resume(); // until it is killed or told to stop
process.stdin.once("end", () => void recorder.close(100).then(() => process.exit(0)));
