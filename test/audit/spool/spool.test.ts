/** The spool on a disk that fails, fills up, is slow, or returns something else than was written. */
import assert from "node:assert/strict";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { randomFrom } from "../../../chaos/random.ts";
import { AuditNotDurableError, type NotDurableReason, openSpoolFolder } from "../../../src/audit/index.ts";
import { frameAt, frameSeed } from "../../../src/audit/spool/frame.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { waitFor } from "../../support/wait-for.ts";
import { decision, recordsIn, testSink } from "../support.ts";
import { ModelDisk } from "./model-disk.ts";
import { accountOf, startSpool } from "./spool-support.ts";

const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const sorted = (numbers: Iterable<number>): number[] => [...numbers].toSorted((a, b) => a - b);
const filler = (): ReturnType<typeof decision> => decision(`/${"x".repeat(3_000)}`);
const refusedFor = (reason: NotDurableReason) => (error: unknown) =>
  error instanceof AuditNotDurableError && error.reason === reason;

describe("strict records", () => {
  test("are on disk when the caller may go on, and many share one sync", async () => {
    const disk = new ModelDisk();
    let syncs = 0;
    disk.before = async (operation) => {
      if (operation !== "sync") return;
      syncs++;
      await new Promise((resolve) => setTimeout(resolve, 5));
    };
    const recorder = await startSpool(disk, [testSink()]);
    const before = syncs;
    await Promise.all(range(1, 200).map(() => recorder.recordDurably(decision())));
    assert.ok(syncs - before <= 4, `${syncs - before} syncs for 200 records`);
    await recorder.close(1_000);
  });

  test("are refused when the disk refuses, and accepted once it accepts again", async () => {
    const disk = new ModelDisk();
    const sink = testSink();
    const recorder = await startSpool(disk, [sink]);
    await recorder.recordDurably(decision("/1"));
    disk.bytesMax = disk.size;
    await assert.rejects(recorder.recordDurably(decision("/2")), refusedFor("failing"));
    await assert.rejects(recorder.recordDurably(decision("/3")), refusedFor("failing"));
    for (let i = 0; i < 10; i++) recorder.record(decision("/best-effort"));
    const reported = recorder.failures.filter((line) => line.startsWith("spool:"));
    assert.equal(reported.length, 1, "reported once");
    disk.bytesMax = Number.POSITIVE_INFINITY;
    await waitFor("the disk to accept again", () => recorder.stats().refusal === null);
    await recorder.recordDurably(decision("/4"));
    await recorder.close(5_000);
    const { recorded, declared } = accountOf(sink.written, "boot-1");
    assert.deepEqual([sorted(recorded), declared.size], [range(1, 13), 0], "nothing is lost, the refused one included");
  });

  test("are refused when the disk is slow, at once while it stays slow", async () => {
    const disk = new ModelDisk();
    const recorder = await startSpool(disk, [testSink()], { strictMs: 30 });
    let release = (): void => undefined;
    disk.before = (operation) =>
      operation === "sync" ? new Promise<void>((resolve) => (release = resolve)) : undefined;
    await assert.rejects(recorder.recordDurably(decision()), refusedFor("slow"));
    const { recorded } = recorder.stats();
    await assert.rejects(recorder.recordDurably(decision()), refusedFor("slow"));
    assert.equal(recorder.stats().recorded, recorded, "refused at once, without a number");
    disk.before = () => undefined;
    release();
    await waitFor("the disk to be quick again", () => recorder.stats().refusal === null);
    await recorder.recordDurably(decision());
    await recorder.close(1_000);
  });

  test("after a failed sync nothing of it counts: the records are written again, to another segment", async () => {
    const disk = new ModelDisk();
    const sink = testSink();
    const recorder = await startSpool(disk, [sink]);
    let failed = 0;
    disk.before = (operation) => {
      if (operation === "sync" && failed++ === 0) throw Object.assign(new Error("EIO"), { code: "EIO" });
    };
    await assert.rejects(recorder.recordDurably(decision("/1")), refusedFor("failing"));
    await waitFor("the second try", () => recorder.stats().refusal === null);
    await recorder.recordDurably(decision("/2"));
    await recorder.close(1_000);
    assert.deepEqual(
      sink.written.map(({ kind, seq }) => `${kind} ${seq}`),
      ["decision 1", "decision 2"],
    );
  });
});

