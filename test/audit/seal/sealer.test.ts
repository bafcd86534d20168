/** The sealer: every record of a boot is in a root that the log has, whatever breaks in between. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { randomFrom } from "../../../chaos/random.ts";
import { eraseLine, recordLeafOf } from "../../../src/audit/index.ts";
import { RecordCheck } from "../../../src/audit/proof/index.ts";
import { lostLeaf } from "../../../src/audit/seal/index.ts";
import { parseSealerState } from "../../../src/audit/seal/sealer-state.ts";
import { parseSegmentName } from "../../../src/audit/spool/segment.ts";
import { auditSealCodesFrom, auditSealsFrom, decodeEvent, MerkleTree } from "../../../src/events/index.ts";
import { type AuditSeal, checkAuditSeal, encodeAuditSeal, readAuditSeal } from "../../../src/replication/wire/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { evidenceOf, indexOf } from "../proof/proof-support.ts";
import { ModelDisk } from "../spool/model-disk.ts";
import { startSpool } from "../spool/spool-support.ts";
import { decision } from "../support.ts";
import { lineSink, only, SealLog, signerOfNode, type TestSigner } from "./seal-support.ts";

function sealsIn(log: SealLog): readonly AuditSeal[] {
  return log.seals.map(({ previous, bytes }) => {
    const { event } = decodeEvent(bytes, previous);
    assert.ok(event.type === "AuditSegmentSealed" && event.seal !== undefined);
    const checked = checkAuditSeal(event.seal);
    assert.ok(typeof checked !== "string", String(checked));
    assert.equal(event.root, checked.seal.root.toString("hex"));
    return checked.seal;
  });
}

/** The root over what a sink has, computed from the lines alone. */
function rootOf(lines: readonly string[], boot: string): Buffer {
  const tree = new MerkleTree();
  for (const line of lines) {
    const record = JSON.parse(line) as { kind: string; boot: string; seq: number; last?: number };
    if (record.boot !== boot || record.seq <= tree.size) continue;
    if (record.kind === "gap") tree.appendRun(lostLeaf, record.seq - tree.size);
    else {
      const leaf = recordLeafOf(Buffer.from(line));
      assert.ok(leaf !== "not-a-record");
      tree.append(leaf.leaf);
    }
  }
  return tree.root;
}

function firstNumbers({ files }: ModelDisk): number[] {
  return [...files.keys()].flatMap((name) => parseSegmentName(name)?.first ?? []);
}

const start = (disk: ModelDisk, log: SealLog, signer: TestSigner, everyMs = 1, longRecords = 1_000_000) => {
  const sink = lineSink();
  const boot = signer.boot;
  const rig = startSpool(disk, [sink], { boot, seal: { port: log.port(signer), everyMs, longRecords } });
  return rig.then((recorder) => ({
    recorder,
    sink,
    boot,
    ask: (path: string) => recorder.record(decision(path, { boot })),
  }));
};

