/**
 * Sessions that a lost event about their person ended, when the surviving log does not know them.
 *
 * Seed 1355 of the simulator found this case.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type CardeaEvent,
  decode,
  encode,
  type LostTightening,
  Projection,
  parseStream,
  type SessionId,
  sessionStream,
  userStream,
} from "../../../src/events/index.ts";
import {
  type ChainHistory,
  type EpochMark,
  emptyHistory,
  extendHistory,
} from "../../../src/replication/lease/chain-history.ts";
import {
  type PersistedDenial,
  PersistedDenials,
  persistedSessionsMax,
} from "../../../src/replication/node/denials/persisted-denials.ts";
import { type DenialsFile, formatDenials, parseDenials } from "../../../src/replication/node/denials/persisted-form.ts";
import { createPersonKeys } from "../../../src/replication/node/index.ts";
import { LocalProjection } from "../../../src/replication/node/local-projection.ts";
import type { LoadedSnapshot } from "../../../src/replication/node/messages.ts";
import { created, History, secret, sessionId, userId } from "../support.ts";

const cut = (user: number): CardeaEvent => ({
  ...{ type: "UserSessionsRevoked", userId: userId(user), upTo: null, reason: "operator" },
});
const suspended = (user: number): CardeaEvent => ({ type: "UserSuspended", userId: userId(user), reason: "test" });
const restored = (user: number): CardeaEvent => ({ type: "UserRestored", userId: userId(user) });

const shared = new History().open(1).add(created(1, 1)).add(created(2, 2));
/** The shared history and then events that are lost. */
const lose = (...events: readonly CardeaEvent[]): History => add(shared.fork(3), ...events);
/** The shared history and then the events that survive instead, in a new epoch. */
const keep = (...events: readonly CardeaEvent[]): History => add(shared.fork(3).open(2), ...events);

function add(to: History, ...events: readonly CardeaEvent[]): History {
  for (const event of events) to.add(event);
  return to;
}

function chainOf(of: History): ChainHistory {
  return extendHistory(emptyHistory, of.recorded(0, of.entries.length));
}
const marksOf = (of: History): readonly EpochMark[] => chainOf(of).epochs;

function snapshotOf(of: History): LoadedSnapshot {
  const projection = new Projection();
  for (const recorded of of.recorded(0, of.entries.length)) projection.apply(recorded);
  return { projection, link: of.head, epochs: marksOf(of), keys: [], retained: [] };
}

function copyOf(old: History): LocalProjection {
  const copy = new LocalProjection(createPersonKeys([secret]));
  copy.fold(old.recorded(0, old.entries.length));
  return copy;
}

function rebuild(copy: LocalProjection, log: History): readonly LostTightening[] {
  copy.beginRebuild();
  copy.fold(log.recorded(0, log.entries.length));
  return copy.finishRebuild("lost").events;
}

const describeEvents = (events: readonly LostTightening[]): string[] =>
  events.map(({ type, stream }) => `${type} ${stream}`);

