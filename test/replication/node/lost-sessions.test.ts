/** Sessions that a lost word about their person had ended, and that the surviving log does not know: seed 1355 of the simulator. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type CardeaEvent,
  type LostTightening,
  Projection,
  parseStream,
  sessionStream,
  userStream,
} from "../../../src/events/index.ts";
import { createPersonKeys } from "../../../src/replication/index.ts";
import { type KeptDenial, KeptDenials, keptSessionsMax } from "../../../src/replication/node/kept-denials.ts";
import { LocalCopy } from "../../../src/replication/node/local-copy.ts";
import type { LoadedSnapshot } from "../../../src/replication/node/node-messages.ts";
import { type EpochMark, emptyTrail, follow, type Trail } from "../../../src/replication/node/trail.ts";
import { created, History, secret, sessionId, userId } from "../support.ts";

const cut = (user: number): CardeaEvent => ({
  ...{ type: "UserSessionsRevoked", userId: userId(user), upTo: null, reason: "operator" },
});
const suspended = (user: number): CardeaEvent => ({ type: "UserSuspended", userId: userId(user), reason: "test" });
const restored = (user: number): CardeaEvent => ({ type: "UserRestored", userId: userId(user) });

const shared = new History().open(1).add(created(1, 1)).add(created(2, 2));
/** What came behind it and was lost. */
const lose = (...events: readonly CardeaEvent[]): History => add(shared.fork(3), ...events);
/** And what came instead. */
const keep = (...events: readonly CardeaEvent[]): History => add(shared.fork(3).open(2), ...events);

function add(to: History, ...events: readonly CardeaEvent[]): History {
  for (const event of events) to.add(event);
  return to;
}

function trailOf(of: History): Trail {
  return follow(emptyTrail, of.recorded(0, of.entries.length));
}
const marksOf = (of: History): readonly EpochMark[] => trailOf(of).epochs;

function snapshotOf(of: History): LoadedSnapshot {
  const projection = new Projection();
  for (const recorded of of.recorded(0, of.entries.length)) projection.apply(recorded);
  return { projection, link: of.head, epochs: marksOf(of), keys: [], sticky: [] };
}

function copyOf(old: History): LocalCopy {
  const copy = new LocalCopy(createPersonKeys([secret]));
  copy.fold(old.recorded(0, old.entries.length));
  return copy;
}

function rebuild(copy: LocalCopy, old: History, log: History): readonly LostTightening[] {
  copy.beginRebuild();
  copy.fold(log.recorded(0, log.entries.length));
  return copy.finishRebuild({ nothingLost: false, theirs: marksOf(old), epochs: marksOf(log) }).events;
}

const told = (events: readonly LostTightening[]): string[] => events.map(({ type, stream }) => `${type} ${stream}`);