describe("a boot", () => {
  test("is sealed as it grows, each seal continues the one before, and the last says that it ended", async () => {
    const log = new SealLog();
    const at = await start(new ModelDisk(), log, signerOfNode());
    for (let round = 0; round < 4; round++) {
      for (let n = 0; n < 300; n++) at.ask(`/${round}/${n}`);
      await waitFor("a seal", () => at.recorder.stats().seal?.sealed === round + 1 || log.seals.length > round);
      await delay(5);
    }
    at.ask("/last");
    await at.recorder.close(5_000);
    const seals = sealsIn(log);
    assert.deepEqual(log.refusals, []);
    for (const [index, { previous, marks, size }] of seals.entries()) {
      assert.equal(previous.size, seals[index - 1]?.size ?? 0);
      assert.equal(marks.bytes.length, 4 * Math.ceil((size - previous.size) / marks.leaves));
    }
    assert.equal(seals.at(-1)?.size, 1_201);
    assert.equal(seals.at(-1)?.final, true);
    assert.deepEqual(seals.at(-1)?.root, rootOf(at.sink.lines, at.boot));
    assert.equal(log.projection.auditSeals.tree.size, seals.length);
    assert.deepEqual(at.recorder.failures, []);
  });

  test("that decided nothing seals nothing, and one that decides little seals once in the interval", async () => {
    const log = new SealLog();
    const idle = await start(new ModelDisk(), log, signerOfNode());
    await delay(60);
    await idle.recorder.close(1_000);
    assert.equal(log.seals.length, 0);
    const slow = await start(new ModelDisk(), log, signerOfNode(), 3_600_000);
    for (let n = 0; n < 50; n++) {
      slow.ask(`/${n}`);
      await delay(1);
    }
    assert.equal(log.seals.length, 0);
    await slow.recorder.close(1_000);
    assert.equal(only(sealsIn(log)).size, 50);
  });

  test("below the level, or while the leader is away, records go on, and the next seal covers all", async () => {
    const log = new SealLog();
    log.isReady = false;
    const at = await start(new ModelDisk(), log, signerOfNode());
    for (let n = 0; n < 500; n++) at.ask(`/${n}`);
    await waitFor("the records", () => at.sink.lines.length === 500);
    await waitFor("a pending seal", () => at.recorder.stats().seal?.pending === 1);
    assert.equal(log.seals.length, 0);
    log.isReady = true;
    log.script = ["down", "lost"];
    await waitFor("the seal", () => at.recorder.stats().seal?.pending === 0 && log.seals.length > 0, {
      withinMs: 20_000,
    });
    await at.recorder.close(5_000);
    assert.deepEqual(sealsIn(log).at(-1)?.root, rootOf(at.sink.lines, at.boot));
    assert.deepEqual(log.refusals, [], "a lost answer is sent again unchanged");
  });
});

test("what the spool gives up before it was hashed is in no seal, which says so, and its records are not called altered", async () => {
  const disk = new ModelDisk();
  const log = new SealLog();
  log.isReady = false;
  const lines: string[] = [];
  const open = (bytesMax: number) => {
    const [signer, sink] = [signerOfNode(), lineSink()];
    const seal = { port: log.port(signer), everyMs: 1 };
    return startSpool(disk, [sink], { boot: signer.boot, bytesMax, seal }).then((recorder) => ({ recorder, sink }));
  };
  // So many seals wait for the log that the sealer reads nothing more.
  for (let boot = 1; boot <= 64; boot++) {
    const { recorder, sink } = await open(1_000_000_000);
    recorder.record(decision(`/${boot}`, { boot: recorder.boot }));
    await waitFor("the record", () => sink.lines.length > 0);
    await recorder.close(5_000);
    lines.push(...sink.lines);
  }
  const { recorder, sink } = await open(400_000);
  for (let n = 1; n <= 400; n++) {
    recorder.record(decision(`/${"x".repeat(3_000)}/${n}`, { boot: recorder.boot }));
    if (n % 10 === 0) await waitFor("the records", () => sink.lines.length >= n);
  }
  log.isReady = true;
  await waitFor("all seals", () => recorder.stats().seal?.pending === 0, { withinMs: 20_000 });
  await waitFor("the last records", () => recorder.stats().seal?.unsealed === 0, { withinMs: 20_000 });
  const unhashed = recorder.stats().seal?.unhashed ?? 0;
  assert.ok(unhashed > 100, `${unhashed}`);
  await recorder.close(5_000);
  lines.push(...sink.lines);
  assert.ok(
    recorder.failures.some((line) => /gave up the audit records 1 to \d+ .* no seal will cover them/.test(line)),
  );
  const all = new RecordCheck(indexOf(evidenceOf(log)), { partial: false });
  for (const line of lines) all.take(line);
  const report = all.finish();
  assert.deepEqual(report.findings, []);
  const total = report.boots.reduce((sum, boot) => sum + boot.unhashed, 0);
  assert.deepEqual([report.records, total, report.verified], [464, unhashed, 464 - unhashed]);
});