test("a sink gets nothing that a power failure could take back", async () => {
  const disk = new ModelDisk();
  const sink = testSink();
  const recorder = await startSpool(disk, [sink]);
  await recorder.recordDurably(decision("/1"));
  let release = (): void => undefined;
  let isWaiting = false;
  disk.before = (operation) => {
    if (operation !== "sync") return undefined;
    isWaiting = true;
    return new Promise<void>((resolve) => (release = resolve));
  };
  recorder.record(decision("/2"));
  await waitFor("the sync", () => isWaiting);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(sink.written.length, 1, "it is written, and not synced");
  disk.before = () => undefined;
  release();
  await waitFor("the record", () => sink.written.length === 2);
  await recorder.close(1_000);
});

describe("at its bound", () => {
  test("the spool drops the oldest records, and declares them to the sinks that miss them", async () => {
    const disk = new ModelDisk();
    const [good, down] = [testSink("good"), testSink("down")];
    down.mode = "failing";
    const recorder = await startSpool(disk, [good, down], { bytesMax: 100_000 });
    for (let i = 0; i < 200; i++) {
      recorder.record(filler());
      const isStored = (): boolean => recorder.stats().pending < 5 && (recorder.stats().sinks[0]?.queued ?? 0) < 10;
      await waitFor("the record", isStored, { everyMs: 1 });
    }
    await waitFor("the spool to be within its bound", () => recorder.stats().spoolBytes < 130_000);
    const tombstones = (): readonly string[] => [...disk.files.keys()].filter((name) => name.endsWith(".gap"));
    await waitFor("gaps side by side to be one", () => tombstones().length === 1);
    down.mode = "good";
    await waitFor("the sink to catch up", () => recorder.stats().sinks[1]?.queued === 0);
    await recorder.close(5_000);
    assert.deepEqual(sorted(accountOf(good.written, "boot-1").recorded), range(1, 200));
    const { recorded, declared } = accountOf(down.written, "boot-1");
    assert.deepEqual(sorted([...recorded, ...declared]), range(1, 200), "each number once");
    assert.ok(recorded.size >= 20 && declared.size >= 100, `${recorded.size} and ${declared.size}`);
    const gap = down.written.find((record) => record.kind === "gap");
    assert.ok(gap?.kind === "gap" && gap.reason === "spool_full" && (gap.fromMs ?? 0) > 0);
    assert.equal(recorder.stats().sinks[1]?.lost, declared.size);
  });

  test("a record that must be kept is kept, while its neighbours are dropped", async () => {
    const down = testSink("down");
    down.mode = "failing";
    const recorder = await startSpool(new ModelDisk(), [down], { bytesMax: 100_000 });
    recorder.recordKept(decision("/the end of a strict stream"));
    for (let i = 0; i < 120; i++) {
      recorder.record(filler());
      await waitFor("the record", () => recorder.stats().pending < 5, { everyMs: 1 });
    }
    down.mode = "good";
    await waitFor("the sink to catch up", () => recorder.stats().sinks[0]?.queued === 0);
    await recorder.close(5_000);
    const { recorded, declared } = accountOf(down.written, "boot-1");
    assert.ok(recorded.has(1) && declared.size > 50, `${declared.size} declared`);
    assert.deepEqual(sorted([...recorded, ...declared]), range(1, 121));
  });

  test("strict records are never dropped: strict is refused, best effort declares its losses", async () => {
    const disk = new ModelDisk();
    const down = testSink("down");
    down.mode = "failing";
    const recorder = await startSpool(disk, [down], { bytesMax: 100_000 });
    const accepted: number[] = [];
    for (let i = 0; i < 100; i++) {
      await recorder.recordDurably(filler()).then(
        () => accepted.push(recorder.stats().recorded),
        (error: unknown) => assert.ok(refusedFor("full")(error)),
      );
    }
    assert.ok(accepted.length >= 20 && accepted.length < 50, `${accepted.length} accepted`);
    for (let i = 0; i < 30; i++) recorder.record(filler());
    const made = recorder.stats().recorded;
    down.mode = "good";
    await waitFor("room", () => recorder.stats().refusal === null);
    await recorder.recordDurably(decision());
    await waitFor("the sink to catch up", () => recorder.stats().sinks[0]?.queued === 0);
    await recorder.close(5_000);
    const { recorded, declared } = accountOf(down.written, "boot-1");
    for (const number of accepted) assert.ok(recorded.has(number));
    assert.deepEqual(sorted([...recorded, ...declared]), range(1, made + 1));
  });
});

