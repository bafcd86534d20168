/** Session activity of nodes: what they remember, what they report, and when a session is idle for them. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createIdleGate, SessionActivity } from "../../../src/auth/index.ts";
import {
  type MonotonicMs,
  type SeenSession,
  type SessionId,
  type SessionUse,
  seenAtOnceMax,
  type UnixMs,
} from "../../../src/events/index.ts";

const start = 1_700_000_000_000;
const minute = 60_000;
const idleMs = 20 * minute;
const session = (n: number, issuedAt = start) => ({
  sessionId: `session-${n}` as SessionId,
  idpId: "idp",
  issuedAt: issuedAt as UnixMs,
});
const one = session(1);

/** The log of a cluster, as far as it holds the use of sessions. */
class Log {
  readonly uses = new Map<SessionId, SessionUse>();

  record(seen: readonly SeenSession[]): void {
    for (const { sessionId, seenAt, pauseMs } of seen) {
      const before = this.uses.get(sessionId) ?? { seenAt: 0, pauseMs: 0 };
      this.uses.set(sessionId, {
        seenAt: Math.max(before.seenAt, seenAt) as UnixMs,
        pauseMs: Math.max(before.pauseMs, pauseMs),
      });
    }
  }
}

class Node {
  readonly activity: SessionActivity;
  isFresh = true;
  readonly #log: Log;

  constructor(log: Log, options: Readonly<{ sessionsMax?: number; dueMax?: number }> = {}) {
    this.#log = log;
    this.activity = new SessionActivity({
      useOf: (id) => log.uses.get(id),
      isFresh: () => this.isFresh,
      ...options,
    });
  }

  use(of = one, ms = 0): void {
    this.activity.note(of, idleMs, momentAt(ms));
  }
  /** Takes reports until nothing is due. @returns how many rows were sent */
  report(ms: number, result: "done" | "unavailable" | "refused" = "done"): readonly SeenSession[] {
    const seen =
      this.activity.next((ms + minute) as MonotonicMs) ?? this.activity.next((ms + 2 * minute) as MonotonicMs);
    if (seen === null) return [];
    if (result === "done") this.#log.record(seen);
    this.activity.answered(result, (ms + 2 * minute) as MonotonicMs);
    return seen;
  }
  isIdle(ms: number, of = one, lifetimeMs = idleMs): boolean {
    return this.activity.idleAt(of, lifetimeMs, (start + ms) as UnixMs) <= start + ms;
  }
}

const momentAt = (ms: number) => ({ monotonic: ms as MonotonicMs, wall: (start + ms) as UnixMs });