describe("a copy whose history was lost", () => {
  test("hands back the end of a session that was lost together with the cut that ended it", () => {
    const old = lose(created(9, 1), cut(1));
    const events = rebuild(copyOf(old), old, keep());
    assert.deepEqual(told(events), ["UserSessionsRevoked user:user-1", "SessionRevoked session:session-9"]);
    const [whole, one] = events;
    assert.deepEqual(
      { ...one?.link, hash: "" },
      { ...whole?.link, hash: "" },
      "it stands where the word about the person stood",
    );
    assert.notEqual(one?.link.hash, whole?.link.hash);
    assert.equal(one?.userId, userId(1));
    assert.deepEqual(rebuild(copyOf(old), old, keep(created(70, 3))), events, "whoever held it hands back the same");
  });

  test("does not hand back by itself what both histories know: the cut ends that, as soon as it is there again", () => {
    const old = lose(cut(1));
    assert.deepEqual(told(rebuild(copyOf(old), old, keep())), ["UserSessionsRevoked user:user-1"]);
  });

  test("hands it back also when the client had it created once more, at the very same place", () => {
    const old = lose(created(70, 3), created(9, 1), cut(1));
    const log = keep(created(9, 1));
    const copy = copyOf(old);
    assert.equal(copy.projection.session(sessionId(9))?.status, "active");
    const events = rebuild(copy, old, log);
    assert.ok(told(events).includes("SessionRevoked session:session-9"));
    assert.ok(copy.stickilyDenied(sessionStream(sessionId(9))));
  });

  test("hands a session back once, however many lost words had ended it", () => {
    const old = lose(created(9, 1), cut(1), suspended(1), restored(1), created(10, 1), cut(1));
    assert.deepEqual(
      told(rebuild(copyOf(old), old, keep())).filter((one) => one.startsWith("SessionRevoked")),
      ["SessionRevoked session:session-9", "SessionRevoked session:session-10"],
    );
  });

  test("leaves alone what the person signed in to again behind the cut, there or here", () => {
    const old = lose(created(9, 1), cut(1), created(10, 1));
    const copy = copyOf(old);
    const events = rebuild(copy, old, keep(created(11, 1)));
    assert.ok(!told(events).includes("SessionRevoked session:session-10"));
    for (const n of [10, 11]) assert.ok(!copy.stickilyDenied(sessionStream(sessionId(n))), `${n}`);
  });

  test("hands sessions back though an operator has lifted the suspension since: a restoration brings back the person alone", () => {
    const old = lose(created(9, 1), suspended(1));
    const copy = copyOf(old);
    assert.deepEqual(told(rebuild(copy, old, keep(restored(1)))), ["SessionRevoked session:session-9"]);
    assert.ok(copy.stickilyDenied(sessionStream(sessionId(9))));
    assert.ok(!copy.stickilyDenied(userStream(userId(1))));
  });

  test("hands sessions back though the surviving log suspends the person by an event of its own", () => {
    const old = lose(created(9, 1), suspended(1));
    assert.deepEqual(told(rebuild(copyOf(old), old, keep(suspended(1)))), ["SessionRevoked session:session-9"]);
  });

  test("hands back nothing of a person whom the surviving log has erased: nobody becomes them again", () => {
    const old = lose(created(9, 1), suspended(1));
    assert.deepEqual(rebuild(copyOf(old), old, keep({ type: "UserErased", userId: userId(1) })), []);
  });

  test("hands back sessions of a history too that was left before it had been read to its head", () => {
    const first = lose(created(8, 1), cut(1));
    const copy = copyOf(first);
    copy.beginRebuild();
    const second = keep(created(9, 1), cut(1));
    copy.fold(second.recorded(0, second.entries.length));
    const third = add(shared.fork(3).open(3));
    assert.deepEqual(
      told(rebuild(copy, first, third)).filter((one) => one.startsWith("SessionRevoked")),
      ["SessionRevoked session:session-8", "SessionRevoked session:session-9"],
    );
  });

  test("hands back nothing where nothing was lost", () => {
    const old = lose(created(9, 1), cut(1));
    const copy = copyOf(old);
    copy.beginRebuild();
    copy.fold(old.recorded(0, old.entries.length));
    const same = { nothingLost: true, theirs: marksOf(old), epochs: marksOf(old) };
    assert.deepEqual(copy.finishRebuild(same), { events: [], denied: new Set() });
  });
});

describe("a suspension that was lost, and lifted in the history that came instead", () => {
  const first = lose(suspended(1));
  const second = keep(restored(1), created(20, 2));
  const twice = (): LocalCopy => {
    const copy = copyOf(first);
    assert.deepEqual(told(rebuild(copy, first, second)), []);
    assert.ok(!copy.stickilyDenied(userStream(userId(1))));
    return copy;
  };

  test("comes back when the word that lifted it is lost in its turn", () => {
    const copy = twice();
    const third = shared.fork(3).open(3);
    assert.deepEqual(told(rebuild(copy, second, third)), ["UserSuspended user:user-1"]);
    assert.ok(copy.stickilyDenied(userStream(userId(1))));
  });

  test("stays lifted where the third history holds that word, read event by event or by a snapshot", () => {
    const third = second.fork(5).open(3).add(created(30, 2));
    const read = twice();
    assert.deepEqual(told(rebuild(read, second, third)), []);
    assert.ok(!read.stickilyDenied(userStream(userId(1))));
    const jumped = twice();
    jumped.beginRebuild();
    jumped.base(snapshotOf(third), marksOf(second));
    const { events } = jumped.finishRebuild({ nothingLost: false, theirs: marksOf(second), epochs: marksOf(third) });
    assert.deepEqual(told(events), []);
    assert.ok(!jumped.stickilyDenied(userStream(userId(1))));
  });
});

