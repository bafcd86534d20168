/** Reports of use, and the end of idle sessions, at the leader. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createIdleDuty, reportMsMax } from "../../../src/auth/idle/idle-duty.ts";
import { performCommand } from "../../../src/broker/commands/catalog.ts";
import { parseCommandRequest } from "../../../src/broker/commands/parse-command.ts";
import type { Performed } from "../../../src/broker/commands/performed.ts";
import {
  type CardeaEvent,
  type Command,
  type CommandRequest,
  type CommandResult,
  type Epoch,
  encode,
  type MonotonicMs,
  Projection,
  readsLevel,
  type SeenSession,
  type SessionId,
  seenAtOnceMax,
  type UnixMs,
} from "../../../src/events/index.ts";
import { record } from "../../events/support.ts";
import { asked, createSession, user } from "../support.ts";
import { commandTools } from "./command-tools.ts";

const start = 1_700_000_000_000 as UnixMs;
const minute = 60_000;
const later = (ms: number): UnixMs => (start + ms) as UnixMs;
const s1 = "s1" as SessionId;
const row = (ms: number, parts: Partial<SeenSession> = {}): SeenSession => ({
  sessionId: s1,
  seenAt: later(ms),
  pauseMs: 0,
  ...parts,
});
const report = (...seen: readonly SeenSession[]): Command => ({ type: "recordActivity", seen });
const seenEvent = (...seen: readonly SeenSession[]): CardeaEvent => ({
  type: "SessionsSeen",
  sessionIds: seen.map(({ sessionId }) => sessionId),
  seenAt: seen.map(({ seenAt }) => seenAt),
  pauseMs: seen.map(({ pauseMs }) => pauseMs),
});

class Bench {
  readonly projection = new Projection();
  now = start;

  constructor(level = readsLevel) {
    if (level > 1) this.fold([{ type: "UpgradeFinalized", level }]);
    this.signIn("s1");
  }

  signIn(id: string, person = "alice"): void {
    this.do({ ...createSession(id, person), issuedAt: this.now, expiresAt: later(1_000 * minute) });
  }

  ask(command: Command): Performed {
    const tools = commandTools(this.now);
    return performCommand(this.projection, asked(command), tools);
  }

  do(command: Command): readonly CardeaEvent[] {
    const performed = this.ask(command);
    if (performed.type !== "changes") return [];
    this.fold(performed.changes.events);
    return performed.changes.events;
  }

  fold(events: readonly CardeaEvent[]): void {
    for (const recorded of record(events, this.projection.applied)) this.projection.apply(recorded);
  }
}

describe("a report of use", () => {
  test("records all its sessions in one event, and the projection keeps the larger numbers", () => {
    const bench = new Bench();
    bench.signIn("s2", "bob");
    bench.now = later(10 * minute);
    const rows = [row(5 * minute, { pauseMs: 9 }), row(6 * minute, { sessionId: "s2" as SessionId })];
    assert.deepEqual(bench.do(report(...rows)), [seenEvent(...rows)]);
    assert.deepEqual(bench.projection.uses.of(s1), { seenAt: later(5 * minute), pauseMs: 9 });
    bench.fold([seenEvent(row(minute, { pauseMs: 4 }))]);
    assert.deepEqual(bench.projection.uses.of(s1), { seenAt: later(5 * minute), pauseMs: 9 }, "a late one");
    assert.equal(bench.projection.recomputedDigest(), bench.projection.digest());
  });

  test("names no pause that is longer than the session is old", () => {
    const bench = new Bench();
    bench.now = later(10 * minute);
    bench.do(report(row(9 * minute, { pauseMs: 1_000 * minute })));
    assert.equal(bench.projection.uses.of(s1)?.pauseMs, 10 * minute);
  });

  test("that is repeated, or comes from a second node, records nothing", () => {
    const bench = new Bench();
    bench.now = later(10 * minute);
    bench.do(report(row(5 * minute)));
    assert.equal(bench.ask(report(row(5 * minute))).type, "nothing");
    assert.equal(bench.ask(report(row(5 * minute + 1_999))).type, "nothing");
    assert.equal(bench.do(report(row(5 * minute), row(7 * minute), row(6 * minute))).length, 1);
    assert.equal(bench.projection.uses.of(s1)?.seenAt, later(7 * minute));
  });

  test("of a node whose clock is ahead counts as of the leader's time", () => {
    const bench = new Bench();
    bench.now = later(10 * minute);
    bench.do(report(row(500 * minute)));
    assert.equal(bench.projection.uses.of(s1)?.seenAt, bench.now);
  });

  test("never concerns a session that is unknown, revoked or expired, and revives none", () => {
    const bench = new Bench();
    bench.now = later(10 * minute);
    assert.equal(bench.ask(report(row(5 * minute, { sessionId: "other" as SessionId }))).type, "nothing");
    bench.do(report(row(5 * minute)));
    bench.do({ type: "revokeSession", sessionId: s1, reason: "operator" });
    assert.equal(bench.projection.uses.of(s1), undefined);
    assert.equal(bench.ask(report(row(9 * minute))).type, "nothing");
    bench.fold([seenEvent(row(9 * minute))]);
    assert.equal(bench.projection.uses.of(s1), undefined, "also when it was recorded before the revocation was known");
    assert.equal(bench.projection.sessionStatus(s1).status, "revoked");
    assert.equal(bench.projection.recomputedDigest(), bench.projection.digest());
  });

  test("leaves the session object as it was, so nothing that is cached by it is lost", () => {
    const bench = new Bench();
    const before = bench.projection.sessionStatus(s1);
    bench.now = later(10 * minute);
    bench.do(report(row(5 * minute)));
    assert.equal(before.status === "active" && before.session, statusSession(bench));
  });

  test("is refused below its level with the remedy, and when it is malformed or too long", () => {
    const bench = new Bench(4);
    const performed = bench.ask(report(row(5 * minute)));
    assert.equal(performed.type, "refused");
    assert.match(performed.type === "refused" ? performed.message : "", /cardea cluster finalize/);
    const parse = (command: unknown) => () =>
      parseCommandRequest({ commandId: asked(report()).commandId, actor: "system", command });
    for (const seen of [
      [{ sessionId: "s1", seenAt: "now", pauseMs: 0 }],
      [{ sessionId: "s1", seenAt: start, pauseMs: -1 }],
      [{ sessionId: "", seenAt: start, pauseMs: 0 }],
      ["s1"],
      "s1",
      Array.from({ length: seenAtOnceMax + 1 }, () => row(0)),
    ])
      assert.throws(parse({ type: "recordActivity", seen }), JSON.stringify(seen).slice(0, 80));
  });

  test("of the greatest length is an event of less than 64 KB", () => {
    const rows = Array.from({ length: seenAtOnceMax }, (_, n) =>
      row(n, {
        sessionId: `00000000-0000-4000-8000-${String(n).padStart(12, "0")}` as SessionId,
        pauseMs: Number.MAX_SAFE_INTEGER,
      }),
    );
    const bytes = encode(seenEvent(...rows)).length;
    assert.ok(bytes < 64 * 1_024, `${bytes} bytes`);
  });
});

function statusSession({ projection }: Bench): unknown {
  const at = projection.sessionStatus(s1);
  return at.status === "active" ? at.session : undefined;
}

describe("the leader", () => {
  const idleMs = 20 * minute;
  const endsAfter = idleMs + idleMs / 4 + reportMsMax;

  /** A leader whose epoch began at 0. */
  function leader(bench: Bench, lifetimes: Readonly<{ everywhere: (idpId: string) => number }> | null) {
    const run = createIdleDuty({
      lifetimes: () => lifetimes && { onRoute: () => 0, shortest: () => idleMs, ...lifetimes },
      uuid: () => "00000000-0000-4000-8000-000000000001",
    });
    return (ms: number, epoch = 2): Promise<void> => {
      bench.now = later(ms);
      return run({
        submit: async ({ commandId, command }: CommandRequest): Promise<CommandResult> => {
          const changed = bench.do(command).length > 0;
          return { type: "done", commandId, link: bench.projection.applied, changed };
        },
        projection: bench.projection,
        now: bench.now,
        clock: { monotonic: () => ms as MonotonicMs, wall: () => bench.now },
        signal: new AbortController().signal,
        leadership: { epoch: epoch as Epoch },
      });
    };
  }

  test("ends sessions that are idle everywhere, after reports have had their time, with the reason idle", async () => {
    const bench = new Bench();
    bench.signIn("s2", "bob");
    const run = leader(bench, { everywhere: () => idleMs });
    await run(0);
    bench.do(report(row(0, { sessionId: "s2" as SessionId })));
    await run(endsAfter - 1);
    assert.equal(bench.projection.sessionStatus(s1).status, "active");
    bench.fold([seenEvent(row(endsAfter - minute, { sessionId: "s2" as SessionId }))]);
    await run(endsAfter);
    const ended = bench.projection.sessionStatus(s1);
    assert.equal(ended.status === "revoked" && ended.reason, "idle");
    assert.equal(bench.projection.sessionStatus("s2" as SessionId).status, "active", "it was used");
    assert.equal(bench.projection.recomputedDigest(), bench.projection.digest());
  });

  test("waits after it was elected: reports of the nodes may be under way", async () => {
    const bench = new Bench();
    const run = leader(bench, { everywhere: () => idleMs });
    await run(2 * endsAfter);
    await run(2 * endsAfter + reportMsMax - 1);
    assert.equal(bench.projection.sessionStatus(s1).status, "active");
    bench.do(report(row(2 * endsAfter - minute)));
    await run(2 * endsAfter + reportMsMax);
    assert.equal(bench.projection.sessionStatus(s1).status, "active");
    await run(4 * endsAfter, 3);
    assert.equal(bench.projection.sessionStatus(s1).status, "active", "another epoch begins");
    await run(4 * endsAfter + reportMsMax, 3);
    assert.equal(bench.projection.sessionStatus(s1).status, "revoked");
  });

  test("ends none for the idle lifetime of a route, of another provider, or of a bearer token", async () => {
    const bench = new Bench();
    const token = "01234567-89ab-8def-8123-456789abcdef" as SessionId;
    bench.signIn(token, "robot");
    for (const lifetimes of [null, { everywhere: () => 0 }, { everywhere: (id: string) => (id === "x" ? 1 : 0) }]) {
      const run = leader(bench, lifetimes);
      await run(0);
      await run(10 * endsAfter);
    }
    assert.equal(bench.projection.sessionStatus(s1).status, "active");
    const run = leader(bench, { everywhere: () => idleMs });
    await run(11 * endsAfter);
    await run(12 * endsAfter);
    assert.equal(bench.projection.sessionStatus(s1).status, "revoked");
    assert.equal(bench.projection.sessionStatus(token).status, "active");
  });

  test("passes by sessions that ended with their person, however many there are", async () => {
    const bench = new Bench();
    const people = ["bob", "carol", "dave"];
    for (let n = 0; n < 297; n++) bench.signIn(`gone-${n}`, people[n % 3]);
    for (const name of people) bench.do({ type: "suspendUser", userId: user(name), reason: "left" });
    bench.signIn("s3");
    const run = leader(bench, { everywhere: () => idleMs });
    await run(0);
    await run(2 * endsAfter);
    assert.equal(bench.projection.sessionStatus("s3" as SessionId).status, "revoked");
    const gone = bench.projection.sessionStatus("gone-1" as SessionId);
    assert.equal(gone.status === "revoked" && gone.reason, "user-suspended");
  });
});