describe("a session", () => {
  test("is idle when its lifetime has passed since the sign-in or the last permitted request, and not before", () => {
    const node = new Node(new Log());
    assert.equal(node.isIdle(idleMs - 1), false);
    assert.equal(node.isIdle(idleMs), true);
    node.use(one, 15 * minute);
    assert.equal(node.isIdle(15 * minute + idleMs - 1), false);
    assert.equal(node.isIdle(15 * minute + idleMs), true);
  });

  test("counts on another node only after a report, which is due after a quarter of the lifetime", () => {
    const log = new Log();
    const [here, there] = [new Node(log), new Node(log)];
    here.use(one, minute);
    assert.deepEqual(here.report(minute), [], "nothing is due yet");
    here.use(one, 6 * minute);
    assert.deepEqual(here.report(6 * minute), [
      { sessionId: one.sessionId, seenAt: start + 6 * minute, pauseMs: 5 * minute },
    ]);
    assert.equal(there.isIdle(6 * minute + idleMs - 1), false);
    assert.equal(there.isIdle(6 * minute + idleMs), true);
  });

  test("that was once unused for a lifetime stays idle there, although another route still accepts it", () => {
    const log = new Log();
    const [here, there] = [new Node(log), new Node(log)];
    here.use(one, 25 * minute); // on a route without an idle lifetime
    assert.equal(here.isIdle(25 * minute + 1), true, "the request does not revive it");
    assert.equal(here.isIdle(25 * minute + 1, one, 60 * minute), false, "where a longer lifetime applies, it counts");
    here.report(25 * minute);
    assert.equal(there.isIdle(26 * minute), true, "nor on another node, which gets both numbers in one report");
    there.use(one, 26 * minute);
    assert.equal(there.isIdle(26 * minute + 1), true);
  });

  test("used on several nodes in turn has no pause, as soon as their reports are in the log", () => {
    const log = new Log();
    const nodes = [new Node(log), new Node(log), new Node(log)];
    for (let ms = 0; ms < 5 * idleMs; ms += minute) {
      const node = nodes[(ms / minute) % 3] as Node;
      assert.equal(node.isIdle(ms), false, `after ${ms} ms`);
      node.use(one, ms);
      node.report(ms);
    }
    assert.ok((log.uses.get(one.sessionId)?.pauseMs ?? 0) < idleMs / 2);
  });

  test("of a bearer token is never idle, and its use is not remembered", () => {
    const node = new Node(new Log());
    const gate = createIdleGate(
      { onRoute: () => idleMs, everywhere: () => idleMs, shortest: () => idleMs },
      node.activity,
    );
    const token = { ...one, sessionId: "01234567-89ab-8def-8123-456789abcdef" as SessionId };
    const random = { ...one, sessionId: "01234567-89ab-4def-8123-456789abcdef" as SessionId };
    const route = { sessionIdleLifetimeMs: 0 };
    assert.equal(gate.onRoute(route, token, (start + 2 * idleMs) as UnixMs), null);
    gate.note(token, momentAt(0));
    assert.equal(node.activity.useHere(token.sessionId), undefined);
    assert.equal(gate.onRoute(route, random, (start + 2 * idleMs) as UnixMs), start + idleMs);
  });
});

describe("a stolen or misused session", () => {
  test("is refused on a node that never saw it once the reports of the others stop", () => {
    const log = new Log();
    const [here, there] = [new Node(log), new Node(log)];
    for (let ms = 0; ms <= 60 * minute; ms += minute) {
      here.use(one, ms);
      if (ms < 30 * minute) here.report(ms);
      else here.report(ms, "unavailable");
    }
    assert.equal(here.isIdle(61 * minute), false);
    assert.equal(there.isIdle(61 * minute), true, "fails closed: only the node that saw it knows");
  });

  test("keeps nothing alive on a node without a lease", () => {
    const node = new Node(new Log());
    node.use(one, minute);
    node.isFresh = false;
    for (let ms = 2 * minute; ms < 40 * minute; ms += minute) node.use(one, ms);
    assert.equal(node.isIdle(minute + idleMs), true);
    assert.deepEqual(node.report(40 * minute), []);
  });

  test("gains nothing by a clock that is set back", () => {
    const node = new Node(new Log());
    node.use(one, 10 * minute);
    node.use(one, 2 * minute);
    assert.equal(node.activity.useHere(one.sessionId)?.seenAt, start + 10 * minute);
  });

  test("causes one row per quarter of the lifetime, however many requests it makes", () => {
    const node = new Node(new Log());
    let rows = 0;
    for (let ms = 0; ms < 60 * minute; ms += 50) {
      node.use(one, ms);
      if (ms % 1_000 === 0) rows += node.report(ms).length;
    }
    assert.ok(rows <= 12, `${rows} rows in an hour, of 72,000 requests`);
  });
});

