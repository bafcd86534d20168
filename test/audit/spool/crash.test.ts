/**
 * The spool over every crash: whatever operation of the disk a process dies at, records and declared gaps account for
 * every decision, and no record that a caller was told to be durable is lost.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { type Random, randomFrom } from "../../../chaos/random.ts";
import { waitFor } from "../../support/wait-for.ts";
import { decision, testSink } from "../support.ts";
import { ModelDisk, type Operation } from "./model-disk.ts";
import { accountOf, type SpoolRig, startSpool } from "./spool-support.ts";

type Loss = "kill" | "power";
const quick = { everyMs: 1 };

/** Runs a node until the disk's operation number `crashAt`, which never returns. */
async function runUntil(
  disk: ModelDisk,
  crashAt: number,
  boot: string,
  sinks: ReturnType<typeof testSink>[],
  fails: (operation: Operation) => boolean = () => false,
) {
  let operations = 0;
  let crashed = false;
  const crash = Promise.withResolvers<undefined>();
  disk.before = (operation) => {
    operations++;
    if (operations < crashAt) {
      if (fails(operation)) throw Object.assign(new Error("input/output error"), { code: "EIO" });
      return undefined;
    }
    crashed = true;
    crash.resolve(undefined);
    for (const sink of sinks) sink.mode = "stuck";
    return new Promise<void>(() => {});
  };
  let answered = 0;
  const acknowledged: number[] = [];
  const open = startSpool(disk, sinks, { boot, bytesMax: 40_000, sleepMsMax: 1 });
  const start = await Promise.race([open, crash.promise]);
  if (start !== undefined) {
    for (let i = 0; i < 12 && !crashed; i++) {
      for (let k = 0; k < 4; k++) start.record(decision(`/${i}/${k}/${"x".repeat(200)}`, { boot: start.boot }));
      let settled = false;
      const number = start.stats().recorded + 1;
      const stored = start.recordDurably(decision(`/strict/${i}`, { boot: start.boot })).then(
        () => acknowledged.push(number),
        () => undefined, // refused: the spool is full for the moment
      );
      void stored.finally(() => {
        settled = true;
      });
      answered = start.stats().recorded;
      for (let k = 0; k < 3; k++) await turn();
      if (i % 4 === 3) await waitFor("the strict record", () => crashed || settled, quick);
    }
    if (!crashed) await Promise.race([start.close(2_000), crash.promise]);
  }
  disk.before = () => new Promise<void>(() => {}); // the process is dead
  return { answered, acknowledged: [...acknowledged], crashed, unreserved: start?.stats().unreserved ?? 0 };
}

async function finish(disk: ModelDisk, boot: string, sinks: ReturnType<typeof testSink>[]): Promise<SpoolRig> {
  for (const sink of sinks) {
    sink.mode = "good";
    sink.release();
  }
  const rig = await startSpool(disk, sinks, { boot, sleepMsMax: 1 });
  await waitFor(
    "every sink to catch up",
    () => rig.stats().sinks.every(({ queued, failing }) => queued === 0 && !failing),
    quick,
  );
  await rig.close(5_000);
  return rig;
}

function survivorOf(disk: ModelDisk, loss: Loss, random: Random): ModelDisk {
  return loss === "kill" ? disk.afterKill(random) : disk.afterPowerLoss(random);
}

for (const loss of ["kill", "power"] as const) {
  test(`no record is lost without a gap, whatever operation the process dies at (${loss})`, async () => {
    for (let crashAt = 1, crashed = true; crashed; crashAt++) {
      const random = randomFrom(crashAt * 31 + loss.length);
      const sinks = [testSink("a"), testSink("b")];
      let disk = new ModelDisk();
      const run = await runUntil(disk, crashAt, "boot-1", sinks);
      crashed = run.crashed;
      assert.ok(crashAt < 500, "the run ends");
      disk = survivorOf(disk, loss, random);
      await finish(disk, "boot-2", sinks);
      for (const sink of sinks) {
        const { recorded, declared, surelyLost } = accountOf(sink.written, "boot-1");
        const what = `${loss} at ${crashAt}, sink ${sink.name}`;
        for (let number = 1; number <= run.answered; number++)
          assert.ok(recorded.has(number) || declared.has(number), `${what}: ${number} of ${run.answered}`);
        for (const number of run.acknowledged) assert.ok(recorded.has(number), `${what}: strict ${number}`);
        assert.ok(recorded.size + surelyLost <= run.answered, `${what}: no more than were made`);
      }
    }
  });
}