test("while the log is away, a long segment is sealed all the same, so that its records can be named", async () => {
  const log = new SealLog();
  log.isReady = false;
  const at = await start(new ModelDisk(), log, signerOfNode(), 1, 200);
  for (let round = 1; round <= 3; round++) {
    for (let n = 0; n < 250; n++) at.ask(`/${round}/${n}`);
    await waitFor("a waiting seal", () => (at.recorder.stats().seal?.pending ?? 0) >= round);
  }
  log.isReady = true;
  await waitFor("all seals", () => at.recorder.stats().seal?.pending === 0, { withinMs: 15_000 });
  await at.recorder.close(5_000);
  assert.ok(log.seals.length >= 3);
  assert.deepEqual(sealsIn(log).at(-1)?.root, rootOf(at.sink.lines, at.boot));
  assert.deepEqual(log.refusals, []);
});

test("restarts while the log accepts no seals do not fill the spool with records that every sink has", async () => {
  const disk = new ModelDisk();
  const log = new SealLog();
  log.isReady = false;
  const segments = (): number => [...disk.files.keys()].filter((name) => name.endsWith(".records")).length;
  const lines: string[] = [];
  for (let boot = 1; boot <= 12; boot++) {
    const at = await start(disk, log, signerOfNode());
    at.ask(`/${boot}`);
    await waitFor("the record", () => at.sink.lines.some((line) => line.includes(`"path":"/${boot}"`)));
    if (boot === 12) await waitFor("the removal of what every sink has", () => segments() <= 1, { withinMs: 15_000 });
    lines.push(...at.sink.lines);
    if (boot === 12) log.isReady = true;
    if (boot === 12) await waitFor("all seals", () => at.recorder.stats().seal?.pending === 0, { withinMs: 15_000 });
    await at.recorder.close(5_000);
  }
  const boots = new Set(sealsIn(log).map((seal) => seal.boot));
  assert.equal(boots.size, 12);
  for (const { boot, root, final } of sealsIn(log)) if (final) assert.deepEqual(root, rootOf(lines, boot));
});

test("seals have a code from the level on from which every build of the cluster reads it", async () => {
  const log = new SealLog(auditSealCodesFrom - 1);
  const at = await start(new ModelDisk(), log, signerOfNode());
  at.ask("/first");
  await waitFor("a seal", () => log.seals.length === 1);
  log.record({ type: "UpgradeFinalized", level: auditSealCodesFrom }, null);
  await delay(5);
  at.ask("/second");
  await at.recorder.close(5_000);
  const seals = sealsIn(log);
  assert.equal(seals[0]?.code, null);
  assert.notEqual(seals.at(-1)?.code, null);
  assert.deepEqual(log.refusals, []);
});

describe("after a crash", () => {
  test("the next boot seals what was left, with the numbers that were lost", async () => {
    for (let cut = 0; cut < 6; cut++) {
      const log = new SealLog();
      const disk = new ModelDisk();
      const [first, second] = [signerOfNode(), signerOfNode()];
      const one = await start(disk, log, first, cut % 2 === 0 ? 1 : 3_600_000);
      for (let n = 0; n < 100 + cut; n++) one.ask(`/${n}`);
      await waitFor("the records", () => one.sink.lines.length > 50);
      if (cut > 3) await waitFor("all", () => one.sink.lines.length === 100 + cut);
      log.killed.add(first.boot);
      const left = disk.afterKill(randomFrom(cut + 1));
      await one.recorder.close(0);
      const two = await start(left, log, second);
      two.ask("/again");
      await waitFor("the seal of the first boot", () =>
        sealsIn(log).some(({ boot, final }) => boot === first.boot && final),
      );
      await two.recorder.close(5_000);
      const lines = [...one.sink.lines, ...two.sink.lines];
      for (const { boot } of [first, second])
        assert.deepEqual(sealsIn(log).findLast((seal) => seal.boot === boot)?.root, rootOf(lines, boot));
      const lost = sealsIn(log).flatMap((seal) => (seal.boot === first.boot ? seal.lost : []));
      const gaps = lines.filter((line) => line.includes('"gap"') && line.includes(first.boot));
      assert.equal(only(lost).last, (JSON.parse(only(gaps)) as { last: number }).last, "reserved numbers are lost");
    }
  });
});

