/** The copy of the log on a regional broker's disk: correct or discarded, never a mixture of two histories. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openAgeMark, openRegionCopy, type RegionCopy } from "../../../src/broker/index.ts";
import { genesis, type Position } from "../../../src/events/index.ts";
import { type History, history } from "../../replication/support.ts";
import { TemporaryFolder } from "../../support/child.ts";

const log = history(40);
const at = (position: number): Position => position as Position;

function pageOf(of: History, after: number, upTo: number) {
  const entries = of.entries.slice(after, upTo).map(({ bytes }) => bytes);
  const [previous, last] = [after === 0 ? genesis : of.linkAt(after), of.linkAt(upTo)];
  return { previous, entries, last, keys: [] };
}

function withCopy(act: (copy: RegionCopy, path: string) => void): void {
  const folder = new TemporaryFolder("region-copy");
  const path = join(folder.path, "region.sqlite");
  const copy = openRegionCopy({ path, cluster: "test" });
  try {
    act(copy, path);
  } finally {
    copy.close();
    folder.remove();
  }
}

test("stored events are read unchanged in pages of any size, and survive a restart", () =>
  withCopy((copy, path) => {
    copy.take(pageOf(log, 0, 25));
    assert.equal(copy.follow(pageOf(log, 25, 40)), true);
    const again = openRegionCopy({ path, cluster: "test" });
    assert.deepEqual(again.head, log.linkAt(40));
    const read = again.read(log.linkAt(10), 7);
    assert.ok(read.type === "page");
    assert.deepEqual(read.page.last, log.linkAt(17));
    assert.deepEqual(
      read.page.entries.map((bytes) => Buffer.from(bytes)),
      log.entries.slice(10, 17).map(({ bytes }) => Buffer.from(bytes)),
    );
    again.close();
    const another = openRegionCopy({ path, cluster: "another" });
    assert.equal(another.head.position, 0, "nothing of another cluster is kept");
    another.close();
  }));

test("events that do not follow the copy's head are refused, and events that do not chain change nothing", () =>
  withCopy((copy) => {
    copy.take(pageOf(log, 0, 10));
    assert.equal(copy.follow(pageOf(log, 12, 20)), false, "a gap");
    const { previous, entries, last, keys } = pageOf(log, 10, 20);
    assert.throws(() => copy.follow({ previous, entries: [...entries.slice(1), Uint8Array.of(1)], last, keys }));
    assert.deepEqual(copy.head, log.linkAt(10));
  }));

test("events that a page of the home region contradicts are replaced by the page", () =>
  withCopy((copy) => {
    copy.take(pageOf(log, 0, 40));
    const fork = log.fork(20).open(2);
    copy.take(pageOf(fork, 0, 21));
    assert.deepEqual(copy.head, fork.linkAt(21), "from a shared position on");
    assert.equal(copy.read(log.linkAt(25), 10).type, "otherChain");
    assert.equal(copy.read(log.linkAt(15), 10).type, "page");
    const other = history(30, 5);
    copy.take(pageOf(other, 10, 30));
    assert.deepEqual(
      [copy.base, copy.head],
      [other.linkAt(10), other.linkAt(30)],
      "from a position that the copy lacked",
    );
  }));

test("a reader beyond the copy, of another history or before its base gets that answer", () =>
  withCopy((copy) => {
    copy.take(pageOf(log, 10, 30));
    assert.equal(copy.read(log.linkAt(35), 10).type, "ahead");
    assert.equal(copy.read({ ...log.linkAt(20), hash: log.linkAt(21).hash }, 10).type, "otherChain");
    assert.deepEqual(copy.read(log.linkAt(5), 10), { type: "truncated", first: at(11) });
    copy.forgetUpTo(log.linkAt(20));
    assert.deepEqual(copy.base, log.linkAt(20));
    assert.equal(copy.read(log.linkAt(20), 100).type, "page");
    assert.deepEqual(copy.read(log.linkAt(15), 10), { type: "truncated", first: at(21) });
  }));

const damages: Readonly<Record<string, (path: string, size: number) => void>> = {
  "cut off in its last page": (path, size) => truncateSync(path, size - 4_096),
  "cut off in its middle": (path, size) => truncateSync(path, size / 2),
  "cut off in its first page": (path) => truncateSync(path, 100),
  "no SQLite file": (path, size) => writeFileSync(path, Buffer.alloc(size, "x")),
};
for (const [what, damage] of Object.entries(damages)) {
  test(`a copy that is ${what} is reported and restarted, and accepts pages again; a whole one is kept`, () => {
    using folder = new TemporaryFolder("region-damage");
    const path = join(folder.path, "region.sqlite");
    const said: string[] = [];
    const open = (): RegionCopy => openRegionCopy({ path, cluster: "test", onDamage: (problem) => said.push(problem) });
    const first = open();
    first.take(pageOf(log, 0, 40));
    first.close();
    const whole = open();
    assert.deepEqual([whole.head, said], [log.linkAt(40), []]);
    whole.close();

    damage(path, readFileSync(path).length);
    const again = open();
    assert.equal(again.head.position, 0, "a damaged copy is not trusted");
    assert.match(said.join(), /^\S+region\.sqlite is damaged \(.+\); .* refilling it from the home region$/);
    again.take(pageOf(log, 0, 40));
    again.close();
    const after = open();
    assert.deepEqual([after.head, said.length], [log.linkAt(40), 1]);
    after.close();
  });
}

test("the mark of leases by age outlives a crash", () => {
  const folder = new TemporaryFolder("age-mark");
  const path = join(folder.path, "mark");
  const first = openAgeMark(path);
  assert.equal(first.leftBehind, false);
  first.set();
  const second = openAgeMark(path);
  assert.equal(second.leftBehind, true);
  second.clear();
  assert.equal(openAgeMark(path).leftBehind, false);
  folder.remove();
});

test("a mark that cannot be written is an error that names the file, and is not in force; once it can be written, it is", () => {
  using folder = new TemporaryFolder("age-mark");
  const path = join(folder.path, "away", "mark");
  const mark = openAgeMark(path);
  rmSync(join(folder.path, "away"), { recursive: true });
  assert.throws(() => mark.set(), /away\/mark cannot be written \(ENOENT.*\); granting no leases by age until it can/);
  mkdirSync(join(folder.path, "away"));
  mark.set();
  assert.equal(openAgeMark(path).leftBehind, true);
});
