/**
 * The bounds of the spool, whatever the number of boots: files, the blocks that they take, and memory. And what is
 * declared of what they leave out.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { randomFrom } from "../../../chaos/random.ts";
import { type AuditRecord, openSpoolFolder } from "../../../src/audit/index.ts";
import { condenseGaps, type DroppedGap, mergeGaps } from "../../../src/audit/spool/gap-list.ts";
import { RecordRing } from "../../../src/audit/spool/record-ring.ts";
import type { BootId } from "../../../src/events/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { waitFor } from "../../support/wait-for.ts";
import { decision, testSink } from "../support.ts";
import { ModelDisk } from "./model-disk.ts";
import { accountOf, type SpoolRig, startSpool } from "./spool-support.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const sorted = (numbers: Iterable<number>): number[] => [...numbers].toSorted((a, b) => a - b);
const quick = { everyMs: 1 };
const filler = (rig: SpoolRig, bytes = 3_000): ReturnType<typeof decision> =>
  decision(`/${"x".repeat(bytes)}`, { boot: rig.boot });

/** Files of segments, and the blocks of 4 KiB that they take. */
function roomOf(disk: ModelDisk): Readonly<{ files: number; bytes: number }> {
  let [files, bytes] = [0, 0];
  for (const [name, { durable, pending }] of disk.files) {
    if (!/\.(records|gap)$/.test(name)) continue;
    files++;
    const written = pending.map((change) => ("bytes" in change ? change.at + change.bytes.length : change.size));
    bytes += Math.ceil(Math.max(1, durable.length, ...written) / 4_096) * 4_096;
  }
  return { files, bytes };
}

/** Boots that make so many decisions each, and are killed while the sink is down. @returns the decisions of each */
async function crashLoop(
  start: ModelDisk,
  boots: number,
  options: Readonly<{
    bytesMax?: number;
    segmentsMax?: number;
    strictEvery?: number;
    check: (disk: ModelDisk) => void;
  }>,
): Promise<Readonly<{ disk: ModelDisk; made: ReadonlyMap<string, number>; strict: ReadonlySet<string> }>> {
  const random = randomFrom(7);
  const made = new Map<string, number>();
  const strict = new Set<string>();
  let disk = start;
  for (let nth = 1; nth <= boots; nth++) {
    const down = testSink("down");
    down.mode = "failing";
    const rig = await startSpool(disk, [down], { boot: `boot-${nth}`, sleepMsMax: 1, ...options });
    const isStrict = options.strictEvery !== undefined && nth % options.strictEvery === 0;
    for (let i = 0; i < nth % 4; i++) rig.record(filler(rig, 100));
    if (isStrict) {
      const seq = rig.stats().recorded + 1;
      await rig.recordDurably(filler(rig, 100)).then(
        () => strict.add(`${rig.boot}:${seq}`),
        () => undefined, // the spool is full
      );
    }
    await waitFor("the records", () => rig.stats().pending === 0 || rig.stats().refusal === "full", quick);
    made.set(rig.boot, rig.stats().recorded);
    options.check(disk);
    disk.before = () => new Promise<void>(() => {}); // the process is dead
    rig.kill();
    disk = disk.afterKill(random);
  }
  return { disk, made, strict };
}

async function catchUp(disk: ModelDisk, options: object = {}): Promise<readonly AuditRecord[]> {
  const sink = testSink("down");
  const rig = await startSpool(disk, [sink], { boot: "boot-last", sleepMsMax: 1, ...options });
  rig.record(decision("/last", { boot: rig.boot }));
  await waitFor("the newest record", () => sink.written.some(({ boot }) => boot === "boot-last"), quick);
  await rig.close(1_000);
  return sink.written;
}

/** Checks that each decision has a record or is declared, by the gap of its boot or as one of earlier boots. */
function checkAccount(records: readonly AuditRecord[], made: ReadonlyMap<string, number>): void {
  const known = new Set(records.map(({ boot }) => String(boot)));
  let [earlierBoots, earlierLost] = [0, 0];
  for (const record of records) {
    if (record.kind !== "gap" || record.earlier === undefined) continue;
    earlierBoots += record.earlier.boots;
    earlierLost += record.earlier.atLeast;
  }
  const unknown = [...made].filter(([boot]) => !known.has(boot));
  assert.equal(unknown.length, earlierBoots, "boots that are known only by their number");
  assert.ok(earlierLost <= unknown.reduce((sum, [, count]) => sum + count, 0));
  for (const [boot, count] of made) {
    if (!known.has(boot)) continue;
    const { recorded, declared, surelyLost } = accountOf(records, boot);
    for (const number of range(1, count)) assert.ok(recorded.has(number) || declared.has(number), `${boot}:${number}`);
    assert.ok(recorded.size + surelyLost <= count, `${boot}: no more than were made`);
  }
}

