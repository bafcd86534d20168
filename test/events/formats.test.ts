/** Event formats: old shapes are readable forever; a newer shape is written only once the cluster has its level. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Formats, formats, isReadable, lift, lower } from "../../src/events/formats.ts";
import {
  type CardeaEvent,
  decodeEvent,
  type Epoch,
  type EventId,
  encode,
  genesis,
  linkOf,
  type Position,
  Projection,
  readsLevel,
} from "../../src/events/index.ts";
import { goldenFiles, plain } from "./golden.ts";
import { created, foreign, record, revoked } from "./support.ts";

for (const { level, digest, entries } of goldenFiles()) {
  test(`every event of level ${level} is read as written and folds to the same state`, () => {
    const projection = new Projection();
    let at = genesis;
    for (const { type, version, bytes, hash, event } of entries) {
      const recorded = decodeEvent(Buffer.from(bytes, "base64"), at);
      assert.deepEqual([recorded.type, recorded.schemaVersion, recorded.hash], [type, version, hash]);
      assert.deepEqual(plain(recorded.event), event, type);
      projection.apply(recorded);
      at = linkOf(recorded);
    }
    assert.deepEqual([projection.guessed, projection.degraded], [undefined, undefined]);
    assert.equal(projection.digest(), digest);
  });
}

test("the bytes of level 1 are unchanged", () => {
  const [one] = goldenFiles();
  assert.equal(
    one?.entries.at(-1)?.hash,
    "89dc9a8e84c4a35d5ad196bdf6af734d3d4336c2b93a16f8363f1a23a9114ecf",
    "the last hash covers the whole chain",
  );
});

test("there is a golden event of every version of every type, and none of an unreadable level", () => {
  const recordedVersions = new Set(
    goldenFiles().flatMap(({ entries }) => entries.map(({ type, version }) => `${type} ${version}`)),
  );
  for (const [type, versions] of Object.entries(formats))
    for (const [at, { level }] of versions.entries()) {
      assert.ok(recordedVersions.has(`${type} ${at + 1}`), `version ${at + 1} of ${type} has no golden event`);
      assert.ok(level <= readsLevel, `${type} has a version of level ${level}, and this build reads ${readsLevel}`);
    }
  for (const one of recordedVersions) {
    const [type = "", version] = one.split(" ");
    assert.ok(isReadable(type, Number(version)), `${one} was written by a release, and cannot be read`);
  }
});

/** A type with three versions: a field is renamed at level 2, and a list replaces a single value at level 4. */
const threeVersions: Formats = {
  Moved: [
    { level: 1 },
    {
      level: 2,
      up: ({ to, ...rest }) => ({ ...rest, place: to }),
      down: ({ place, ...rest }) => ({ ...rest, to: place }),
    },
    {
      level: 4,
      up: ({ place, ...rest }) => ({ ...rest, places: [place] }),
      down: ({ places, ...rest }) =>
        Array.isArray(places) && places.length === 1 ? { ...rest, place: places[0] } : null,
    },
  ],
  Added: [{ level: 3 }],
};

test("a body is lifted one version at a time, and lowered to what the level allows", () => {
  assert.deepEqual(lift("Moved", 1, { who: 1, to: "a" }, threeVersions), { who: 1, places: ["a"] });
  assert.deepEqual(lift("Moved", 2, { who: 1, place: "a" }, threeVersions), { who: 1, places: ["a"] });
  assert.deepEqual(lift("Moved", 3, { who: 1, places: ["a", "b"] }, threeVersions), { who: 1, places: ["a", "b"] });
  const newest = { who: 1, places: ["a"] };
  assert.deepEqual(lower("Moved", newest, 1, threeVersions), { version: 1, body: { who: 1, to: "a" } });
  assert.deepEqual(lower("Moved", newest, 3, threeVersions), { version: 2, body: { who: 1, place: "a" } });
  assert.deepEqual(lower("Moved", newest, 4, threeVersions), { version: 3, body: newest });
  for (const level of [1, 2, 3, 4, 5]) {
    const written = lower("Moved", newest, level, threeVersions);
    assert.ok("version" in written);
    assert.deepEqual(
      lift("Moved", written.version, written.body, threeVersions),
      newest,
      "lifting a lowered body gives the original",
    );
  }
});

test("a value that only a later level can express is refused before it, and the error names the level", () => {
  assert.deepEqual(lower("Moved", { places: ["a", "b"] }, 3, threeVersions), { needsLevel: 4 });
  assert.deepEqual(lower("Added", {}, 2, threeVersions), { needsLevel: 3 });
  assert.deepEqual(lower("Added", {}, 3, threeVersions), { version: 1, body: {} });
});

test("an unknown type, an unknown version and a missing version are recognised as unreadable", () => {
  assert.deepEqual(
    [1, 3, 4, 0, -1].map((version) => isReadable("Moved", version, threeVersions)),
    [true, true, false, false, false],
  );
  for (const name of ["Gone", "constructor", "__proto__", "toString"])
    assert.equal(isReadable(name, 1, threeVersions), false);
});

test("a newer version of a known type is an unknown event, handled by its effect", () => {
  const [first] = record([created(1, 1)]);
  assert.ok(first !== undefined);
  const after = linkOf(first);
  const newer = (type: string, effect: string): ReturnType<typeof decodeEvent> =>
    decodeEvent(
      encode([
        1 as Epoch,
        2 as Position,
        eventId,
        "session:session-1",
        2,
        type,
        2,
        effect,
        1,
        "system",
        null,
        { x: 1 },
      ]),
      after,
    );
  const obeyed = new Projection();
  obeyed.apply(first);
  obeyed.apply(newer("SessionRevoked", "tightens"));
  assert.equal(obeyed.sessionStatus("session-1" as never).status, "revoked");
  assert.deepEqual([obeyed.guessed, obeyed.degraded], ["SessionRevoked", undefined]);
  const ended = new Projection();
  ended.apply(first);
  ended.apply(newer("SessionRefreshed", "either"));
  assert.deepEqual([ended.guessed, ended.degraded], ["SessionRefreshed", "SessionRefreshed"]);
});

test("after an unknown event that could have any effect, the projection is unreliable", () => {
  for (const effect of ["tightens", "either", "neutral"] as const) {
    const projection = new Projection();
    projection.apply(foreign({ stream: "session:session-1", effect, after: genesis }));
    assert.equal(projection.guessed, "FromTheFuture", effect);
  }
});

test("the level only grows and is part of the digest", () => {
  const finalized = (level: number): CardeaEvent => ({ type: "UpgradeFinalized", level });
  const levels = (events: readonly CardeaEvent[]): Projection => {
    const projection = new Projection();
    for (const one of record(events)) projection.apply(one);
    return projection;
  };
  const raised = levels([finalized(3), finalized(2), created(1, 1), revoked(1, 1)]);
  assert.equal(raised.level, 3);
  assert.equal(raised.recomputedDigest(), raised.digest());
  const never = levels([finalized(1), finalized(1), created(1, 1), revoked(1, 1)]);
  assert.equal(never.level, 1);
  assert.equal(never.recomputedDigest(), never.digest());
  assert.notEqual(never.digest(), raised.digest());
  assert.equal(levels([]).digest(), new Projection().digest());
});

const eventId = "00000000-0000-4000-8000-000000000002" as EventId;