describe("a copy whose history was lost", () => {
  test("reasserts the end of a session that was lost together with the revocation that ended it", () => {
    const old = lose(created(9, 1), cut(1));
    const events = rebuild(copyOf(old), keep());
    assert.deepEqual(describeEvents(events), ["SessionRevoked session:session-1", "SessionRevoked session:session-9"]);
    for (const one of events) {
      assert.equal(one.link.position, old.head.position, "it has the position of the revocation");
      assert.notEqual(one.link.hash, old.head.hash);
      assert.equal(one.userId, userId(1));
    }
    assert.deepEqual(rebuild(copyOf(old), keep(created(70, 3))), events, "every copy reasserts the same events");
  });

  test("reasserts a revocation of all sessions as the single sessions that it ended, because its bound is a position of the lost history", () => {
    const old = lose(cut(1));
    assert.deepEqual(describeEvents(rebuild(copyOf(old), keep(created(11, 1)))), ["SessionRevoked session:session-1"]);
  });

  test("reasserts the end of a session even if the surviving log creates the session again at the same position", () => {
    const old = lose(created(70, 3), created(9, 1), cut(1));
    const log = keep(created(9, 1));
    const copy = copyOf(old);
    assert.equal(copy.projection.session(sessionId(9))?.status, "active");
    const events = rebuild(copy, log);
    assert.ok(describeEvents(events).includes("SessionRevoked session:session-9"));
    assert.ok(copy.isDeniedLocally(sessionStream(sessionId(9))));
  });

  test("reasserts the end of a session once, however many lost events ended it", () => {
    const old = lose(created(9, 1), cut(1), suspended(1), restored(1), created(10, 1), cut(1));
    assert.deepEqual(
      describeEvents(rebuild(copyOf(old), keep())).filter((one) => one.startsWith("SessionRevoked")),
      ["SessionRevoked session:session-1", "SessionRevoked session:session-9", "SessionRevoked session:session-10"],
    );
  });

  test("does not end sessions created after the revocation, in either history", () => {
    const old = lose(created(9, 1), cut(1), created(10, 1));
    const copy = copyOf(old);
    const events = rebuild(copy, keep(created(11, 1)));
    assert.ok(!describeEvents(events).includes("SessionRevoked session:session-10"));
    for (const n of [10, 11]) assert.ok(!copy.isDeniedLocally(sessionStream(sessionId(n))), `${n}`);
  });

  test("reasserts the end of sessions even if the suspension has been lifted since, because a restoration lifts only the person's denial", () => {
    const old = lose(created(9, 1), suspended(1));
    const copy = copyOf(old);
    assert.deepEqual(describeEvents(rebuild(copy, keep(restored(1)))), [
      "SessionRevoked session:session-1",
      "SessionRevoked session:session-9",
    ]);
    assert.ok(copy.isDeniedLocally(sessionStream(sessionId(9))));
    assert.ok(!copy.isDeniedLocally(userStream(userId(1))));
  });

  test("reasserts the end of sessions even if the surviving log has its own suspension of the person", () => {
    const old = lose(created(9, 1), suspended(1));
    assert.deepEqual(describeEvents(rebuild(copyOf(old), keep(suspended(1)))), ["SessionRevoked session:session-9"]);
  });

  test("reasserts nothing about a person that the surviving log has erased", () => {
    const old = lose(created(9, 1), suspended(1));
    assert.deepEqual(rebuild(copyOf(old), keep({ type: "UserErased", userId: userId(1) })), []);
  });

  test("reasserts the end of sessions of a history that was lost before it had been read to its head", () => {
    const first = lose(created(8, 1), cut(1));
    const copy = copyOf(first);
    copy.beginRebuild();
    const second = keep(created(9, 1), cut(1));
    copy.fold(second.recorded(0, second.entries.length));
    const third = add(shared.fork(3).open(3));
    assert.deepEqual(
      describeEvents(rebuild(copy, third)).filter((one) => one.startsWith("SessionRevoked")),
      ["SessionRevoked session:session-1", "SessionRevoked session:session-8", "SessionRevoked session:session-9"],
    );
  });

  test("reasserts nothing if nothing was lost", () => {
    const old = lose(created(9, 1), cut(1));
    const copy = copyOf(old);
    copy.beginRebuild();
    copy.fold(old.recorded(0, old.entries.length));
    assert.deepEqual(copy.finishRebuild("nothing lost"), { events: [], denied: new Set() });
  });
});

describe("a lost suspension that the surviving history lifts", () => {
  const first = lose(suspended(1));
  const second = keep(restored(1), created(20, 2));
  const twice = (): LocalProjection => {
    const copy = copyOf(first);
    assert.deepEqual(describeEvents(rebuild(copy, second)), ["SessionRevoked session:session-1"]);
    assert.ok(!copy.isDeniedLocally(userStream(userId(1))));
    return copy;
  };

  test("is in force again when the restoration is lost as well", () => {
    const copy = twice();
    const third = shared.fork(3).open(3);
    assert.deepEqual(describeEvents(rebuild(copy, third)), ["UserSuspended user:user-1"]);
    assert.ok(copy.isDeniedLocally(userStream(userId(1))));
  });

  test("stays lifted if a third history has the restoration, read event by event or from a snapshot", () => {
    const third = second.fork(5).open(3).add(created(30, 2));
    const read = twice();
    assert.deepEqual(describeEvents(rebuild(read, third)), []);
    assert.ok(!read.isDeniedLocally(userStream(userId(1))));
    const jumped = twice();
    jumped.beginRebuild();
    jumped.rebuildFrom(snapshotOf(third), marksOf(second));
    const { events } = jumped.finishRebuild("lost");
    assert.deepEqual(describeEvents(events), []);
    assert.ok(!jumped.isDeniedLocally(userStream(userId(1))));
  });
});