describe("reports", () => {
  test("that are lost, repeated or late leave the same state", () => {
    const rows = [3, 6, 9].map((minutes) => ({
      sessionId: one.sessionId,
      seenAt: (start + minutes * minute) as UnixMs,
      pauseMs: minutes * 1_000,
    }));
    const [a, b, c] = rows as [SeenSession, SeenSession, SeenSession];
    const orders = [[a, b, c], [c, b, a], [b, b, a, c, c, a], [c]];
    const states = orders.map((order) => {
      const log = new Log();
      for (const row of order) log.record([row]);
      return log.uses.get(one.sessionId);
    });
    for (const state of states) assert.deepEqual(state, { seenAt: c.seenAt, pauseMs: c.pauseMs });
  });

  test("without an answer are sent again with the newest times, at growing intervals, one at a time", () => {
    const log = new Log();
    const node = new Node(log);
    node.use(one, 6 * minute);
    const at = (ms: number): MonotonicMs => (6 * minute + ms) as MonotonicMs;
    assert.equal(node.activity.next(at(0)), null, "it waits a while for others");
    assert.equal(node.activity.next(at(10_000))?.length, 1);
    assert.equal(node.activity.next(at(20_000)), null, "one is under way");
    node.activity.answered("unavailable", at(20_000));
    node.use(one, 7 * minute);
    assert.equal(node.activity.next(at(20_999)), null);
    assert.equal(node.activity.next(at(21_000))?.[0]?.seenAt, start + 7 * minute);
    node.activity.answered("unavailable", at(21_000));
    assert.equal(node.activity.next(at(22_999)), null);
    assert.equal(node.activity.next(at(23_000))?.length, 1, "after a change of leader it goes on");
    node.activity.answered("done", at(23_000));
    assert.equal(node.activity.due, 0);
  });

  test("that the leader refuses are tried once a minute", () => {
    const node = new Node(new Log());
    node.use(one, 6 * minute);
    node.report(6 * minute, "refused");
    node.use(one, 7 * minute);
    for (const ms of [8 * minute, 9 * minute - 1]) assert.equal(node.activity.next(ms as MonotonicMs), null);
    assert.equal(node.activity.next((9 * minute) as MonotonicMs)?.length, 1);
  });

  test("of a session that another node has reported are left out", () => {
    const log = new Log();
    const [here, there] = [new Node(log), new Node(log)];
    here.use(one, minute);
    there.use(one, minute);
    for (let ms = 2 * minute; ms < 5 * minute; ms += minute) {
      here.use(one, ms);
      there.use(one, ms);
    }
    here.use(one, 6 * minute + 1_000);
    assert.equal(here.report(6 * minute).length, 1);
    there.use(one, 6 * minute + 2_000);
    assert.equal(there.report(6 * minute).length, 0);
  });
});

describe("the memory of a node", () => {
  test("stays bounded with 300,000 sessions, and what it forgets counts by the log alone", () => {
    const node = new Node(new Log(), { sessionsMax: 100_000, dueMax: 20_000 });
    for (let n = 0; n < 300_000; n++) node.use(session(n), 6 * minute);
    const remembered = Array.from({ length: 300_000 }, (_, n) => node.activity.useHere(session(n).sessionId));
    const count = remembered.filter((use) => use !== undefined).length;
    assert.ok(count <= 100_000 && count >= 50_000, String(count));
    assert.equal(node.activity.due, 20_000);
    assert.equal(node.activity.dropped, 280_000);
    assert.equal(node.isIdle(6 * minute + idleMs - 1, session(0)), true, "forgotten: as if it had never been used");
    assert.equal(node.isIdle(6 * minute + idleMs - 1, session(299_999)), false);
    assert.equal(
      node.activity.next((7 * minute) as MonotonicMs)?.length,
      seenAtOnceMax,
      "a full report waits for none",
    );
  });

  test("that is lost in a restart shortens a session by a quarter of its lifetime at most", () => {
    const log = new Log();
    const before = new Node(log);
    for (let ms = 0; ms <= 30 * minute; ms += 1_000) {
      before.use(one, ms);
      before.report(ms);
    }
    const after = new Node(log);
    assert.equal(after.isIdle(30 * minute + idleMs * 0.75 - 2_000), false);
    assert.equal(after.isIdle(30 * minute + idleMs), true);
  });
});
