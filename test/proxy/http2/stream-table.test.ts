/** The table of a connection's open streams. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { StreamTable, type StreamTableEntry } from "../../../src/proxy/http2/stream-table.ts";

class Stream implements StreamTableEntry<Stream> {
  readonly id: number;
  nextInBucket: Stream | undefined;
  readonly content = new Array<number>(100).fill(1.5);

  constructor(id: number) {
    this.id = id;
  }
}

test("streams are found by number, whatever order they come and go in", () => {
  const table = new StreamTable<Stream>();
  const model = new Map<number, Stream>();
  let random = 7;
  for (let n = 0, id = 1; n < 5_000; n++) {
    random = (random * 1_103_515_245 + 12_345) & 0x7fff_ffff;
    if (model.size < 40 && random % 2 === 0) {
      const stream = new Stream(id);
      id += 2 * (1 + (random % 3));
      table.add(stream);
      model.set(stream.id, stream);
    } else {
      const stream = [...model.values()][random % Math.max(1, model.size)];
      if (stream === undefined) continue;
      assert.equal(table.delete(stream), true);
      assert.equal(table.delete(stream), false);
      model.delete(stream.id);
    }
    assert.equal(table.size, model.size);
    for (const probe of [1, id - 2, id, 2 * (random % id) + 1]) assert.equal(table.get(probe), model.get(probe));
  }
  assert.deepEqual(new Set(table.all().map((stream) => stream.id)), new Set(model.keys()));
  assert.equal(table.takeAll().length, model.size);
  assert.deepEqual([table.size, table.all(), table.has(1)], [0, [], false]);
});

test("streams that are over are collected by minor collections, however old the table is", () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as (how: Readonly<{ type: "minor" | "major" }>) => void;
  const oldBytes = (): number =>
    getHeapSpaceStatistics()
      .filter(({ space_name: name }) => name === "old_space" || name === "large_object_space")
      .reduce((sum, { space_used_size: bytes }) => sum + bytes, 0);
  const table = new StreamTable<Stream>();
  let id = 1;
  const turnOver = (streams: number): void => {
    for (let n = 0; n < streams; n++, id += 2) {
      table.add(new Stream(id));
      const oldest = table.get(id - 16);
      if (oldest !== undefined) table.delete(oldest);
      if (n % 1_000 === 999) collect({ type: "minor" });
    }
  };
  turnOver(1_000);
  collect({ type: "major" });
  const before = oldBytes();
  turnOver(20_000); // 18 MB
  assert.ok(oldBytes() - before < 3e6, `${oldBytes() - before} bytes were promoted`);
});
