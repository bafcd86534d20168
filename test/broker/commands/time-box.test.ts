/** Commands with an end: what they record and refuse, and what the sweep records at the end. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AccessSet } from "../../../src/broker/commands/access.ts";
import { accessOf, performCommand } from "../../../src/broker/commands/catalog.ts";
import { parseCommandRequest } from "../../../src/broker/commands/parse-command.ts";
import type { Performed } from "../../../src/broker/commands/performed.ts";
import { timeBoxesMax } from "../../../src/broker/commands/time-box.ts";
import {
  type CardeaEvent,
  type Command,
  type Epoch,
  type GroupId,
  type PersonKey,
  type Position,
  Projection,
  readsLevel,
  type Stream,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import { record } from "../../events/support.ts";
import { asked, createSession, user } from "../support.ts";
import { commandTools } from "./command-tools.ts";

const start = 1_700_000_000_000 as UnixMs;
const eng = "eng" as GroupId;
const alice = user("alice");
const later = (ms: number): UnixMs => (start + ms) as UnixMs;

class Bench {
  readonly ledger = new Projection();
  readonly keys = new Map<UserId, PersonKey>();
  readonly versions = new Map<Stream, number>();
  now = start;

  constructor(level = readsLevel) {
    if (level > 1) this.fold([{ type: "UpgradeFinalized", level }]);
    this.do(signIn("s1"));
  }

  ask(command: Command): Performed {
    const tools = commandTools(this.now, {
      personKeyOf: (id) => this.keys.get(id),
      versionOf: (stream) => this.versions.get(stream) ?? 0,
    });
    return performCommand(this.ledger, asked(command), tools);
  }

  do(command: Command): readonly CardeaEvent[] {
    const performed = this.ask(command);
    assert.equal(performed.type, "changes", JSON.stringify(performed));
    if (performed.type !== "changes") return [];
    for (const { person } of performed.changes.newKeys) this.keys.set(person.userId, person);
    this.fold(performed.changes.events);
    return performed.changes.events;
  }

  fold(events: readonly CardeaEvent[]): void {
    for (const recorded of record(events, this.ledger.applied)) {
      this.ledger.apply(recorded);
      this.versions.set(recorded.stream, (this.versions.get(recorded.stream) ?? 0) + 1);
    }
  }
}

function signIn(id: string): Command {
  return { ...createSession(id, "alice"), issuedAt: start, expiresAt: later(864_000_000) };
}
function add(parts: Partial<Extract<Command, { type: "changeGroupMembers" }>> = {}): Command {
  const box = { until: later(1_000), reason: "on call" };
  return {
    type: "changeGroupMembers",
    groupId: eng,
    source: "operator",
    added: [alice],
    removed: [],
    ...box,
    ...parts,
  };
}
const suspend = (until?: UnixMs): Command => ({
  type: "suspendUser",
  userId: alice,
  reason: "lost laptop",
  ...(until === undefined ? {} : { until }),
});
const codeOf = (performed: Performed): string => (performed.type === "refused" ? performed.code : performed.type);

describe("an addition with an end", () => {
  test("records the end and the reason, and the sweep records the end once it has come", () => {
    const bench = new Bench();
    assert.deepEqual(bench.do(add()), [
      {
        ...{ type: "GroupMembersChanged", groupId: eng, source: "operator", added: [alice], removed: [] },
        ...{ until: later(1_000), reason: "on call" },
      },
    ]);
    const sweep: Command = { type: "expireMemberships", groupId: eng, userIds: [alice] };
    assert.equal(bench.ask(sweep).type, "nothing", "whatever the sweep names");
    bench.now = later(1_000);
    assert.deepEqual(bench.do(sweep), [
      { type: "MembershipsExpired", groupId: eng, userIds: [alice], at: later(1_000) },
    ]);
    assert.equal(bench.ask(sweep).type, "nothing");
  });

  test("is recorded again for another end or none, and not for the same", () => {
    const bench = new Bench();
    bench.do(add());
    assert.equal(bench.ask(add()).type, "nothing");
    bench.do(add({ until: later(5_000) }));
    bench.do(add({ until: later(2_000) }));
    const { until: _, ...permanent } = add() as Extract<Command, { type: "changeGroupMembers" }>;
    bench.do(permanent);
    assert.equal(bench.ledger.timeBoxes, 0);
  });

  test("is refused without a reason, in the past, far ahead, for other sources and together with a removal", () => {
    const bench = new Bench();
    const { reason: _, ...silent } = add() as Extract<Command, { type: "changeGroupMembers" }>;
    for (const command of [
      silent,
      add({ reason: "  " }),
      add({ until: start }),
      add({ until: later(11 * 366 * 86_400_000) }),
      add({ source: "idp" }),
      add({ added: [], removed: [alice] }),
    ])
      assert.equal(codeOf(bench.ask(command)), "invalid", JSON.stringify(command));
  });

  test("below level 5 is refused with the command that raises the level, and so is a suspension with an end", () => {
    const bench = new Bench(4);
    for (const command of [add(), suspend(later(1_000))]) {
      const refused = bench.ask(command);
      assert.ok(refused.type === "refused" && /cardea cluster finalize/.test(refused.message), JSON.stringify(refused));
    }
    bench.do(suspend());
  });

  test("of a malformed form is refused before it is performed", () => {
    for (const fields of [{ until: -1 }, { until: "soon" }, { reason: "x".repeat(201) }, { reason: "a\u0000b" }])
      assert.throws(() => parseCommandRequest({ ...asked(add()), command: { ...add(), ...fields } }));
    assert.deepEqual(parseCommandRequest({ ...asked(add()) }).command, add());
    assert.throws(() => parseCommandRequest(asked({ ...suspend(later(1)), reason: "x".repeat(201) } as Command)));
    assert.deepEqual(parseCommandRequest(asked(suspend(later(1)))).command, suspend(later(1)));
  });
});

describe("the bound of ends", () => {
  const people = Array.from({ length: timeBoxesMax }, (_, n) => user(`person-${n}`));
  const filled = (count: number): Bench => {
    const bench = new Bench();
    for (let from = 0; from < count; from += 5_000) {
      const added = people.slice(from, Math.min(count, from + 5_000));
      const until = later(1_000);
      bench.fold([
        { type: "GroupMembersChanged", groupId: eng, source: "operator", added, removed: [], until, reason: "r" },
      ]);
    }
    assert.equal(bench.ledger.timeBoxes, count);
    return bench;
  };

  test("counts every person that a command names, not the command alone", () => {
    const bench = filled(timeBoxesMax - 1);
    bench.do({ ...createSession("s2", "bob"), issuedAt: start, expiresAt: later(864_000_000) });
    const both = bench.ask(add({ groupId: "ops" as GroupId, added: [alice, user("bob")] }));
    assert.ok(both.type === "refused" && both.code === "conflict", JSON.stringify(both));
    assert.match(both.message, /this would add 2: it keeps at most 100000/);
    bench.do(add({ groupId: "ops" as GroupId }));
    assert.equal(bench.ledger.timeBoxes, timeBoxesMax);
    assert.equal(codeOf(bench.ask(suspend(later(5_000)))), "conflict");
  });

  test("refuses no change of an end that exists", () => {
    const bench = filled(timeBoxesMax - 2);
    bench.do(add());
    bench.do(suspend(later(2_000)));
    assert.equal(bench.ledger.timeBoxes, timeBoxesMax);
    bench.do(add({ until: later(9_000) }));
    bench.do(add({ until: later(3_000) }));
    bench.do(suspend(later(9_000)));
    assert.equal(bench.ledger.timeBoxes, timeBoxesMax);
  });

  test("is not exceeded by two commands of one batch, which is performed against one head", () => {
    const used = new AccessSet();
    const { ledger } = new Bench();
    used.add(accessOf(asked(add()), ledger));
    for (const other of [add({ groupId: "ops" as GroupId, added: [user("bob")] }), suspend(later(1_000))])
      assert.equal(used.conflicts(accessOf(asked(other), ledger)), true, other.type);
    const { until: _, ...permanent } = add({ groupId: "ops" as GroupId, added: [user("bob")] }) as ReturnType<
      typeof add
    > & {
      until?: UnixMs;
    };
    assert.equal(used.conflicts(accessOf(asked(permanent as Command), ledger)), false);
  });
});

describe("a suspension with an end", () => {
  test("bars sign-ins until its end, and the first sign-in after it records the end", () => {
    const bench = new Bench();
    bench.do(suspend(later(1_000)));
    assert.equal(bench.ledger.sessionStatus("s1" as never).status, "revoked");
    bench.now = later(999);
    assert.equal(codeOf(bench.ask(signIn("s2"))), "suspended");
    bench.now = later(1_000);
    assert.deepEqual(
      bench.do(signIn("s2")).map(({ type }) => type),
      ["SuspensionExpired", "SessionCreated"],
    );
    assert.equal(bench.ledger.sessionStatus("s2" as never).status, "active");
    assert.equal(bench.ledger.sessionStatus("s1" as never).status, "revoked");
  });

  test("is swept once its end has come, and a restore ends it before", () => {
    const bench = new Bench();
    bench.do(suspend(later(1_000)));
    const sweep: Command = { type: "expireSuspensions", userIds: [alice] };
    assert.equal(bench.ask(sweep).type, "nothing");
    bench.now = later(1_000);
    assert.deepEqual(bench.do(sweep), [{ type: "SuspensionExpired", userId: alice, at: later(1_000) }]);
    bench.do(suspend(later(2_000)));
    bench.do({ type: "restoreUser", userId: alice });
    assert.equal(bench.ledger.user(alice)?.status, "active");
  });

  test("never shortens another one: the refusal says until when the person is suspended", () => {
    const bench = new Bench();
    bench.do(suspend(later(2_000)));
    const earlier = bench.ask(suspend(later(1_000)));
    assert.ok(earlier.type === "refused" && earlier.code === "conflict");
    assert.match(earlier.message, /until 2023-11-14T22:13:22Z already; restore the user/);
    assert.equal(bench.ask(suspend(later(2_000))).type, "nothing");
    bench.do(suspend(later(3_000)));
    bench.do(suspend());
    assert.equal(bench.ask(suspend()).type, "nothing");
    assert.equal(codeOf(bench.ask(suspend(later(9_000)))), "conflict");
  });
});

describe("a suspension that the log has lost", () => {
  const lost = (until?: UnixMs): Command => ({
    type: "reassertTightenings",
    events: [
      {
        link: { epoch: 1 as Epoch, position: 5 as Position, hash: "e".repeat(64) as never },
        stream: `user:${alice}`,
        type: "UserSuspended",
        userId: alice,
        recordedAt: start,
        ...(until === undefined ? {} : { until }),
      },
    ],
  });

  test("returns with its end, also one that has passed: it ended sessions", () => {
    for (const until of [later(1_000), later(-1_000)]) {
      const bench = new Bench();
      const parsed = parseCommandRequest(asked(lost(until))).command;
      assert.deepEqual(bench.do(parsed), [{ type: "UserSuspended", userId: alice, reason: "reasserted", until }]);
    }
  });

  test("without an end is recorded over one with an end", () => {
    const bench = new Bench();
    bench.do(suspend(later(1_000)));
    assert.equal(bench.ask(lost(later(1_000))).type, "nothing");
    bench.do(lost());
    bench.now = later(2_000);
    assert.equal(bench.ask({ type: "expireSuspensions", userIds: [alice] }).type, "nothing");
  });
});