describe("a node that is killed again and again while a sink is down", () => {
  test("takes no more blocks than its bound, and declares what it gives up", async () => {
    const check = (disk: ModelDisk): void => assert.ok(roomOf(disk).bytes <= 110_000, `${roomOf(disk).bytes} bytes`);
    const { disk, made } = await crashLoop(new ModelDisk(), 60, { bytesMax: 100_000, check });
    const records = await catchUp(disk, { bytesMax: 100_000 });
    checkAccount(records, made);
    assert.ok(
      records.some((record) => record.kind === "decision" && record.boot === "boot-59"),
      "the newest are kept",
    );
  });

  test("leaves no more files than its bound, and boots without a decision push out no record", async () => {
    const check = (disk: ModelDisk): void => assert.ok(roomOf(disk).files <= 22, `${roomOf(disk).files} files`);
    const first = new ModelDisk();
    const down = testSink("down");
    down.mode = "failing";
    const rig = await startSpool(first, [down], { boot: "boot-0" });
    for (const _ of range(1, 5)) await rig.recordDurably(filler(rig));
    first.before = () => new Promise<void>(() => {});
    rig.kill();
    let disk = first.afterKill(randomFrom(3));
    for (let nth = 1; nth <= 40; nth++) {
      const idle = await startSpool(disk, [down], { boot: `idle-${nth}`, segmentsMax: 20, sleepMsMax: 1 });
      check(disk);
      disk.before = () => new Promise<void>(() => {});
      disk = disk.afterKill(randomFrom(nth));
      idle.kill();
    }
    const records = await catchUp(disk, { segmentsMax: 20 });
    assert.deepEqual(sorted(accountOf(records, "boot-0").recorded), range(1, 5));
    checkAccount(records, new Map([["boot-0", 5], ...range(1, 40).map((nth): [string, number] => [`idle-${nth}`, 0])]));
  });

  test("keeps every strict record within its bound, and refuses strict ones beyond it", async () => {
    const check = (disk: ModelDisk): void => assert.ok(roomOf(disk).files <= 24, `${roomOf(disk).files} files`);
    const { disk, made, strict } = await crashLoop(new ModelDisk(), 60, { segmentsMax: 20, strictEvery: 2, check });
    assert.ok(strict.size >= 5 && strict.size < 30, `${strict.size} strict records`);
    const records = await catchUp(disk, { segmentsMax: 20 });
    checkAccount(records, made);
    const ids = new Set(records.flatMap(({ kind, boot, seq }) => (kind === "gap" ? [] : [`${boot}:${seq}`])));
    assert.deepEqual(
      [...strict].filter((id) => !ids.has(id)),
      [],
    );
  });
});

describe("a list of gaps", () => {
  const gap = (index: number, parts: Partial<DroppedGap> = {}): DroppedGap => ({
    ...{ from: index, index, boot: `boot-${index}` as BootId, first: 1, last: 10, used: 4, reason: "spool_full" },
    ...{ fromMs: index, toMs: index + 1 },
    ...parts,
  });

  test("has one gap for neighbouring segments of a boot, and none twice", () => {
    const boot = "boot-1" as BootId;
    const [a, b] = [gap(1, { boot, used: 10 }), gap(2, { boot, first: 11, last: 300, used: 5 })];
    const union = { ...gap(2, { boot, from: 1, last: 300, used: 15 }), fromMs: 1, toMs: 3 };
    assert.deepEqual(mergeGaps([a, b]), [union]);
    assert.deepEqual(mergeGaps([a, b, union]), [union]);
    assert.deepEqual(mergeGaps([union, a, b, gap(3)]), [union, gap(3)]);
  });

  test("that is too long says of how many boots its oldest gap is", () => {
    const long = range(1, 11).map((index) => gap(index));
    const short = condenseGaps(long, 10);
    assert.deepEqual(short, [gap(7, { from: 1, fromMs: 1, earlier: { boots: 6, atLeast: 24 } }), ...long.slice(7)]);
    const shortest = condenseGaps(short, 1);
    assert.deepEqual(shortest, [gap(11, { from: 1, fromMs: 1, earlier: { boots: 10, atLeast: 40 } })]);
    assert.deepEqual(mergeGaps([...long, ...shortest]), shortest, "a crash left both lists");
  });
});

