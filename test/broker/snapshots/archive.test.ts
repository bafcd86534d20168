/** The archive of a broker: what retention drops can still be read, as long as the archive is kept. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { planArchive } from "../../../src/broker/snapshots/archive-plan.ts";
import { archiveEvents } from "../../../src/broker/snapshots/event-archiver.ts";
import {
  decode,
  decodeEvents,
  encode,
  genesis,
  type Link,
  type Position,
  type UnixMs,
} from "../../../src/events/index.ts";
import { createMemoryLog, openSqliteLog } from "../../../src/replication/log/index.ts";
import { parseBlockName } from "../../../src/replication/snapshot/event-block.ts";
import {
  createLogArchive,
  type LogArchive,
  type SignedManifest,
  type SnapshotSupply,
} from "../../../src/replication/snapshot/index.ts";
import { createBrokerOpener } from "../../../src/replication/wire/index.ts";
import { cluster, secret } from "../support.ts";
import { longAfter, office } from "./support.ts";

const dayMs = 86_400_000;
const kept = { archiveMs: 90 * dayMs, bytesMax: 1_000_000_000 };
const open = createBrokerOpener({ cluster, secrets: [secret] });
type Office = Awaited<ReturnType<typeof office>>;

/** Takes snapshots until retention has dropped events. @returns the links at each snapshot */
async function untilDropped(world: Office, rounds = 4): Promise<readonly Link[]> {
  const links: Link[] = [];
  for (let n = 0; n < rounds; n++) {
    links.push(await world.append(12));
    world.at((longAfter + n * dayMs) as UnixMs);
    await world.run();
  }
  assert.ok((await world.begins()) > 0);
  return links;
}

/** Reads archived events from a link to another. */
async function readTo(archive: LogArchive, from: Link, to: Position): Promise<Link> {
  let link = from;
  while (link.position < to) {
    const entries = await archive.eventsAfter(link);
    assert.ok(entries !== null, `nothing follows ${link.position}`);
    const last = decodeEvents(entries, link).at(-1);
    assert.ok(last !== undefined);
    link = { epoch: last.epoch, position: last.position, hash: last.hash };
  }
  return link;
}

const logs = {
  memory: async () => createMemoryLog(),
  async file(t: TestContext) {
    const folder = mkdtempSync(join(tmpdir(), "cardea-archive-"));
    const log = await openSqliteLog({ path: join(folder, "log.db"), cluster });
    t.after(async () => {
      await log.close();
      rmSync(folder, { recursive: true, force: true });
    });
    return log;
  },
};
for (const [kind, openLog] of Object.entries(logs))
  test(`events are archived before they are dropped, and lead from the first one to the log as it begins now: ${kind}`, async (t) => {
    const world = await office(t, { archive: kept, log: await openLog(t) });
    await untilDropped(world);
    const archive = createLogArchive({ supply: world.shelf.supply, open });
    const base = await world.log.base();
    assert.ok(base.position > 12);
    const reached = await readTo(archive, genesis, base.position);
    assert.deepEqual(await world.log.linkAt(reached.position), reached, "the archived events are those of the log");
    const backwards = await archive.eventsUpTo(reached);
    assert.equal(backwards?.events.at(-1)?.hash, reached.hash);
    assert.deepEqual(world.told, []);
  });

test("a snapshot of each day stays with the events after it, and any position can be read from one", async (t) => {
  const world = await office(t, { archive: kept });
  const links = await untilDropped(world, 6);
  const archive = createLogArchive({ supply: world.shelf.supply, open });
  const { signal } = new AbortController();
  for (const link of links.slice(0, 4)) {
    const found = await archive.snapshotUpTo({ position: (link.position + 3) as Position }, signal);
    assert.deepEqual(found?.link, link);
    const inBetween = await readTo(archive, link, (link.position + 1) as Position);
    assert.ok(inBetween.position > link.position);
  }
  const byTime = await archive.snapshotUpTo({ at: (longAfter + 1.5 * dayMs) as UnixMs }, signal);
  assert.deepEqual(byTime?.link, links[1]);
  assert.equal(await archive.snapshotUpTo({ position: 3 as Position }, signal), null, "it must be read from the start");
});