test("a boot whose first records had left the spool before there were seals has none, and loses no number to them", async () => {
  const log = new SealLog();
  const disk = new ModelDisk();
  const [first, second] = [signerOfNode(), signerOfNode()];
  const bytesMax = 200_000;
  const before = lineSink();
  const one = await startSpool(disk, [before], { boot: first.boot, bytesMax });
  for (let asked = 0; Math.min(...firstNumbers(disk)) === 1; ) {
    assert.ok(asked < 5_000, "the first segment is removed once the sink has it");
    for (const end = asked + 50; asked < end; asked++) one.record(decision(`/${asked}`, { boot: one.boot }));
    await waitFor("the records to be delivered", () => before.lines.length === asked);
  }
  const left = disk.afterKill(randomFrom(5));
  await one.close(0);
  const two = await start(left, log, second);
  two.ask("/again");
  await waitFor("the seal of the second boot", () => sealsIn(log).some(({ boot }) => boot === second.boot));
  await two.recorder.close(5_000);
  assert.deepEqual(
    sealsIn(log).map(({ boot, lost }) => [boot, lost]),
    sealsIn(log).map(() => [second.boot, []]),
  );
  assert.deepEqual(sealsIn(log).at(-1)?.root, rootOf(two.sink.lines, second.boot));
  assert.deepEqual(two.recorder.failures, []);
});

for (const what of ["nothing", "a failed write", "a crash"] as const) {
  test(`a seal of many records ends at a step within a batch, and ${what} there hashes none twice`, async () => {
    const log = new SealLog();
    const disk = new ModelDisk();
    const [first, second] = [signerOfNode(), signerOfNode()];
    const stepped = (signer: TestSigner) => ({
      boot: signer.boot,
      seal: { port: log.port(signer), everyMs: 1, longRecords: 64, stepRecords: 8 },
    });
    const sink = lineSink();
    const one = await startSpool(disk, [sink], stepped(first));
    let replaced = 0;
    const crashed: ModelDisk[] = [];
    disk.before = (operation, name) => {
      if (operation !== "replace" || name !== "seals.json" || ++replaced === 1) return;
      if (what === "a failed write" && replaced < 5) throw new Error("no space left on device");
      if (what !== "a crash" || crashed.length > 0) return;
      crashed.push(disk.afterKill(randomFrom(7))); // with the state before this one
      log.killed.add(first.boot);
      one.kill();
    };
    for (let n = 0; n < 1_500; n++) one.record(decision(`/${n}`, { boot: one.boot }));
    const lines = sink.lines;
    const [left] = what === "a crash" ? [await waitFor("the crash", () => crashed[0])] : [];
    if (left !== undefined) {
      const state = parseSealerState(await left.readSmall("seals.json"));
      assert.ok(state?.tree != null && state.tree.size % 8 === 0 && state.tree.size < 800, "within the first batch");
      const later = lineSink();
      const two = await startSpool(left, [later], stepped(second));
      two.record(decision("/again", { boot: two.boot }));
      await waitFor("the records of both boots", () => later.lines.length > 0 && two.stats().seal?.unsealed === 0);
      await two.close(5_000);
      assert.deepEqual(two.failures, []);
      lines.push(...later.lines);
    } else {
      const isSealed = (): boolean => one.stats().seal?.unsealed === 0 && one.stats().seal?.pending === 0;
      await waitFor("the records to be sealed", () => lines.length === 1_500 && isSealed());
      await one.close(5_000);
      assert.ok(
        sealsIn(log).some(({ size }) => size < 800 && size % 8 === 0),
        "a seal ends within the first batch",
      );
    }
    const newest = sealsIn(log).findLast(({ boot }) => boot === first.boot);
    assert.ok(newest !== undefined && (left !== undefined || newest.size === 1_500));
    assert.deepEqual(
      newest.root,
      rootOf(
        lines.filter((line) => numberOf(line) <= newest.size),
        first.boot,
      ),
    );
  });
}

