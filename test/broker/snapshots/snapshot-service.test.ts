/**
 * The leader's snapshot duty on a real log and disk: when it takes snapshots, and which events it drops. The test
 * controls the time and the nodes.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { retentionFloor } from "../../../src/broker/snapshots/snapshot-service.ts";
import { genesis, type Link, type Position, type UnixMs } from "../../../src/events/index.ts";
import type { LesseeStatus } from "../../../src/replication/lease/index.ts";
import {
  createMemoryLog,
  type EventLog,
  type RetainOutcome,
  type RetainRequest,
} from "../../../src/replication/log/index.ts";
import { office } from "./support.ts";

test("events are dropped once two snapshots cover them, up to the older one", async (t) => {
  const world = await office(t);
  const first = await world.append(12);
  await world.run();
  assert.deepEqual(world.recorded, [first.position], "the log says that it was taken");
  assert.equal(await world.begins(), 0, "one snapshot allows no dropping");
  await world.append(5);
  await world.run();
  assert.equal(world.recorded.length, 1, "no snapshot is due");
  await world.append(5);
  await world.run();
  assert.equal(world.recorded.length, 2);
  assert.equal(await world.begins(), first.position);
  assert.deepEqual(world.told, []);
});

test("no event is dropped that a node with a lease must still read, that is young, or during a legal hold", async (t) => {
  const world = await office(t);
  world.nodeNeeds(7);
  for (let n = 0; n < 3; n++) {
    await world.append(12);
    await world.run();
  }
  assert.equal(await world.begins(), 7);
  world.nodeNeeds(1_000_000);
  await world.run();
  assert.equal(await world.begins(), world.recorded[1]);

  const young = await office(t, { retentionMs: 3_600_000 });
  young.at(Date.now() as UnixMs);
  const held = await office(t, { hold: "everything" });
  for (const each of [young, held]) {
    for (let n = 0; n < 3; n++) {
      await each.append(12);
      await each.run();
    }
    assert.equal(each.recorded.length, 3);
    assert.equal(await each.begins(), 0);
  }
});

test("a silent node holds retention back only until it is fenced", () => {
  const standing = (applied: number, fencedInMs: number | null) =>
    ({ fencedInMs, renew: { applied: { position: applied } }, enforced: null }) as unknown as LesseeStatus;
  const head = 100 as Position;
  assert.equal(retentionFloor([], head), 100);
  assert.equal(retentionFloor([standing(40, 5_000), standing(90, 5_000)], head), 40);
  assert.equal(
    retentionFloor([standing(40, 0), standing(90, 5_000)], head),
    90,
    "a fenced node restarts from a snapshot",
  );
  assert.equal(retentionFloor([standing(0, null)], head), 0, "the node's position is not known yet");
});

test("snapshots of another history allow no dropping, are neither served nor loaded, and are deleted once there is a newer one", async (t) => {
  const lost = await office(t);
  for (let n = 0; n < 3; n++) {
    await lost.append(12);
    await lost.run();
  }
  const world = await office(t, { path: lost.folder.path });
  await world.append(5);
  await world.run();
  assert.equal(await world.begins(), 0);
  assert.equal(await world.shelf.supply.manifest(0 as Position), null);
  assert.equal(await world.shelf.load(1 as Position), null);
  assert.match(world.told.join("\n"), /another history of the log/);
  await world.append(6);
  await world.run();
  assert.deepEqual(
    (await world.folder.list()).snapshots.map(({ manifest }) => manifest.link.position),
    [12],
    "only the snapshot of this log is left",
  );
  assert.equal((await world.shelf.load(1 as Position))?.link.position, 12);
});

test("a damaged snapshot allows no dropping, and another one is taken", async (t) => {
  const world = await office(t, { hold: "everything" });
  await world.append(12);
  await world.run();
  await world.append(12);
  await world.run();
  // A restarted process has read nothing back yet.
  const again = await office(t, { path: world.folder.path, log: world.log });
  const [newest] = (await again.folder.list()).snapshots;
  const { hash } = newest?.manifest.chunks.at(-1) ?? assert.fail();
  writeFileSync(join(again.folder.path, "chunks", hash), randomBytes(100));
  await again.append(1);
  await again.run();
  assert.match(again.told.join("\n"), /is damaged; taking another/);
  assert.equal(again.recorded.length, 1, "at once, after only one more event");
  assert.equal(await again.begins(), 0, "a damaged snapshot allows no dropping");
  assert.equal((await again.shelf.load(1 as Position))?.link.position, again.recorded[0]);
});

test("a broker whose newest snapshot is damaged fetches the same one from another broker", async (t) => {
  const leader = await office(t);
  await leader.append(12);
  await leader.run();
  const follower = await office(t, { log: leader.log, others: leader.shelf.supply });
  assert.ok(await follower.shelf.refresh(new AbortController().signal));
  const [copy] = (await follower.folder.list()).snapshots;
  const { chunks, link } = copy?.manifest ?? assert.fail();
  writeFileSync(join(follower.folder.path, "chunks", chunks[0]?.hash ?? ""), randomBytes(100));
  assert.equal((await follower.shelf.load(12 as Position))?.link.position, link.position);
  assert.match(follower.told.join("\n"), /is damaged; ignoring it/);
  assert.deepEqual((await follower.folder.list()).snapshots.length, 1);
});

test("a snapshot that could not be saved leaves no chunks, and the next one is taken as usual", async (t) => {
  const world = await office(t);
  await world.append(12);
  const { putManifest } = world.folder;
  world.folder.putManifest = () => Promise.reject(new Error("no space"));
  await assert.rejects(world.run(), /no space/);
  assert.deepEqual(readdirSync(join(world.folder.path, "chunks")), []);
  assert.deepEqual((await world.folder.list()).snapshots, []);
  world.folder.putManifest = putManifest;
  await world.run();
  assert.equal(world.recorded.length, 1);
});

test("a requested snapshot is taken on the next turn; a deposed broker takes none", async (t) => {
  const world = await office(t);
  const { position } = await world.append(3);
  await world.run();
  assert.deepEqual(world.recorded, []);
  assert.equal(world.shelf.requestSnapshot(position), position);
  const over = new AbortController();
  over.abort();
  await assert.rejects(world.run(over.signal), { code: "ERR_REPLICATION_SNAPSHOT_CANCELLED" });
  await world.run();
  assert.deepEqual(world.recorded, [position]);
  await world.run();
  assert.equal(world.recorded.length, 1);
});

test("a snapshot whose position the log loses after the last check allows no dropping", async (t) => {
  const log = createMemoryLog();
  let held: Link | undefined;
  /**
   * The request relies on a position, at which the log, restored from an older backup, now holds another event.
   */
  function retain(request: RetainRequest): Promise<RetainOutcome> {
    const { holding } = request;
    assert.ok(holding !== undefined);
    if (held !== undefined) return log.retain(request);
    held = holding;
    return log.retain({ ...request, holding: { ...holding, hash: genesis.hash } });
  }
  const restored: EventLog = new Proxy(log, {
    get(of, name) {
      const value: unknown = Reflect.get(of, name, of);
      return name === "retain" ? retain : typeof value === "function" ? value.bind(of) : value;
    },
  });
  const world = await office(t, { log: restored });
  const older = await world.append(12);
  await world.run();
  await world.append(12);
  await world.run();
  assert.equal(await world.begins(), 0);
  assert.deepEqual(held, await log.linkAt(older.position), "it relies on the older snapshot");
  await world.run();
  assert.equal(await world.begins(), older.position);
});