function startWith(
  denials: readonly PersistedDenial[],
  log: History,
): { copy: LocalProjection; events: readonly LostTightening[] } {
  const copy = new LocalProjection(createPersonKeys([secret]));
  copy.restoreDenials({ retained: [], denials });
  copy.fold(log.recorded(0, log.entries.length));
  return { copy, events: copy.settlePersisted(chainOf(log))?.events ?? [] };
}

describe("a persisted denial from another history", () => {
  /** Starts a node after a restore: it reasserts what is lost, and the log accepts it. */
  function reasserted(denials: readonly PersistedDenial[], log: History): LocalProjection {
    const { copy, events } = startWith(denials, log);
    const before = log.entries.length;
    for (const { type, stream } of events)
      log.add(
        type === "UserSuspended"
          ? { type, userId: userId(1), reason: "reasserted" }
          : {
              type: "SessionRevoked",
              sessionId: parseStream(stream).id as SessionId,
              userId: userId(1),
              reason: "reasserted",
            },
      );
    copy.fold(log.recorded(before, log.entries.length));
    return copy;
  }

  test("denies no session created in the surviving log, whatever its epoch and position", () => {
    const old = add(shared.fork(3).open(2), created(9, 1), cut(1), created(70, 3));
    const denials = copyOf(old).denialsToPersist();
    // A restored log opens an epoch with the number of the lost one. Only the incarnation distinguishes the two.
    for (const log of [
      shared.fork(3).open(2, "another").add(created(11, 1)),
      shared.fork(2).open(2, "another").add(created(11, 1)).add(created(12, 1)).add(created(13, 1)),
      shared.fork(3).open(2, "another").add(created(11, 1)).open(9).add(created(12, 1)),
      new History().open(1, "another").add(created(11, 1)),
    ]) {
      const { copy, events } = startWith(denials, log);
      assert.deepEqual(describeEvents(events), [
        "SessionRevoked session:session-1",
        "SessionRevoked session:session-9",
      ]);
      for (const n of [11, 12]) assert.ok(!copy.isDeniedLocally(sessionStream(sessionId(n))), `${n}`);
      assert.ok(copy.isDeniedLocally(sessionStream(sessionId(1))), "a session from before the revocation stays denied");
    }
  });

  test("without a list of sessions denies those of the shared history, and no later ones", () => {
    const old = lose(created(9, 1), cut(1));
    const unnamed = copyOf(old)
      .denialsToPersist()
      .map(({ sessions: _, ...denial }) => denial);
    const { copy, events } = startWith(unnamed, keep(created(11, 1)));
    assert.deepEqual(describeEvents(events), ["SessionRevoked session:session-1"]);
    assert.ok(!copy.isDeniedLocally(sessionStream(sessionId(11))));
  });

  test("of a revocation up to a position ends no session created after that position", () => {
    const old = lose(created(9, 1), { ...cut(1), upTo: 3 } as CardeaEvent);
    const log = shared.fork(3).add(created(9, 1)).open(2);
    const { copy } = startWith(copyOf(old).denialsToPersist(), log);
    assert.ok(copy.isDeniedLocally(sessionStream(sessionId(1))));
    assert.ok(!copy.isDeniedLocally(sessionStream(sessionId(9))));
  });

  test("in force before the log is known, denies no later session and no person that the applied log has restored", () => {
    const log = add(shared.fork(3), created(9, 1), cut(1), created(11, 1), suspended(2), restored(2), created(12, 2));
    const copy = new LocalProjection(createPersonKeys([secret]));
    const denials = copyOf(log).denialsToPersist();
    copy.restoreDenials({ retained: [], denials });
    copy.startFrom(snapshotOf(log));
    for (const n of [11, 12]) assert.ok(!copy.isDeniedLocally(sessionStream(sessionId(n))), `${n}`);
    for (const n of [1, 2]) assert.ok(!copy.isDeniedLocally(userStream(userId(n))), `${n}`);
    const behind = new LocalProjection(createPersonKeys([secret]));
    behind.restoreDenials({ retained: [], denials });
    behind.startFrom(snapshotOf(log.fork(4)));
    for (const n of [1, 9]) assert.ok(behind.isDeniedLocally(sessionStream(sessionId(n))), `${n}`);
    assert.ok(behind.isDeniedLocally(userStream(userId(2))));
  });

  test("is reasserted by one start, and by none after the log has accepted it", () => {
    const old = lose(created(9, 1), cut(1), suspended(1));
    const log = keep();
    let denials = reasserted(copyOf(old).denialsToPersist(), log).denialsToPersist();
    log.open(3).add(restored(1)).add(created(11, 1));
    for (let start = 0; start < 3; start++) {
      const { copy, events } = startWith(denials, log);
      assert.deepEqual(describeEvents(events), [], `start ${start}`);
      assert.equal(copy.retained.size, 0);
      for (const stream of [userStream(userId(1)), sessionStream(sessionId(11))])
        assert.ok(!copy.isDeniedLocally(stream), stream);
      denials = copy.denialsToPersist();
      log.open(log.head.epoch + 1);
    }
  });

  test("is reasserted again when the event that settled it is lost", () => {
    const old = lose(suspended(1));
    const log = keep();
    const { denials } = { denials: reasserted(copyOf(old).denialsToPersist(), log).denialsToPersist() };
    const third = shared.fork(3).open(9);
    const { copy, events } = startWith(denials, third);
    assert.ok(describeEvents(events).includes("UserSuspended user:user-1"));
    assert.ok(copy.isDeniedLocally(userStream(userId(1))));
    assert.ok(copy.isDeniedLocally(sessionStream(sessionId(1))));
  });

  test("ends when a broker answers that the log has decided it, even if the node's own record of that is lost", () => {
    const old = lose(suspended(1));
    const denials = copyOf(old).denialsToPersist(); // the node stops before it can write more
    const log = keep();
    reasserted(denials, log);
    log.add(restored(1), 2).add(created(11, 1));
    const copy = new LocalProjection(createPersonKeys([secret]));
    copy.restoreDenials({ retained: [userStream(userId(1))], denials });
    copy.startFrom(snapshotOf(log));
    const events = copy.settlePersisted(chainOf(log))?.events ?? [];
    assert.deepEqual(describeEvents(events), ["UserSuspended user:user-1"]);
    assert.ok(copy.isDeniedLocally(userStream(userId(1))), "until the answer arrives");
    assert.ok(events[0] !== undefined);
    copy.answers.add(events[0].link.hash, log.head);
    copy.settleAnswered(chainOf(log));
    assert.ok(!copy.isDeniedLocally(userStream(userId(1))));
    assert.deepEqual(startWith(copy.denialsToPersist(), log).events, []);
  });

  test("is written once with the epochs of its history and parsed with them; an older build's file has none", () => {
    const old = lose(created(9, 1), cut(1), suspended(1));
    const denials = copyOf(old).denialsToPersist();
    const form = formatDenials({ retained: [], denials });
    assert.equal(form.chains?.length, 1);
    assert.deepEqual(parseDenials(decode(encode(form)) as DenialsFile), { retained: [], denials });
    const { chains: _, ...older } = form;
    const { copy, events } = startWith(parseDenials(older).denials, keep(created(11, 1)));
    assert.ok(describeEvents(events).includes("SessionRevoked session:session-1"));
    assert.ok(!copy.isDeniedLocally(sessionStream(sessionId(11))));
  });
});