const numberOf = (line: string): number => (JSON.parse(line) as { seq: number }).seq;

describe("a spool that was restored from an older copy", () => {
  test("changes nothing in the log; it is reported, and the new boot is sealed", async () => {
    const log = new SealLog();
    const disk = new ModelDisk();
    const [first, second] = [signerOfNode(), signerOfNode()];
    const one = await start(disk, log, first);
    for (let n = 0; n < 50; n++) one.ask(`/${n}`);
    await waitFor("a seal of 50", () => sealsIn(log).some(({ size }) => size === 50));
    const older = disk.afterKill(randomFrom(3));
    for (let n = 0; n < 50; n++) one.ask(`/more/${n}`);
    await one.recorder.close(5_000);
    const before = sealsIn(log).filter(({ boot }) => boot === first.boot);
    assert.equal(before.at(-1)?.size, 100);

    const two = await start(older, log, second);
    two.ask("/again");
    await waitFor("the report", () =>
      two.recorder.failures.some((line) => /seal: the log has another root/.test(line)),
    );
    await two.recorder.close(5_000);
    const after = sealsIn(log);
    assert.deepEqual(
      after.filter(({ boot }) => boot === first.boot),
      before,
    );
    assert.deepEqual(after.at(-1)?.root, rootOf(two.sink.lines, second.boot));
  });
});