describe("a full disk", () => {
  test("is used again once the sinks have what the spool holds", async () => {
    const disk = new ModelDisk();
    const sink = testSink();
    const recorder = await startSpool(disk, [sink], { bytesMax: 1_000_000 });
    await recorder.recordDurably(decision());
    await waitFor("a stored position", () => [...disk.files.keys()].some((name) => name.startsWith("cursor-")));
    sink.mode = "failing";
    for (let i = 0; i < 100; i++) await recorder.recordDurably(filler());
    disk.bytesMax = disk.size;
    await assert.rejects(recorder.recordDurably(decision()), refusedFor("failing"));
    sink.mode = "good";
    await waitFor("room", () => recorder.stats().refusal === null);
    await recorder.recordDurably(decision());
    await recorder.close(5_000);
    const { recorded, declared } = accountOf(sink.written, "boot-1");
    assert.deepEqual([sorted(recorded), declared.size], [range(1, 103), 0]);
  });
});

test("a batch in flight keeps its bytes while the next one is read, and is written again if it fails", async () => {
  const first = testSink();
  first.mode = "failing";
  const disk = new ModelDisk();
  const recorder = await startSpool(disk, [first]);
  for (let i = 0; i < 600; i++) recorder.record(filler()); // several full batches
  await waitFor("attempts", () => first.batches.length > 3);
  await recorder.close(1_000);

  const seen: number[][] = [];
  const tries = new Map<number, number>();
  const sink = testSink(first.name);
  const next = await startSpool(disk, [
    {
      ...sink,
      async write(batch) {
        const tried = (tries.get(batch.first) ?? 0) + 1;
        tries.set(batch.first, tried);
        await new Promise((resolve) => setTimeout(resolve, 20));
        if (tried < 3) throw new Error("the sink fails");
        seen.push(recordsIn(batch).map(({ seq }) => seq));
      },
    },
  ]);
  await waitFor("the records", () => seen.flat().length >= 600);
  assert.deepEqual(seen.flat(), range(1, 600));
  assert.ok(seen.length > 2, `${seen.length} batches`);
  await next.close(1_000);
});

test("a segment that cannot be removed is reported once, and stops no strict record", async () => {
  const disk = new ModelDisk();
  const sink = testSink();
  const recorder = await startSpool(disk, [sink], { bytesMax: 1_000_000 });
  let tried = 0;
  disk.before = (operation) => {
    if (operation !== "remove") return;
    tried++;
    throw new Error("not permitted");
  };
  for (let i = 0; i < 200; i++) {
    await recorder.recordDurably(filler());
    if (tried < 3) await waitFor("the sink", () => recorder.stats().sinks[0]?.queued === 0);
  }
  assert.ok(tried >= 3, `${tried} attempts`);
  assert.deepEqual(recorder.failures, ["spool files: not permitted"]);
  await recorder.close(1_000);
});

