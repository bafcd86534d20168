/** The state machine of a snapshot run: the order of its requests, and its end when a step fails. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { SnapshotEffect, SnapshotInput } from "../../../src/broker/snapshots/snapshot-messages.ts";
import { newSnapshotRun, nothingRemembered, stepSnapshotRun } from "../../../src/broker/snapshots/snapshot-run.ts";
import type { Hash, Position, Projection, UnixMs } from "../../../src/events/index.ts";
import { hashOfChunk } from "../../../src/replication/snapshot/index.ts";
import { projectionOf } from "../../replication/snapshot/support.ts";

const looked = {
  ...{
    type: "snapshotsListed",
    snapshots: [],
    applied: 40 as Position,
    guessed: false,
    wanted: 0,
    neededAfter: 40 as Position,
    archivedUpTo: null,
  },
} as const satisfies SnapshotInput;

/** Answers as a disk and a log without failures, except for the answers in `instead`. */
function play(projection: Projection, instead: (effect: SnapshotEffect) => SnapshotInput | undefined) {
  const effectsSeen: string[] = [];
  const rules = { everyEvents: 10, retentionMs: 0, hold: "nothing" } as const;
  const parts = { cluster: "c", rules, memory: nothingRemembered, now: 0 as UnixMs, entitiesATurn: 3 };
  let run = newSnapshotRun(parts);
  const inputs: SnapshotInput[] = [{ type: "begin" }];
  let failure: unknown = "it goes on";
  for (let input = inputs.shift(); input !== undefined; input = inputs.shift()) {
    const [next, effects] = stepSnapshotRun(run, input);
    run = next;
    for (const effect of effects) {
      if (effectsSeen.at(-1) !== effect.type && effect.type !== "logger") effectsSeen.push(effect.type);
      if (effect.type === "over") failure = effect.failure;
      const answer = instead(effect) ?? usual(effect);
      if (answer !== undefined) inputs.push(answer);
    }
  }
  return { asked: effectsSeen, failure };

  function usual(effect: SnapshotEffect): SnapshotInput | undefined {
    switch (effect.type) {
      case "listSnapshots":
        return looked;
      case "capture":
        return {
          ...{ type: "captured", capture: projection.capture(), epochs: [], level: projection.level },
          at: 7 as UnixMs,
        };
      case "build":
        return { type: "turn" };
      case "store":
        return {
          ...{ type: "stored", index: effect.index },
          ref: { hash: hashOfChunk(effect.bytes), bytes: effect.bytes.length },
        };
      case "save":
        return { type: "saved", id: "f".repeat(64) as Hash };
      case "tidy":
        return { type: "tidied" };
      case "recordSnapshot":
        return {
          ...{
            type: "snapshotRecorded",
            result: { type: "unavailable", message: "", retryAfterMs: 0, commandId: "" as never },
          },
        };
      default:
        return undefined;
    }
  }
}

test("a run builds in slices, saves, tidies, and then announces the snapshot", () => {
  const { asked, failure } = play(projectionOf(20), () => undefined);
  assert.equal(failure, null);
  const once = asked.filter((type) => type !== "build" && type !== "store");
  assert.deepEqual(once, ["listSnapshots", "capture", "save", "tidy", "recordSnapshot", "listSnapshots", "over"]);
  assert.ok(asked.includes("build") && asked.includes("store"));
});

test("a chunk that cannot be stored ends the run: the disk is tidied, nothing is saved or announced, the capture is released", () => {
  const projection = projectionOf(20);
  const cause = new Error("no space");
  const { asked, failure } = play(projection, ({ type }) =>
    type === "store" ? { type: "notStored", cause } : undefined,
  );
  assert.deepEqual(failure, { cause });
  assert.deepEqual(asked.slice(-2), ["tidy", "over"]);
  assert.ok(!asked.includes("save") && !asked.includes("recordSnapshot"));
});

test("a leader deposed while it builds saves and announces nothing", () => {
  let turns = 0;
  const half = play(projectionOf(20), ({ type }) => {
    turns += type === "build" ? 1 : 0;
    return type === "build" && turns === 3 ? { type: "cancelled" } : undefined;
  });
  assert.equal((half.failure as { cause: { code: string } }).cause.code, "ERR_REPLICATION_SNAPSHOT_CANCELLED");
  assert.ok(!half.asked.includes("save"));
  assert.deepEqual(half.asked.slice(-2), ["tidy", "over"]);
});

test("no snapshot is taken of a projection past an unreadable event", () => {
  const { asked } = play(projectionOf(20), ({ type }) =>
    type === "listSnapshots" ? { ...looked, guessed: true } : undefined,
  );
  assert.deepEqual(asked, ["listSnapshots", "over"]);
});

test("a snapshot is dated when it is captured, not when its run began: nothing in it was recorded later", () => {
  let takenAt: number | undefined;
  play(projectionOf(20), (effect) => {
    if (effect.type === "save") takenAt = effect.manifest.takenAt;
    return undefined;
  });
  assert.equal(takenAt, 7, "the run began at 0");
});
