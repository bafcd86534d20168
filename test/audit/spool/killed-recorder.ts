/**
 * A process that makes decisions until its test kills it: `node killed-recorder.ts FOLDER BOOT BYTES [down]`. It
 * answers each with a line on standard output: `b` for best effort, `s` for a strict one that is durable, `x` for a
 * strict one that is refused. `stop` on standard input, or SIGTERM, ends it cleanly. `down`: its sink fails.
 */
import { writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import { createFileSink, createRecorder, openSpoolFolder } from "../../../src/audit/index.ts";
import type { BootId } from "../../../src/events/index.ts";
import { decision, node } from "../support.ts";

const [folder = "", bootText = "", bytes = "0", sinkState = "up"] = process.argv.slice(2);
const boot = bootText as BootId;
const disk = openSpoolFolder(join(folder, "spool"));
const file = createFileSink(join(folder, "audit.jsonl"));
const write: typeof file.write = (batch) =>
  sinkState === "down" ? Promise.reject(new Error("down")) : file.write(batch);
const recorder = await createRecorder({
  ...{ node, boot },
  spool: { disk, bytesMax: 1_000_000_000, sinks: [{ ...file, write }] },
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) => delay(ms, undefined, signal === undefined ? {} : { signal }),
  onFailure: () => undefined,
  onDamage: () => undefined,
});
let stopping = false;
const stop = (): void => {
  stopping = true;
};
process.stdin.once("data", stop);
process.once("SIGTERM", stop);
const padding = "x".repeat(Number(bytes));
for (let i = 1; !stopping; i++) {
  const requestId = `${boot}/${i}`;
  if (i % 10 === 0) {
    void recorder.recordDurably(decision(`/s${padding}`, { boot, requestId })).then(
      () => writeSync(1, `s ${requestId}\n`),
      () => writeSync(1, `x ${requestId}\n`),
    );
  } else {
    recorder.record(decision(`/b${padding}`, { boot, requestId }));
    writeSync(1, `b ${requestId}\n`);
  }
  await (i % 50 === 0 ? delay(2) : turn());
}
await recorder.close(20_000);
process.exit(0);