test("a node that dies again and again while it recovers loses nothing either", async () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = randomFrom(seed);
    const sinks = [testSink("a")];
    let disk = new ModelDisk();
    const runs: Awaited<ReturnType<typeof runUntil>>[] = [];
    for (let boot = 1; boot <= 4; boot++) {
      for (const sink of sinks) {
        sink.mode = "good";
        sink.release();
      }
      runs.push(await runUntil(disk, random.between(2, 60), `boot-${boot}`, sinks));
      disk = survivorOf(disk, random.next() < 0.5 ? "kill" : "power", random);
    }
    await finish(disk, "boot-9", sinks);
    for (const [index, run] of runs.entries()) {
      const { recorded, declared } = accountOf(sinks[0]?.written ?? [], `boot-${index + 1}`);
      for (let number = 1; number <= run.answered; number++)
        assert.ok(recorded.has(number) || declared.has(number), `seed ${seed}, boot ${index + 1}: ${number}`);
      for (const number of run.acknowledged) assert.ok(recorded.has(number), `seed ${seed}: strict ${number}`);
    }
  }
});

test("a node that dies again and again while its sink is down and its spool full loses nothing unnoticed", async () => {
  for (let seed = 1; seed <= 40; seed++) {
    const random = randomFrom(seed * 13);
    let disk = new ModelDisk();
    const answered: number[] = [];
    for (let boot = 1; boot <= 7; boot++) {
      const down = testSink("a");
      down.mode = "failing";
      answered.push((await runUntil(disk, random.between(4, 90), `boot-${boot}`, [down])).answered);
      disk = survivorOf(disk, random.next() < 0.5 ? "kill" : "power", random);
    }
    const sink = testSink("a");
    await finish(disk, "boot-9", [sink]);
    for (const [index, made] of answered.entries()) {
      const { recorded, declared, surelyLost } = accountOf(sink.written, `boot-${index + 1}`);
      const what = `seed ${seed}, boot ${index + 1}`;
      for (let number = 1; number <= made; number++)
        assert.ok(recorded.has(number) || declared.has(number), `${what}: ${number} of ${made}`);
      assert.ok(recorded.size + surelyLost <= made, `${what}: ${recorded.size} and ${surelyLost} of ${made}`);
    }
    const ids = sink.written.flatMap(({ kind, boot, seq }) => (kind === "gap" ? [] : [`${boot}:${seq}`]));
    assert.equal(new Set(ids).size, ids.length, `seed ${seed}: each once`);
  }
});

test("a disk that fails now and then, before the process dies, loses nothing and repeats nothing", async () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = randomFrom(seed * 7);
    const sinks = [testSink("a")];
    const failing = new Set<Operation>(["sync", "truncate", "write"]);
    const fails = (operation: Operation): boolean =>
      failing.has(operation) && random.next() < (operation === "truncate" ? 0.8 : 0.15);
    let disk = new ModelDisk();
    const run = await runUntil(disk, random.between(10, 120), "boot-1", sinks, fails);
    disk = survivorOf(disk, random.next() < 0.7 ? "kill" : "power", random);
    // A sink of its own: what the dead process was writing must not arrive now.
    const later = testSink("a");
    await finish(disk, "boot-2", [later]);
    const written = [...(sinks[0]?.written ?? []), ...later.written];
    const numbers = later.written.filter((record) => record.boot === "boot-1").map(({ seq }) => seq);
    assert.deepEqual(
      numbers,
      [...new Set(numbers)].toSorted((a, b) => a - b),
      `seed ${seed}: in order, each once`,
    );
    const { recorded, declared } = accountOf(written, "boot-1");
    const isTold = (number: number): boolean => recorded.has(number) || declared.has(number);
    let missing = 0;
    for (let number = 1; number <= run.answered; number++) missing += isTold(number) ? 0 : 1;
    const counted = run.unreserved; // the disk failed before it had stored a first reservation
    assert.ok(missing <= counted, `seed ${seed}: ${missing} of ${run.answered} are missing, ${counted} unreserved`);
    for (const number of run.acknowledged) assert.ok(recorded.has(number), `seed ${seed}: strict ${number}`);
  }
});