test("without an archive nothing is kept, and events are dropped as before", async (t) => {
  const world = await office(t, { archive: { archiveMs: 0, bytesMax: 1 } });
  await untilDropped(world);
  const archive = createLogArchive({ supply: world.shelf.supply, open });
  assert.equal(await archive.eventsAfter(genesis), null);
  assert.equal((await world.folder.list()).snapshots.length, 3);
});

test("while events cannot be archived, none is dropped", async (t) => {
  const world = await office(t, { archive: kept });
  const put = world.disk.put.bind(world.disk);
  world.disk.put = () => Promise.reject(new Error("no space"));
  for (let n = 0; n < 3; n++) {
    await world.append(12);
    await world.run();
  }
  assert.equal(await world.begins(), 0);
  assert.match(world.told.join("\n"), /could not archive old events/);
  assert.equal(world.told.length, 1, "said once");
  world.disk.put = put;
  await world.run();
  assert.ok((await world.begins()) > 0);
});

test("a broker that does not lead archives by itself, and serves what the former leader dropped", async (t) => {
  const log = createMemoryLog();
  const led = (): SnapshotSupply => leader.shelf.supply;
  const follower = await office(t, {
    ...{ archive: kept, log },
    others: {
      manifest: (newerThan) => led().manifest(newerThan),
      chunk: (hash) => led().chunk(hash),
      keysAfter: (user, limit) => led().keysAfter(user, limit),
    },
  });
  const leader = await office(t, { archive: kept, log }); // it opens the newer epoch
  leader.nodeNeeds(0);
  const round = async (): Promise<void> => {
    await leader.append(12);
    await leader.run();
    await follower.shelf.refresh(new AbortController().signal);
    await follower.shelf.archive();
  };
  for (let n = 0; n < 5; n++) await round();
  leader.nodeNeeds(Number.MAX_SAFE_INTEGER);
  await leader.run();
  const base = await leader.log.base();
  assert.ok(base.position > 0);
  const archive = createLogArchive({ supply: follower.shelf.supply, open });
  assert.deepEqual(await readTo(archive, genesis, base.position), base);

  const late = await office(t, { archive: kept, log, others: leader.shelf.supply });
  await late.shelf.refresh(new AbortController().signal);
  await late.shelf.archive();
  const hole = createLogArchive({ supply: late.shelf.supply, open });
  assert.equal(await hole.eventsAfter(genesis), null, "a broker that came later has what it saw");
});

test("blocks of a history that was lost are removed, and the true events take their place", async (t) => {
  const lost = await office(t, { archive: kept });
  await untilDropped(lost);
  const world = await office(t, { archive: kept, path: lost.folder.path });
  await untilDropped(world, 5);
  const archive = createLogArchive({ supply: world.shelf.supply, open });
  const base = await world.log.base();
  assert.deepEqual(await readTo(archive, genesis, base.position), base);
});

test("a damaged block is never served, and what is missing is not replaced by anything else", async (t) => {
  const world = await office(t, { archive: kept });
  await untilDropped(world);
  const [first = ""] = readdirSync(world.disk.path).sort();
  const file = join(world.disk.path, first);
  const bytes = readFileSync(file);
  bytes[bytes.length - 20] = (bytes[bytes.length - 20] ?? 0) ^ 1;
  writeFileSync(file, bytes);
  const archive = createLogArchive({ supply: world.shelf.supply, open });
  assert.equal(await archive.eventsAfter(genesis), null);
  assert.ok(!readdirSync(world.disk.path).includes(first), "so that another broker may send it");
});