describe("the log", () => {
  test("refuses what does not continue it, and what another node has signed", async () => {
    const log = new SealLog();
    const signer = signerOfNode();
    const at = await start(new ModelDisk(), log, signer, 3_600_000);
    for (let n = 0; n < 10; n++) at.ask(`/${n}`);
    await at.recorder.close(5_000);
    const seals = log.projection.auditSeals;
    const [seal] = sealsIn(log);
    assert.ok(seal !== undefined);
    const { event } = decodeEvent(only(log.seals).bytes, only(log.seals).previous);
    assert.ok(event.type === "AuditSegmentSealed" && event.seal !== undefined);
    const sealed = event.seal;
    assert.equal(log.submit(sealed), "done", "a replay changes nothing");
    assert.equal(log.seals.length, 1);
    const tree = MerkleTree.from({ size: seal.size, peaks: seal.peaks });
    tree.append(lostLeaf);
    const next: AuditSeal = {
      ...seal,
      ...{ previous: { size: seal.size, root: seal.root }, size: tree.size, root: tree.root, peaks: tree.peaks },
      ...{ lost: [], marks: { leaves: 1, bytes: Buffer.alloc(4) }, final: false },
    };
    const cases: readonly [string, Uint8Array, RegExp][] = [
      ["another node's key", signerOfNode("node-2").sign(encodeAuditSeal(next)), /another node signed it/],
      [
        "a stranger's key",
        signerOfNode("node-1", { secret: Buffer.alloc(32, 1) }).sign(encodeAuditSeal(next)),
        /not signed by this cluster/,
      ],
      [
        "altered",
        Uint8Array.from(signer.sign(encodeAuditSeal(next)), (byte, index) => (index === 300 ? byte ^ 1 : byte)),
        /bad signature|malformed|not authentic/,
      ],
      ["after the end", signer.sign(encodeAuditSeal(next)), /has ended/],
    ];
    for (const [what, envelope, why] of cases) {
      let refusal = "";
      try {
        assert.equal(log.submit(envelope), "refused", what);
        refusal = log.refusals.at(-1) ?? "";
      } catch (error) {
        refusal = String(error);
      }
      assert.match(refusal, why, what);
    }
    assert.equal(seals.count, 1);
    const other = signerOfNode();
    const own = { ...next, boot: other.boot, final: false };
    assert.equal(log.submit(other.sign(encodeAuditSeal(own))), "refused", "a boot begins at its first number");
    assert.match(log.refusals.at(-1) ?? "", /another history/);
    assert.equal(log.submit(sealed, "00000000-0000-4000-8000-000000000001" as never), "refused");
    for (const level of [auditSealsFrom - 1, auditSealCodesFrom - 1]) {
      const low = new SealLog(level);
      assert.equal(low.submit(sealed), "refused");
      assert.match(low.refusals.at(-1) ?? "", /cardea cluster finalize/);
    }
  });

  test("that lost more than a hundred seals, as a restored backup has, gets them again from where it is", async () => {
    const log = new SealLog();
    const signer = signerOfNode();
    const disk = new ModelDisk();
    const at = await start(disk, log, signer, 1);
    for (let n = 1; n <= 140; n++) {
      at.ask(`/${n}`);
      await waitFor("its seal", () => at.recorder.stats().seal?.sealed === n, { everyMs: 1 });
    }
    log.loseAfter(3);
    at.ask("/more");
    await waitFor("the seal after the loss", () => (sealsIn(log).at(-1)?.size ?? 0) >= 141, { withinMs: 20_000 });
    await at.recorder.close(5_000);
    assert.deepEqual(sealsIn(log).at(-1)?.root, rootOf(at.sink.lines, at.boot));
    assert.equal(at.recorder.stats().seal?.forks, 0);
  });

  test("that lost seals gets them again, from where it is", async () => {
    const log = new SealLog();
    const at = await start(new ModelDisk(), log, signerOfNode());
    for (let n = 0; n < 10; n++) at.ask(`/${n}`);
    await waitFor("a seal", () => log.seals.length > 0 && at.recorder.stats().seal?.pending === 0);
    log.loseAfter(1);
    at.ask("/more");
    await waitFor("another seal", () => log.seals.length > 0, { withinMs: 20_000 });
    await at.recorder.close(5_000);
    const last = sealsIn(log).at(-1);
    assert.deepEqual(last?.root, rootOf(at.sink.lines, at.boot));
    assert.equal(sealsIn(log)[0]?.previous.size, 0);
  });

  test("with another root for the same numbers stops the boot, and it is reported", async () => {
    const log = new SealLog();
    const signer = signerOfNode();
    const forged = new MerkleTree();
    forged.appendRun(lostLeaf, 5);
    const { root, peaks } = forged;
    const intruder = signerOfNode(); // a later boot of the same node may seal for an earlier one
    const seal: AuditSeal = {
      ...{
        node: signer.node,
        boot: signer.boot,
        previous: { size: 0, root: new MerkleTree().root },
        size: 5,
        root,
        peaks,
      },
      ...{
        final: false,
        atMs: 1,
        lost: [],
        lostMore: false,
        unhashed: [],
        marks: { leaves: 1, bytes: Buffer.alloc(0) },
        code: null,
      },
    };
    assert.equal(log.submit(intruder.sign(encodeAuditSeal(seal))), "done");
    const at = await start(new ModelDisk(), log, signer);
    for (let n = 0; n < 5; n++) at.ask(`/${n}`);
    await waitFor("the report", () => at.recorder.failures.some((line) => /seal: the log has another root/.test(line)));
    assert.equal(at.recorder.stats().seal?.forks, 1);
    for (let n = 0; n < 5; n++) at.ask(`/more/${n}`);
    await at.recorder.close(5_000);
    assert.equal(at.sink.lines.length, 10, "records are delivered all the same");
    assert.equal(log.seals.length, 1);
  });
});