describe("a disk that remembers a cut", () => {
  function begunFrom(
    denials: readonly KeptDenial[],
    log: History,
  ): { copy: LocalCopy; events: readonly LostTightening[] } {
    const copy = new LocalCopy(createPersonKeys([secret]));
    copy.recall({ sticky: [], denials });
    copy.fold(log.recorded(0, log.entries.length));
    return { copy, events: copy.settleKept(trailOf(log))?.events ?? [] };
  }

  test("remembers the sessions that it had ended, and hands them back as who was never stopped does", () => {
    const old = lose(created(9, 1), cut(1));
    const copy = copyOf(old);
    const denials = copy.denialsToKeep(marksOf(old));
    assert.deepEqual(denials[0]?.sessions, [sessionId(1), sessionId(9)]);
    const kept = begunFrom(denials, keep());
    assert.deepEqual(told(kept.events), [
      "UserSessionsRevoked user:user-1",
      "SessionRevoked session:session-1",
      "SessionRevoked session:session-9",
    ]);
    const live = rebuild(copy, old, keep());
    assert.deepEqual(kept.events.at(-1), live.at(-1));
    assert.ok(kept.copy.stickilyDenied(sessionStream(sessionId(9))));
  });

  test("remembers it over any number of starts, until the log is known to hold the cut", () => {
    const old = lose(created(9, 1), cut(1));
    const denials = copyOf(old).denialsToKeep(marksOf(old));
    const again = begunFrom(denials, keep()).copy.denialsToKeep(marksOf(keep()));
    assert.deepEqual(again, denials);
    assert.deepEqual(begunFrom(denials, old).events, []);
  });

  test("denies a session whose suspension was lifted since, and the person no more", () => {
    const old = lose(created(9, 1), suspended(1));
    const { copy, events } = begunFrom(copyOf(old).denialsToKeep(marksOf(old)), keep(restored(1)));
    assert.ok(copy.stickilyDenied(sessionStream(sessionId(9))));
    assert.ok(!copy.stickilyDenied(userStream(userId(1))));
    assert.ok(told(events).includes("SessionRevoked session:session-9"));
    assert.ok(!told(events).includes("UserSuspended user:user-1"));
  });

  test("does not deny a person again whose suspension was lifted since, when the node begins behind that word", () => {
    const old = lose(created(9, 1), suspended(1));
    const log = keep(restored(1));
    const copy = copyOf(old);
    rebuild(copy, old, log);
    const live = copy.denialsToKeep(marksOf(log));
    assert.deepEqual(told(live), ["SessionRevoked session:session-1", "SessionRevoked session:session-9"]);
    const begun = begunFrom(copyOf(old).denialsToKeep(marksOf(old)), log).copy;
    assert.deepEqual(begun.denialsToKeep(marksOf(log)), live);
    const later = new LocalCopy(createPersonKeys([secret]));
    later.recall({ sticky: [], denials: live });
    later.begin(snapshotOf(log));
    later.settleKept(trailOf(log));
    assert.ok(!later.stickilyDenied(userStream(userId(1))));
    assert.ok(later.stickilyDenied(sessionStream(sessionId(9))), "their old sessions it denies as before");
  });

  test("that an older build wrote, without sessions, is obeyed as it is", () => {
    const old = lose(created(9, 1), cut(1));
    const denials = copyOf(old)
      .denialsToKeep(marksOf(old))
      .map(({ sessions: _, ...denial }) => denial);
    const { events } = begunFrom(denials, keep());
    assert.deepEqual(told(events), ["UserSessionsRevoked user:user-1"]);
  });

  test("remembers a bounded number of sessions, those of the newest cuts first", () => {
    const old = new History().open(1);
    const each = 100;
    const cuts = Math.ceil(keptSessionsMax / each) + 5;
    const [projection, kept] = [new Projection(), new KeptDenials()];
    for (let user = 0; user < cuts; user++) {
      for (let n = 0; n < each; n++) old.add(created(user * each + n, user));
      old.add(cut(user));
    }
    for (const recorded of old.recorded(0, old.entries.length)) {
      projection.apply(recorded);
      const { kind, id } = parseStream(recorded.stream);
      kept.remember(recorded, kind === "user" ? projection.sessionsOf(id as ReturnType<typeof userId>) : []);
    }
    const denials = kept.newest(marksOf(old));
    assert.equal(denials.length, cuts, "each cut itself is remembered");
    assert.equal(
      denials.reduce((sum, { sessions }) => sum + (sessions?.length ?? 0), 0),
      keptSessionsMax,
    );
    assert.equal(denials.at(-1)?.sessions?.length, each);
    assert.equal(denials[0]?.sessions, undefined);
  });
});
