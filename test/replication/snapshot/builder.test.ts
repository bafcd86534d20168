/** Snapshot builder: the state machine that turns a captured projection into chunks. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Builder,
  type BuilderEffect,
  newBuilder,
  stepBuilder,
} from "../../../src/replication/snapshot/builder.ts";
import { hashOfChunk } from "../../../src/replication/snapshot/manifest.ts";
import { projectionOf } from "./support.ts";

type Run = { builder: Builder; effects: BuilderEffect[] };

function start(sessions: number): Run {
  return { builder: newBuilder(projectionOf(sessions).capture()), effects: [] };
}
function feed(run: Run, input: Parameters<typeof stepBuilder>[1]): readonly BuilderEffect[] {
  const [builder, effects] = stepBuilder(run.builder, input);
  run.builder = builder;
  return effects;
}
/** Feeds turns until the builder requests no more. */
function turns(run: Run): BuilderEffect[] {
  const stores: BuilderEffect[] = [];
  for (let effects = feed(run, { type: "turn" }); ; effects = feed(run, { type: "turn" })) {
    stores.push(...effects.filter((effect) => effect.type !== "again"));
    if (!effects.some((effect) => effect.type === "again")) return stores;
  }
}
const stored = (effect: BuilderEffect) => {
  assert.ok(effect.type === "store");
  return { type: "stored", index: effect.index, hash: hashOfChunk(effect.bytes), bytes: effect.bytes.length } as const;
};

test("only a bounded number of chunks is in flight; the builder makes the next one when one is stored", () => {
  const run = start(8_000);
  const first = turns(run);
  assert.equal(first.length, 4);
  assert.deepEqual(feed(run, { type: "turn" }), [], "even with a turn that it did not request");
  const [again] = feed(run, stored(first[0] as BuilderEffect));
  assert.deepEqual(again, { type: "again" });
});

test("a snapshot is built when its last chunk is stored; chunks may be stored in any order and keep their positions", () => {
  const run = start(3_000);
  const waiting = turns(run);
  const all = [...waiting];
  let built: BuilderEffect | undefined;
  while (built === undefined) {
    const last = waiting.pop();
    assert.ok(last !== undefined);
    for (const effect of feed(run, stored(last))) {
      if (effect.type === "built") built = effect;
      if (effect.type === "again") {
        const more = turns(run);
        waiting.push(...more.filter((each) => each.type === "store"));
        all.push(...more);
      }
    }
  }
  assert.ok(built.type === "built");
  const hashes = all.map((effect) => (effect.type === "store" ? hashOfChunk(effect.bytes) : ""));
  assert.deepEqual(
    built.chunks.map(({ hash }) => hash),
    hashes,
  );
  assert.equal(built.counts.sessions, 3_000);
  assert.equal(run.builder.phase, "over");
});

test("a chunk that cannot be stored, or a cancellation, ends the build once and releases the projection", () => {
  for (const input of [{ type: "failed", cause: new Error("disk full") }, { type: "cancelled" }] as const) {
    const run = start(100);
    feed(run, { type: "turn" });
    const effects = feed(run, input);
    assert.equal(effects.length, 1);
    assert.equal(effects[0]?.type, "gaveUp");
    assert.equal(run.builder.capture.over, true);
    assert.deepEqual(feed(run, { type: "turn" }), []);
    assert.deepEqual(feed(run, input), []);
  }
});