test("an erased line has the leaf of the line, and no personal member can be changed in it", () => {
  const line = Buffer.from(
    JSON.stringify({
      kind: "decision",
      seq: 1,
      ...decision('/secret,"\\', { userAgent: 'a"}\\' }),
      trace: { rules: [[], {}] },
    }),
  );
  const erased = eraseLine(line);
  assert.ok(erased !== undefined);
  assert.equal(/secret|192\.0|request-1|userAgent|trace/.test(erased.toString()), false);
  assert.deepEqual(Object.keys(JSON.parse(erased.toString())).slice(-2), ["overdueMs", "erased"]);
  const [whole, rest] = [recordLeafOf(line), recordLeafOf(erased)];
  assert.ok(whole !== "not-a-record" && rest !== "not-a-record");
  assert.deepEqual(rest.leaf, whole.leaf);
  assert.deepEqual([whole.erased, rest.erased], [false, true]);
  assert.deepEqual(eraseLine(erased), erased, "erasing twice changes nothing");
  const changed = Buffer.from(erased.toString().replace('"permit"', '"deny"'));
  const leaf = recordLeafOf(changed);
  assert.ok(leaf !== "not-a-record" && !leaf.leaf.equals(whole.leaf), "what is public is still proven");
  const text = erased.toString();
  const refused = [
    text.replace(/}$/, ',"ip":"1.2.3.4"}'),
    text.replace("{", '{"ip":"1.2.3.4",'),
    text.replace(/"erased":"./, '"erased":"'),
    text.replace(/"erased":".*"/, '"erased":1'),
    text.replace(/("erased":"[^"]*")/, "$1,$1"),
    "",
    "{",
    "[]",
    '{"a":}',
    '{"a":1,}',
    '{"a":1 }',
    '{"a" :1}',
    '{"a":[1}',
    '{"a":"b}',
    '{"a":b:c}',
  ];
  for (const bad of refused) assert.equal(recordLeafOf(Buffer.from(bad)), "not-a-record", bad);
});

test("a seal is refused whose parts contradict each other", () => {
  const tree = new MerkleTree();
  tree.appendRun(lostLeaf, 9);
  const good: AuditSeal = {
    ...{ node: "node-1" as never, boot: "boot-1" as never, previous: { size: 0, root: new MerkleTree().root } },
    ...{ size: 9, root: tree.root, peaks: tree.peaks, final: false, atMs: 1 },
    ...{
      lost: [{ first: 1, last: 9 }],
      lostMore: false,
      unhashed: [],
      marks: { leaves: 4, bytes: Buffer.alloc(12) },
      code: null,
    },
  };
  const signer = signerOfNode();
  const read = (seal: AuditSeal) => () => readAuditSeal(signer.sign(encodeAuditSeal(seal)));
  const code = { leaves: 64, bytes: Buffer.alloc(256, 7) };
  const coded: AuditSeal = { ...good, code, lost: [], unhashed: [{ first: 2, last: 5 }] };
  for (const seal of [good, coded]) assert.deepEqual(read(seal)(), seal);
  const bad: Partial<AuditSeal>[] = [
    { size: 8 },
    { size: 0 },
    { size: 2 ** 52 },
    { previous: { size: 9, root: tree.root } },
    { previous: { size: 0, root: tree.root } },
    { root: Buffer.alloc(32) },
    { peaks: [] },
    { lost: [{ first: 2, last: 10 }] },
    { lost: [{ first: 3, last: 2 }] },
    {
      lost: [
        { first: 1, last: 3 },
        { first: 3, last: 4 },
      ],
    },
    { lost: Array.from({ length: 65 }, (_, at) => ({ first: at + 1, last: at + 1 })) },
    { marks: { leaves: 3, bytes: Buffer.alloc(12) } },
    { marks: { leaves: 4, bytes: Buffer.alloc(16) } },
    { marks: { leaves: 0, bytes: Buffer.alloc(0) } },
    { atMs: -1 },
    { code, unhashed: [{ first: 5, last: 10 }] },
    { code: { leaves: 3, bytes: Buffer.alloc(0) } },
    { code: { leaves: 64, bytes: Buffer.alloc(255) } },
    { code: { leaves: 4, bytes: Buffer.alloc(256) } },
    { code: { leaves: 2 ** 48, bytes: Buffer.alloc(512) } },
  ];
  for (const parts of bad) assert.throws(read({ ...good, ...parts }), /seal of audit records/, JSON.stringify(parts));
});