test("a block that another build has written is not served, and stays", async (t) => {
  const world = await office(t, { archive: kept });
  await untilDropped(world);
  const [first = ""] = readdirSync(world.disk.path).sort();
  const file = join(world.disk.path, first);
  const fields = decode(zstdDecompressSync(readFileSync(file))) as unknown[];
  writeFileSync(file, zstdCompressSync(encode(fields.with(1, Number(fields[1]) + 1))));
  const name = parseBlockName(first) ?? assert.fail();
  await assert.rejects(world.disk.read(name), { code: "ERR_REPLICATION_EVENT_BLOCK" });
  assert.ok(readdirSync(world.disk.path).includes(first));
  writeFileSync(file, zstdCompressSync(encode(fields.with(3, "no events"))));
  assert.equal(await world.disk.read(name), undefined, "for every build it is none");
  assert.ok(!readdirSync(world.disk.path).includes(first));
});

test("a block for another link, or from a source that lies, does not count", async (t) => {
  const world = await office(t, { archive: kept });
  await untilDropped(world);
  const other = await office(t, { archive: kept });
  await untilDropped(other);
  const archive = createLogArchive({ supply: other.shelf.supply, open });
  const own = createLogArchive({ supply: world.shelf.supply, open });
  const link = await readTo(own, genesis, 1 as Position);
  assert.ok((await own.eventsAfter(link)) !== null);
  assert.equal(await archive.eventsAfter(link), null, "its events follow another link");
  const garbage = createLogArchive({
    supply: { ...world.shelf.supply, eventsAt: async () => Buffer.from("no block") },
    open,
  });
  await assert.rejects(garbage.eventsAfter(genesis), { code: "ERR_REPLICATION_EVENT_BLOCK" });
});

test("the bound in bytes removes the oldest day with its events, and leaves no hole", () => {
  const at = (position: number, day: number): SignedManifest =>
    ({
      id: String(position),
      manifest: {
        link: { epoch: 1, position, hash: "" },
        takenAt: longAfter + day * dayMs,
        chunks: [{ hash: String(position), bytes: 100 }],
      },
    }) as unknown as SignedManifest;
  const snapshots = [at(60, 6), at(50, 5), at(40, 4), at(30, 3), at(20, 2), at(10, 1)];
  const blocks = [10, 20, 30, 40, 50].map((last) => ({
    ...{ file: String(last), first: (last - 9) as Position, lastAt: 0 as UnixMs, bytes: 50 },
    last: { epoch: 1, position: last, hash: "" } as unknown as Link,
  }));
  const plan = (archiveMs: number, bytesMax: number) =>
    planArchive({
      ...{ snapshots, blocks, newestKept: 3, rules: { archiveMs, bytesMax } },
      now: (longAfter + 6 * dayMs) as UnixMs,
    });
  const all = plan(90 * dayMs, 10_000);
  assert.deepEqual([all.from, all.keep.length, all.drop.length, all.bytes], [0, 6, 0, 550]);
  const tight = plan(90 * dayMs, 450);
  assert.deepEqual([tight.from, tight.drop.map(({ file }) => file)], [20, ["10", "20"]]);
  const short = plan(3.5 * dayMs, 10_000);
  assert.deepEqual([short.from, short.drop.map(({ file }) => file)], [20, ["10", "20"]], "the newest from before");
  const none = plan(90 * dayMs, 10);
  assert.equal(none.keep.length, 3, "the newest three stay in any case");
});

test("a large log is archived over several calls, each of which leaves the disk as it must be", async (t) => {
  const world = await office(t, { archive: kept, hold: "everything" });
  const head = await world.append(30);
  const parts = { log: world.log, disk: world.disk, turn: async () => {} };
  const reached: number[] = [];
  for (let n = 0; n < 5; n++)
    reached.push((await archiveEvents(head.position, parts, { blockEvents: 4, blocks: 2 })).position);
  assert.deepEqual(reached, [8, 16, 24, head.position, head.position]);
  const archive = createLogArchive({
    supply: { ...world.shelf.supply, eventsAt: async (position) => (await world.disk.packedAt(position)) ?? null },
    open,
  });
  assert.deepEqual(await readTo(archive, genesis, head.position), head);
});