test("segments that cannot be removed stop the spool at its bound", async () => {
  const disk = new ModelDisk();
  const down = testSink("down");
  down.mode = "failing";
  const recorder = await startSpool(disk, [down], { bytesMax: 200_000 });
  disk.before = (operation) => {
    if (operation === "remove") throw new Error("not permitted");
  };
  for (let i = 0; i < 300; i++) {
    recorder.record(filler());
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.equal(recorder.stats().refusal, "full");
  assert.ok(disk.size < 400_000, `${disk.size} bytes`);
  await recorder.close(1_000);
});

describe("records that retention must keep", () => {
  test("are marked only if they are stored, so that a long failure of the disk costs no memory for them", async () => {
    const disk = new ModelDisk();
    let failing = true;
    const recorder = await startSpool(disk, [testSink()], { ringBytesMax: 5_000 });
    disk.before = (operation) => {
      if (failing && operation === "write") throw new Error("the disk fails");
    };
    for (let i = 0; i < 1_000; i++) recorder.recordKept(decision());
    const { dropped } = recorder.stats();
    assert.ok(dropped > 900);
    failing = false;
    await waitFor("the records to be stored", () => recorder.stats().pending === 0);
    const name = [...disk.files.keys()].find((each) => each.endsWith(".records")) ?? assert.fail();
    const stored = (await disk.readSmall(name)) ?? assert.fail();
    const strict: string[] = [];
    for (let at = 0; at < stored.length; ) {
      const frame = frameAt(stored, at, frameSeed(name)) ?? assert.fail();
      if (frame.strict) strict.push(`${frame.kind} ${frame.first}-${frame.last}`);
      at += frame.bytes;
    }
    assert.deepEqual(strict, [`records 1-${1_000 - dropped}`]);
    await recorder.close(1_000);
  });
});

describe("a damaged segment", () => {
  test("loses the damaged records only, which are declared, and the place is reported", async () => {
    const disk = new ModelDisk();
    const down = testSink("down");
    down.mode = "failing";
    const first = await startSpool(disk, [down]);
    for (let i = 0; i < 10; i++) await first.recordDurably(decision(`/${i}`));
    await first.close(100);
    const [name, file] = [...disk.files].find(([each]) => each.endsWith(".records")) ?? assert.fail();
    const content = (await disk.readSmall(name)) ?? assert.fail();
    const at = content.indexOf('"/4"');
    content[at + 1] = 0x5a;
    disk.files.set(name, { ...file, durable: content, pending: [] });
    down.mode = "good";
    const second = await startSpool(disk, [down], { boot: "boot-2" });
    await second.close(5_000);
    const { recorded, declared } = accountOf(down.written, "boot-1");
    assert.deepEqual(sorted(declared), [5]);
    assert.deepEqual(sorted([...recorded, ...declared]), range(1, 10));
    assert.ok(second.damages.some((damage) => damage.name === name && !damage.torn && damage.offset < at));
  });

  test("that an operator removed is declared too", async () => {
    const disk = new ModelDisk();
    const down = testSink("down");
    down.mode = "failing";
    const recorder = await startSpool(disk, [down], { bytesMax: 1_000_000, recentPagesMax: 0 });
    for (let i = 0; i < 100; i++) await recorder.recordDurably(filler());
    const names = [...disk.files.keys()].filter((name) => name.endsWith(".records")).toSorted();
    assert.ok(names.length >= 3, `${names.length} segments`);
    disk.files.delete(names[1] ?? "");
    down.mode = "good";
    await waitFor("the rest", () => down.written.some(({ seq }) => seq === 100));
    await recorder.close(5_000);
    const { recorded, declared } = accountOf(down.written, "boot-1");
    assert.ok(declared.size > 0);
    assert.deepEqual(sorted([...recorded, ...declared]), range(1, 100));
  });
});

test("a sink that keeps up needs no disk: what was written last is still in memory", async () => {
  const disk = new ModelDisk();
  const sink = testSink();
  const reads: string[] = [];
  disk.before = (operation) => {
    if (operation === "read") reads.push(operation);
  };
  const recorder = await startSpool(disk, [sink], { bytesMax: 1_000_000 });
  for (let i = 0; i < 100; i++) await recorder.recordDurably(filler());
  await recorder.close(5_000);
  assert.deepEqual(
    sink.written.map(({ seq }) => seq),
    range(1, 100),
  );
  assert.deepEqual(reads, []);
});

describe("the last segment of an earlier boot", () => {
  test("is declared when an operator removed it while the sink was behind", async () => {
    const disk = new ModelDisk();
    const down = testSink("down");
    down.mode = "failing";
    const first = await startSpool(disk, [down], { bytesMax: 1_000_000 });
    for (let i = 0; i < 100; i++) await first.recordDurably(filler());
    await first.close(100);
    const last =
      [...disk.files.keys()]
        .filter((name) => name.endsWith(".records"))
        .toSorted()
        .at(-1) ?? assert.fail();
    const second = await startSpool(disk, [down], { bytesMax: 1_000_000, boot: "boot-2" });
    disk.files.delete(last);
    second.record(decision("/", { boot: second.boot }));
    down.mode = "good";
    await waitFor("the next boot", () => down.written.some(({ boot }) => boot === "boot-2"));
    await second.close(5_000);
    const { recorded, declared } = accountOf(down.written, "boot-1");
    assert.ok(declared.size > 0);
    assert.deepEqual(sorted([...recorded, ...declared]), range(1, 100));
  });
});

describe("opening", () => {
  test("refuses segments of a later version, and leaves them as they are", async () => {
    const disk = new ModelDisk();
    const down = testSink("down");
    down.mode = "failing";
    const first = await startSpool(disk, [down]);
    await first.recordDurably(decision());
    disk.before = () => new Promise<void>(() => {}); // it ends without a clean end
    const later = disk.afterKill(randomFrom(1));
    const [name, file] = [...later.files].find(([each]) => each.endsWith(".records")) ?? assert.fail();
    const content = (await later.readSmall(name)) ?? assert.fail();
    content.writeUInt16LE(2, 6);
    later.files.set(name, { ...file, durable: content, pending: [] });
    await assert.rejects(startSpool(later, [down], { boot: "boot-2" }), { code: "ERR_AUDIT_SPOOL_FORMAT" });
    assert.deepEqual(await later.readSmall(name), content);
  });

  test("leaves a segment of which nothing can be read until every sink has its gap, and reports it", async () => {
    const disk = new ModelDisk();
    const name = "000000000007-1-boot-0.records";
    disk.files.set(name, { durable: Buffer.alloc(5_000, 0x41), pending: [], isNameDurable: true });
    const down = testSink();
    down.mode = "failing";
    const recorder = await startSpool(disk, [down]);
    await waitFor("an attempt", () => down.batches.length > 0);
    assert.deepEqual(recorder.damages, [{ name, offset: 0, bytes: 5_000, torn: true }]);
    assert.equal((await disk.readSmall(name))?.length, 5_000);
    down.mode = "good";
    await waitFor("its end", () => !disk.files.has(name));
    await recorder.close(1_000);
    const [gap] = down.written;
    assert.ok(gap?.kind === "gap" && gap.boot === "boot-0");
    const { first, last, reason, atLeast } = gap;
    assert.deepEqual({ first, last, reason, atLeast }, { first: 1, last: 19, reason: "damaged", atLeast: 0 });
  });

  test("is refused while another process has the folder", (t) => {
    const folder = new TemporaryFolder("spool-lock");
    t.after(() => folder.remove());
    const path = join(folder.path, "spool");
    const held = openSpoolFolder(path);
    assert.throws(() => openSpoolFolder(path), { code: "ERR_AUDIT_SPOOL_UNUSABLE" });
    held.release();
    openSpoolFolder(path).release();
    assert.equal(statSync(path).mode & 0o777, 0o700);
    writeFileSync(join(folder.path, "file"), "");
    assert.throws(() => openSpoolFolder(join(folder.path, "file")), { code: "ERR_AUDIT_SPOOL_UNUSABLE" });
  });
});