describe("what cannot be read", () => {
  async function twoSegments(down: ReturnType<typeof testSink>): Promise<Readonly<{ disk: ModelDisk; first: string }>> {
    const disk = new ModelDisk();
    down.mode = "failing";
    const rig = await startSpool(disk, [down], { bytesMax: 1_000_000 });
    for (let i = 0; i < 60; i++) await rig.recordDurably(filler(rig));
    await rig.close(100);
    const [first = "", second] = [...disk.files.keys()].filter((name) => name.endsWith(".records")).toSorted();
    assert.ok(second !== undefined);
    return { disk, first };
  }

  function damage(disk: ModelDisk, name: string): void {
    const file = disk.files.get(name) ?? assert.fail();
    const { length } = file.durable;
    disk.files.set(name, { ...file, durable: Buffer.alloc(length), pending: [] });
  }

  for (const bytesMax of [1_000_000, 1_000]) {
    test(`of the first segment of a boot is declared, also if it is dropped (bound ${bytesMax})`, async () => {
      const down = testSink("down");
      const { disk, first } = await twoSegments(down);
      damage(disk, first);
      down.mode = "good";
      const second = await startSpool(disk, [down], { boot: "boot-2", bytesMax });
      await second.close(5_000);
      const { recorded, declared } = accountOf(down.written, "boot-1");
      assert.deepEqual(sorted([...recorded, ...declared]), range(1, 60));
      assert.ok(declared.size > 10 && recorded.size === (bytesMax > 1_000 ? 60 - declared.size : recorded.size));
    });
  }

  test("because the first segment of a boot was removed is declared", async () => {
    const down = testSink("down");
    const { disk, first } = await twoSegments(down);
    disk.files.delete(first);
    down.mode = "good";
    const second = await startSpool(disk, [down], { boot: "boot-2" });
    await second.close(5_000);
    const { recorded, declared } = accountOf(down.written, "boot-1");
    assert.deepEqual(sorted([...recorded, ...declared]), range(1, 60));
    assert.ok(declared.size > 10);
  });

  test("of a place before a gap is declared with it", async () => {
    const disk = new ModelDisk();
    const down = testSink("down");
    down.mode = "failing";
    const first = await startSpool(disk, [down]);
    for (const path of ["/1", "/2", "/3"]) await first.recordDurably(decision(path));
    first.record(decision("/", { reasons: ["y".repeat(600_000)] }));
    await first.recordDurably(decision("/5"));
    await first.close(100);
    const [name, file] = [...disk.files].find(([each]) => each.endsWith(".records")) ?? assert.fail();
    const content = (await disk.readSmall(name)) ?? assert.fail();
    content[content.indexOf('"/3"') + 1] = 0x5a;
    disk.files.set(name, { ...file, durable: content, pending: [] });
    down.mode = "good";
    const second = await startSpool(disk, [down], { boot: "boot-2" });
    await second.close(5_000);
    const told = down.written.map((record) =>
      record.kind === "gap" ? [record.reason, record.first, record.last] : record.seq,
    );
    assert.deepEqual(told, [1, 2, ["damaged", 3, 3], ["dropped", 4, 4], 5]);
  });

  test("of the only segment of a boot is declared, up to what it can have held", async () => {
    const disk = new ModelDisk();
    const down = testSink("down");
    down.mode = "failing";
    const first = await startSpool(disk, [down]);
    for (let i = 0; i < 100; i++) first.record(decision());
    await first.close(100);
    damage(disk, [...disk.files.keys()].find((each) => each.endsWith(".records")) ?? "");
    down.mode = "good";
    const second = await startSpool(disk, [down], { boot: "boot-2" });
    await second.close(5_000);
    const [gap] = down.written;
    assert.ok(gap?.kind === "gap" && gap.reason === "damaged" && gap.atLeast === 0 && gap.boot === "boot-1");
    assert.ok(gap.first === 1 && gap.last >= 100 && gap.last < 400, `up to ${gap.last}`);
  });
});

describe("times of a gap", () => {
  test("begin with the first record of a segment that an earlier process ended, and never end before", async () => {
    const disk = new ModelDisk();
    const down = testSink("down");
    down.mode = "failing";
    let now = 1_000_000;
    const options = { bytesMax: 200_000, nowMs: () => now };
    const first = await startSpool(disk, [down], options);
    for (let i = 0; i < 20; i++) {
      now += 100;
      await first.recordDurably(filler(first));
    }
    now = 900_000; // the clock was set back
    for (let i = 0; i < 20; i++) first.record(filler(first));
    await first.close(200);
    const names = new Set(disk.files.keys());
    now = 2_000_000;
    down.mode = "good";
    const second = await startSpool(disk, [down], { ...options, boot: "boot-2", bytesMax: 1_000 });
    await second.close(5_000);
    assert.ok(names.size > 3);
    const gaps = down.written.flatMap((record) => (record.kind === "gap" ? [record] : []));
    for (const { fromMs = 0, toMs = 0 } of gaps) {
      assert.ok(fromMs <= 1_002_000 && fromMs >= 900_000 && toMs >= fromMs, `${fromMs} to ${toMs}`);
    }
  });
});

