/** Pages of a regional broker while deliveries are lost: no reader is sent to a snapshot because of them. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { openRegionCopy } from "../../../src/broker/index.ts";
import { RegionDriver } from "../../../src/broker/region/region-driver.ts";
import { genesis, type Link, Projection, parseBootId, parseBrokerId } from "../../../src/events/index.ts";
import type { Databroker, Logger, PageOutcome } from "../../../src/replication/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { answererOf, createBrokerOpener } from "../../../src/replication/wire/index.ts";
import { cluster, type History, history, quiet, secret } from "../../replication/support.ts";
import { TemporaryFolder } from "../../support/child.ts";

const log = history(60);
const signer = answererOf({
  cluster,
  name: parseBrokerId("region-broker"),
  boot: parseBootId("0".repeat(32)),
  secret,
  seed: new Uint8Array(32),
});
const request = { limit: 100, waitMs: 0 };

/** A region with its own projection at a position, and the answers of its home region. */
function region(
  t: TestContext,
  answer: (of: History, after: Link, limit: number) => PageOutcome = honest,
  { disk, logger = quiet }: Readonly<{ disk?: string; logger?: Logger }> = {},
) {
  const folder = new TemporaryFolder("region-pages");
  const copy = openRegionCopy({ path: join(disk ?? folder.path, "region.sqlite"), cluster });
  const read: Databroker["read"] = async (after, { limit }) => answer(log, after, limit);
  const pages = new RegionDriver({
    copy,
    logger,
    mark: { leftBehind: false, set() {}, clear() {} },
    home: () => ({ read }) as Databroker,
    clock: systemClock,
    version: "test",
    renewMs: 1_000,
    openBroker: createBrokerOpener({ cluster, secrets: [secret] }),
    openNode: () => ({ refused: "no node speaks here" }),
    signer: signer,
    revocations: null,
  });
  const own = { applied: genesis, readNow() {}, projection: new Projection(), lease: () => null };
  pages.setReplica(own);
  t.after(() => {
    void pages.stop();
    copy.close();
    folder.remove();
  });
  const standsAt = (position: number): void => {
    own.applied = log.linkAt(position);
  };
  return { copy, pages, standsAt };
}

function honest(of: History, after: Link, limit: number): PageOutcome {
  const outcome = of.read(after, limit);
  return outcome.type === "page" ? { type: "page", page: { ...outcome.page, keys: [] } } : outcome;
}

async function reads(pages: RegionDriver, after: number): Promise<readonly [number, number]> {
  const outcome = await pages.read(log.linkAt(after), { ...request, waitMs: 5_000 });
  assert.ok(outcome.type === "page", `a node at ${after} gets ${outcome.type}`);
  return [outcome.page.previous.position, outcome.page.last.position];
}

test("a projection ahead of the copy, after held deliveries were applied, costs no reader its position", async (t) => {
  const { copy, pages, standsAt } = region(t);
  await pages.readForOwn(genesis, { ...request, limit: 20 });
  standsAt(30); // a page up to 20, and ten deliveries that had arrived before it
  await pages.readForOwn(log.linkAt(30), request);
  assert.deepEqual(await reads(pages, 20), [20, 60]);
  assert.deepEqual([copy.base, copy.head], [genesis, log.linkAt(60)], "nothing of it has been dropped");
});

test("events that the home region has dropped are dropped here too, and the copy continues from its projection", async (t) => {
  const { copy, pages, standsAt } = region(t, (of, after, limit) =>
    after.position < 40 && after.position > 0
      ? { type: "truncated", first: of.linkAt(41).position }
      : honest(of, after, limit),
  );
  await pages.readForOwn(genesis, { ...request, limit: 20 });
  standsAt(50); // by a snapshot
  await pages.readForOwn(log.linkAt(50), { ...request, limit: 4 });
  while (copy.base.position === 0) await new Promise(setImmediate);
  await pages.readForOwn(log.linkAt(50), { ...request, limit: 4 });
  assert.deepEqual([copy.base, copy.head], [log.linkAt(50), log.linkAt(54)]);
  assert.equal((await pages.read(log.linkAt(20), request)).type, "truncated");
});

test("an empty copy starts at its projection's position", async (t) => {
  const { copy, pages, standsAt } = region(t);
  standsAt(50);
  await pages.readForOwn(log.linkAt(50), request);
  assert.deepEqual([copy.base, copy.head], [log.linkAt(50), log.linkAt(60)]);
});

test("a node with a lost suffix learns of the fork although the surviving events are older, because the copy is of a newer epoch", async (t) => {
  const lost = log.fork(20).open(2).open(3);
  const survivor = log.fork(40).open(4);
  const { pages } = region(t, (_, after, limit) => honest(survivor, after, limit));
  await pages.readForOwn(genesis, request);
  assert.deepEqual(await pages.read(lost.head, request), { type: "forked", head: survivor.head });
  const later = log.fork(20).open(5);
  await assert.rejects(pages.read(later.head, request), /has not reached that position/, "here the copy lags");
});

test("a full disk stops only the copy: the projection reads on, the failure is logged once, and the copy is filled when there is room", {
  skip: process.getuid?.() !== 0 ? "mounting a small disk needs root" : false,
}, async (t) => {
  const folder = new TemporaryFolder("region-full");
  const disk = join(folder.path, "small");
  mkdirSync(disk);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", disk]);
  const said: string[] = [];
  const logger = { ...quiet, error: (_fields: object, message: string) => void said.push(message) };
  const { copy, pages, standsAt } = region(t, honest, { disk, logger });
  t.after(() => {
    execFileSync("umount", ["-l", disk]);
    folder.remove();
  });
  await pages.readForOwn(genesis, { ...request, limit: 20 });
  assert.equal(copy.head.position, 20);

  const filler = join(disk, "filler");
  assert.throws(() => writeFileSync(filler, Buffer.alloc(1_000_000)), { code: "ENOSPC" });
  for (const [from, to] of [
    [20, 40],
    [40, 60],
  ] as const) {
    const outcome = await pages.readForOwn(log.linkAt(from), { ...request, limit: 20 });
    assert.ok(
      outcome.type === "page" && outcome.page.last.position === to,
      "the projection gets the events of the home region",
    );
    standsAt(to);
  }
  assert.deepEqual(copy.head, log.linkAt(20), "the copy stores no part of a page");
  assert.deepEqual(await reads(pages, 10), [10, 20]);
  assert.equal(said.length, 1);
  assert.match(said.join(), /could not write the region's copy of the log; free some space in the data folder/);
  assert.ok((pages.core.counts(systemClock.monotonic())["copyNotKept"] ?? 0) >= 2);

  rmSync(filler);
  await pages.readForOwn(log.linkAt(60), request);
  assert.deepEqual(await reads(pages, 20), [20, 60]);
  assert.deepEqual([copy.base, copy.head], [genesis, log.linkAt(60)]);
});