describe("a persisted revocation of all sessions", () => {
  test("keeps the sessions that it ended, and is reasserted like that of a node that never stopped", () => {
    const old = lose(created(9, 1), cut(1));
    const copy = copyOf(old);
    const denials = copy.denialsToPersist();
    assert.deepEqual(denials[0]?.sessions, [sessionId(1), sessionId(9)]);
    const restarted = startWith(denials, keep());
    assert.deepEqual(describeEvents(restarted.events), [
      "SessionRevoked session:session-1",
      "SessionRevoked session:session-9",
    ]);
    const live = rebuild(copy, keep());
    assert.deepEqual(restarted.events.at(-1), live.at(-1));
    assert.ok(restarted.copy.isDeniedLocally(sessionStream(sessionId(9))));
  });

  test("survives any number of starts until the log is known to hold it", () => {
    const old = lose(created(9, 1), cut(1));
    const denials = copyOf(old).denialsToPersist();
    const again = startWith(denials, keep()).copy.denialsToPersist();
    assert.deepEqual(again, denials);
    assert.deepEqual(startWith(denials, old).events, []);
  });

  test("still denies sessions after the suspension is lifted, but no longer the person", () => {
    const old = lose(created(9, 1), suspended(1));
    const { copy, events } = startWith(copyOf(old).denialsToPersist(), keep(restored(1)));
    assert.ok(copy.isDeniedLocally(sessionStream(sessionId(9))));
    assert.ok(!copy.isDeniedLocally(userStream(userId(1))));
    assert.ok(describeEvents(events).includes("SessionRevoked session:session-9"));
    assert.ok(!describeEvents(events).includes("UserSuspended user:user-1"));
  });

  test("does not deny a restored person again when the node starts after the restoration", () => {
    const old = lose(created(9, 1), suspended(1));
    const log = keep(restored(1));
    const copy = copyOf(old);
    rebuild(copy, log);
    const live = copy.denialsToPersist();
    assert.deepEqual(describeEvents(live), ["SessionRevoked session:session-1", "SessionRevoked session:session-9"]);
    const started = startWith(copyOf(old).denialsToPersist(), log).copy;
    assert.deepEqual(started.denialsToPersist(), live);
    const later = new LocalProjection(createPersonKeys([secret]));
    later.restoreDenials({ retained: [], denials: live });
    later.startFrom(snapshotOf(log));
    later.settlePersisted(chainOf(log));
    assert.ok(!later.isDeniedLocally(userStream(userId(1))));
    assert.ok(later.isDeniedLocally(sessionStream(sessionId(9))), "the person's old sessions stay denied");
  });

  test("from an older build, without a list of sessions, is applied as it is", () => {
    const old = lose(created(9, 1), cut(1));
    const denials = copyOf(old)
      .denialsToPersist()
      .map(({ sessions: _, chain: __, ...denial }) => denial);
    const { events } = startWith(denials, keep());
    assert.deepEqual(describeEvents(events), ["SessionRevoked session:session-1"]);
  });

  test("keeps a bounded number of sessions, those of the newest revocations first", () => {
    const old = new History().open(1);
    const each = 100;
    const cuts = Math.ceil(persistedSessionsMax / each) + 5;
    const [projection, persisted] = [new Projection(), new PersistedDenials()];
    const epochs = marksOf(old);
    for (let user = 0; user < cuts; user++) {
      for (let n = 0; n < each; n++) old.add(created(user * each + n, user));
      old.add(cut(user));
    }
    for (const recorded of old.recorded(0, old.entries.length)) {
      projection.apply(recorded);
      const { kind, id } = parseStream(recorded.stream);
      persisted.remember(
        recorded,
        kind === "user" ? projection.sessionsOf(id as ReturnType<typeof userId>) : [],
        epochs,
      );
    }
    const denials = persisted.newest();
    assert.equal(denials.length, cuts, "each revocation itself is kept");
    assert.equal(
      denials.reduce((sum, { sessions }) => sum + (sessions?.length ?? 0), 0),
      persistedSessionsMax,
    );
    assert.equal(denials.at(-1)?.sessions?.length, each);
    assert.equal(denials[0]?.sessions, undefined);
  });
});