test("the ring never takes more memory than its bound, whatever the records are", () => {
  const texts = ["ä", "ä".repeat(100), "x".repeat(90), "ä".repeat(60_000), "x".repeat(300_000), "y".repeat(600_000)];
  for (const bytesMax of [100_000, 2_000_000]) {
    const ring = new RecordRing(bytesMax);
    const random = randomFrom(bytesMax);
    for (let i = 0; i < 20_000; i++) {
      const text = random.pick(texts);
      ring.append({ text: `${text}\n`, isAscii: !text.startsWith("ä") }, i);
      assert.ok(ring.allocated <= bytesMax, `${ring.allocated} of ${bytesMax}`);
      if (random.next() < 0.01) ring.release(random.between(ring.last - 500, ring.last));
    }
    assert.ok(ring.dropped > 0 && ring.dropped < 20_000);
    ring.release(ring.last);
    assert.equal(ring.bytes, 0);
    assert.ok(ring.append({ text: "x\n", isAscii: true }, 1));
  }
});

describe("the folder", () => {
  test("keeps no position of a sink that is no longer configured", async () => {
    const disk = new ModelDisk();
    const [a, b] = [testSink("a"), testSink("b")];
    const first = await startSpool(disk, [a, b]);
    await first.recordDurably(decision());
    await first.close(1_000);
    const cursors = (): number => [...disk.files.keys()].filter((name) => name.startsWith("cursor-")).length;
    assert.equal(cursors(), 2);
    const second = await startSpool(disk, [a], { boot: "boot-2" });
    assert.equal(cursors(), 1);
    await second.recordDurably(decision("/", { boot: second.boot }));
    await waitFor("the first boot to be delivered", () =>
      [...disk.files.keys()].every((name) => !name.includes("boot-1")),
    );
    await second.close(1_000);
    b.written.length = 0;
    const third = await startSpool(disk, [a, b], { boot: "boot-3" });
    await third.close(1_000);
    assert.ok(
      b.written.every(({ boot }) => boot !== "boot-1"),
      "it is a new sink",
    );
  });

  test("loses what a process that died has not finished, and cannot be changed after its release", async (t) => {
    const folder = new TemporaryFolder("spool-unfinished");
    t.after(() => folder.remove());
    const path = join(folder.path, "spool");
    openSpoolFolder(path).release();
    writeFileSync(join(path, "000000000003-1-boot-1.gap.new"), "half");
    const disk = openSpoolFolder(path);
    assert.equal(existsSync(join(path, "000000000003-1-boot-1.gap.new")), false);
    const file = await disk.create("a");
    const writing = file.write([Buffer.from("a")], 0);
    disk.release();
    assert.throws(() => openSpoolFolder(path), { code: "ERR_AUDIT_SPOOL_UNUSABLE" }, "it is still being written to");
    await writing;
    await assert.rejects(file.write([Buffer.from("b")], 1), { code: "ERR_AUDIT_SPOOL_UNUSABLE" });
    await assert.rejects(disk.create("b"), { code: "ERR_AUDIT_SPOOL_UNUSABLE" });
    await file.close();
    openSpoolFolder(path).release();
    assert.deepEqual(readdirSync(path).toSorted(), ["a", "lock.sqlite"]);
  });
});

test("a file that cannot be removed after a failed write is not followed by more of them", async () => {
  const disk = new ModelDisk();
  let failing = false;
  disk.before = (operation) => {
    if (failing && (operation === "write" || operation === "remove")) throw new Error("the disk fails");
  };
  const sink = testSink();
  const rig = await startSpool(disk, [sink], { sleepMsMax: 1 });
  failing = true;
  let tried = 0;
  const { before } = disk;
  disk.before = (operation, name) => {
    if (operation === "create" || operation === "remove") tried++;
    return before(operation, name);
  };
  rig.record(decision());
  await waitFor("attempts", () => tried > 20, quick);
  assert.ok(roomOf(disk).files <= 2, `${roomOf(disk).files} files`);
  failing = false;
  await waitFor("the record", () => sink.written.length === 1);
  await rig.close(1_000);
});

test("files that are replaced or removed while the folder is listed make it neither fail nor show them unfinished", async (t) => {
  const folder = new TemporaryFolder("spool-list");
  t.after(() => folder.remove());
  const disk = openSpoolFolder(join(folder.path, "spool"));
  t.after(() => disk.release());
  let isChanging = true;
  const changes = Promise.all(
    Array.from({ length: 8 }, async (_, n) => {
      for (let round = 0; round < 30; round++) {
        await disk.replace(`cursor-${n}.json`, Buffer.from("{}"));
        await disk.remove(`cursor-${n}.json`);
      }
    }),
  ).finally(() => {
    isChanging = false;
  });
  const names = new Set<string>();
  while (isChanging) for (const { name } of await disk.list()) names.add(name);
  await changes;
  assert.deepEqual(
    [...names].filter((name) => name.endsWith(".new")),
    [],
  );
});
