/** Commands about access requests: what they record and refuse, in every order of people, deciders and ends. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AccessSet } from "../../../src/broker/commands/access.ts";
import { accessOf, performCommand } from "../../../src/broker/commands/catalog.ts";
import { parseCommandRequest } from "../../../src/broker/commands/parse-command.ts";
import type { Performed } from "../../../src/broker/commands/performed.ts";
import { refuseCommand } from "../../../src/broker/commands/permissions.ts";
import {
  type AccessDecider,
  type AccessRequestStatus,
  accessMsMax,
  type CardeaEvent,
  type Command,
  type CommandId,
  type DecideAccessRequest,
  endedRequestsMax,
  type GroupId,
  openRequestWords,
  type PersonKey,
  Projection,
  type RequestAccess,
  readsLevel,
  requestedByPersonMax,
  type Sealed,
  type SessionId,
  type UnixMs,
  type UserId,
  undecidedMsMax,
  waitingByPersonMax,
} from "../../../src/events/index.ts";
import { record } from "../../events/support.ts";
import { fc } from "../../support/property.ts";
import { asked, createSession, user } from "../support.ts";
import { commandTools } from "./command-tools.ts";

const start = 1_700_000_000_000 as UnixMs;
const hour = 3_600_000;
const hr = "hr" as GroupId;
const leads = "hr-leads" as GroupId;
const later = (ms: number): UnixMs => (start + ms) as UnixMs;
const idOf = (n: number): CommandId => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}` as CommandId;
const operator: AccessDecider = { type: "operator", userId: null };

class Bench {
  readonly projection = new Projection();
  readonly keys = new Map<UserId, PersonKey>();
  now = start;

  constructor(level = readsLevel) {
    if (level > 1) this.fold([{ type: "UpgradeFinalized", level }]);
    for (const name of ["bob", "dana", "eve"])
      this.do({ ...createSession(`s-${name}`, name), issuedAt: start, expiresAt: later(30 * 24 * hour) });
    this.do({ type: "changeGroupMembers", groupId: leads, source: "operator", added: [user("dana")], removed: [] });
  }

  ask(command: Command): Performed {
    const tools = commandTools(this.now, { personKeyOf: (id) => this.keys.get(id) });
    return performCommand(this.projection, asked(command), tools);
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
    for (const recorded of record(events, this.projection.applied))
      this.projection.apply({ ...recorded, recordedAt: this.now });
    assert.equal(this.projection.digest(), this.projection.recomputedDigest());
  }
  statusOf(n: number): AccessRequestStatus | undefined {
    return this.projection.accessRequests.get(idOf(n))?.status;
  }
  isIn(at: UnixMs, name = "bob"): boolean {
    return this.projection.groupsOf(user(name), at).has(hr);
  }
  wordsOf(sealed: Sealed | null | undefined, n: number, name = "bob"): string {
    const key = this.keys.get(user(name));
    assert.ok(sealed != null && key !== undefined);
    return openRequestWords(sealed, idOf(n), key);
  }
}

const sessionOf = (name: string): SessionId => `s-${name}` as SessionId;
const named = (name: string): AccessDecider => ({ type: "named", userId: user(name), sessionId: sessionOf(name) });
const lead: AccessDecider = { type: "group", userId: user("dana"), sessionId: sessionOf("dana"), groupId: leads };

function request(n: number, parts: Partial<RequestAccess> = {}): RequestAccess {
  return {
    ...{ type: "requestAccess", requestId: idOf(n), userId: user("bob"), sessionId: sessionOf("bob") },
    ...{ routeId: "payroll", groupId: hr, durationMs: 4 * hour, reason: "quarter close", refusal: "refusal-1" },
    ...parts,
  };
}
function approve(n: number, parts: Partial<DecideAccessRequest> = {}): DecideAccessRequest {
  const approved = { decision: "approved", until: later(4 * hour), note: "until six" } as const;
  return { type: "decideAccessRequest", requestId: idOf(n), by: lead, ...approved, ...parts };
}
const deny = (n: number, parts: Partial<DecideAccessRequest> = {}): DecideAccessRequest =>
  approve(n, { decision: "denied", until: null, note: "ask your lead", ...parts });
const end = (n: number, by: AccessDecider): Command => ({ type: "endAccessRequest", requestId: idOf(n), by });
const own: AccessDecider = { type: "requester", userId: user("bob"), sessionId: sessionOf("bob") };
const sweep = (...ns: number[]): Command => ({ type: "expireAccessRequests", requestIds: ns.map(idOf) });
const codeOf = (performed: Performed): string => (performed.type === "refused" ? performed.code : performed.type);
const messageOf = (performed: Performed): string => (performed.type === "refused" ? performed.message : "");

describe("a request", () => {
  test("waits, with its reason sealed under the person's key, and gives nothing", () => {
    const bench = new Bench();
    const [event] = bench.do(request(1));
    assert.ok(event?.type === "AccessRequested");
    assert.equal(JSON.stringify(event).includes("quarter"), false);
    const found = bench.projection.accessRequests.get(idOf(1));
    assert.equal(bench.wordsOf(found?.reason, 1), "quarter close");
    assert.throws(() => bench.wordsOf(found?.reason, 2), /no words about this access request/);
    assert.deepEqual([found?.status, found?.expiresAt], ["pending", later(undecidedMsMax)]);
    assert.equal(bench.isIn(start), false);
  });

  test("sent twice, also under another id, changes nothing; for another route it is another one", () => {
    const bench = new Bench();
    bench.do(request(1));
    assert.equal(codeOf(bench.ask(request(1))), "nothing");
    assert.equal(codeOf(bench.ask(request(2))), "nothing");
    bench.do(request(3, { routeId: "expenses" }));
    bench.do(deny(1));
    assert.equal(codeOf(bench.ask(request(1))), "conflict", "an id is used once");
    assert.equal(codeOf(bench.ask(request(3, { userId: user("eve"), sessionId: sessionOf("eve") }))), "conflict");
    bench.do(request(4));
  });

  test("is refused to a person whose session is another's, has ended or has expired, and to a suspended one", () => {
    const bench = new Bench();
    assert.equal(codeOf(bench.ask(request(1, { sessionId: sessionOf("eve") }))), "forbidden");
    assert.equal(codeOf(bench.ask(request(1, { sessionId: "s-none" as SessionId }))), "forbidden");
    bench.do({ type: "suspendUser", userId: user("bob"), reason: "left" });
    assert.equal(codeOf(bench.ask(request(1))), "forbidden");
    bench.do({ type: "restoreUser", userId: user("bob") });
    assert.equal(codeOf(bench.ask(request(1))), "forbidden", "the session stays revoked");
    bench.now = later(31 * 24 * hour);
    assert.equal(codeOf(bench.ask(request(1, { userId: user("eve"), sessionId: sessionOf("eve") }))), "forbidden");
  });

  test("below its level is refused with the remedy", () => {
    const bench = new Bench(6);
    for (const command of [request(1), approve(1), end(1, own)]) {
      assert.equal(codeOf(bench.ask(command)), "conflict");
      assert.match(messageOf(bench.ask(command)), /level 6.*level 7.*cardea cluster finalize/);
    }
  });

  test("is bounded for each person: those that wait, and those of a day", () => {
    const bench = new Bench();
    for (let n = 1; n <= waitingByPersonMax; n++) bench.do(request(n, { routeId: `route-${n}` }));
    assert.match(messageOf(bench.ask(request(99, { routeId: "one-more" }))), /10 of your requests wait/);
    for (let n = waitingByPersonMax + 1; n <= requestedByPersonMax; n++) {
      bench.do(end(n - 1, own));
      bench.do(request(n, { routeId: `route-${n}` }));
    }
    bench.do(end(1, own));
    assert.match(messageOf(bench.ask(request(99, { routeId: "one-more" }))), /30 requests within a day/);
    bench.now = later(25 * hour);
    bench.do(request(99, { routeId: "one-more" }));
  });

  test("without a decision lapses by the sweep, and not before", () => {
    const bench = new Bench();
    bench.do(request(1));
    bench.now = later(undecidedMsMax - 1);
    assert.deepEqual(
      [codeOf(bench.ask(sweep(1))), bench.projection.accessRequests.expired(bench.now, 9)],
      ["nothing", []],
    );
    bench.now = later(undecidedMsMax);
    assert.match(messageOf(bench.ask(approve(1, { until: later(undecidedMsMax + hour) }))), /has lapsed/);
    assert.deepEqual(bench.projection.accessRequests.expired(bench.now, 9), [idOf(1)]);
    bench.do(sweep(1, 2));
    assert.equal(bench.statusOf(1), "lapsed");
    assert.deepEqual(bench.projection.accessRequests.expired(later(undecidedMsMax * 9), 9), []);
  });
});

describe("an approval", () => {
  test("records the membership and the decision together, and the access ends by the clock and then by the sweep", () => {
    const bench = new Bench();
    bench.do(request(1));
    const events = bench.do(approve(1));
    assert.deepEqual(
      events.map(({ type }) => type),
      ["GroupMembersChanged", "AccessRequestDecided"],
    );
    const found = bench.projection.accessRequests.get(idOf(1));
    assert.deepEqual(
      [found?.status, found?.until, bench.wordsOf(found?.note, 1)],
      ["approved", later(4 * hour), "until six"],
    );
    assert.deepEqual(bench.projection.membership(user("bob"), hr), {
      ...{ sources: ["request"], excluded: false },
      requested: { requestId: idOf(1), until: later(4 * hour) },
    });
    assert.deepEqual([bench.isIn(later(4 * hour - 1)), bench.isIn(later(4 * hour))], [true, false]);
    assert.equal(bench.projection.nextEndOf(user("bob"), start), later(4 * hour));
    bench.now = later(4 * hour);
    assert.deepEqual(bench.do(sweep(1)), [
      { type: "MembershipsExpired", groupId: hr, userIds: [user("bob")], at: later(4 * hour) },
      { type: "AccessRequestEnded", requestId: idOf(1), userId: user("bob"), outcome: "expired" },
    ]);
    assert.deepEqual([bench.statusOf(1), bench.projection.membership(user("bob"), hr)], ["expired", undefined]);
    assert.equal(codeOf(bench.ask(sweep(1))), "nothing");
  });

  test("is refused to the person who asked, as approver or operator", () => {
    const bench = new Bench();
    bench.do(request(1));
    const asOperator: AccessDecider = { type: "operator", userId: user("bob") };
    for (const by of [named("bob"), asOperator]) {
      assert.match(messageOf(bench.ask(approve(1, { by }))), /your own request/);
      assert.match(messageOf(bench.ask(deny(1, { by }))), /your own request/);
    }
    assert.equal(codeOf(bench.ask(approve(1, { by: own }))), "not-found");
  });

  test("is refused to an approver whose right has ended since they looked", () => {
    const bench = new Bench();
    bench.do(request(1));
    const left = new Bench();
    left.do(request(1));
    left.do({ type: "changeGroupMembers", groupId: leads, source: "operator", added: [], removed: [user("dana")] });
    assert.match(messageOf(left.ask(approve(1))), /no longer a member/);
    assert.equal(codeOf(bench.ask(approve(1, { by: { ...lead, userId: user("eve") } as AccessDecider }))), "forbidden");
    bench.do({ type: "revokeUserSessions", userId: user("dana"), reason: "operator" });
    assert.match(messageOf(bench.ask(approve(1))), /your session has ended/);
    assert.equal(bench.statusOf(1), "pending");
    bench.do(approve(1, { by: operator }));
  });

  test("comes once: a later decision finds it decided, by any decider", () => {
    const bench = new Bench();
    bench.do(request(1));
    bench.do(approve(1));
    for (const command of [approve(1), deny(1), approve(1, { by: operator, until: later(hour) })]) {
      assert.match(messageOf(bench.ask(command)), /is approved, until 2023-11-15T02:13:20Z/);
    }
    bench.do(request(2, { routeId: "expenses" }));
    bench.do(deny(2, { by: named("eve") }));
    assert.equal(codeOf(bench.ask(approve(2))), "conflict");
    assert.equal(bench.wordsOf(bench.projection.accessRequests.get(idOf(2))?.note, 2), "ask your lead");
    assert.equal(codeOf(bench.ask(approve(7))), "not-found");
  });

  test("has an end within ninety days", () => {
    const bench = new Bench();
    bench.do(request(1));
    assert.equal(codeOf(bench.ask(approve(1, { until: start }))), "invalid");
    assert.equal(codeOf(bench.ask(approve(1, { until: later(accessMsMax + 1) }))), "invalid");
    assert.equal(codeOf(bench.ask(approve(1, { until: later(accessMsMax) }))), "changes");
  });

  test("does not lift an exclusion or a suspension, and an erasure takes the request away", () => {
    const bench = new Bench();
    bench.do(request(1));
    bench.do({ type: "changeGroupMembers", groupId: hr, source: "scim", added: [user("eve")], removed: [] });
    bench.do({ type: "changeGroupMembers", groupId: hr, source: "operator", added: [], removed: [user("bob")] });
    assert.match(messageOf(bench.ask(approve(1, { by: operator }))), /taken the person out of hr/);
    bench.do({ type: "changeGroupMembers", groupId: hr, source: "operator", added: [user("bob")], removed: [] });
    bench.do({ type: "suspendUser", userId: user("bob"), reason: "left" });
    assert.equal(codeOf(bench.ask(approve(1))), "suspended");
    bench.do({ type: "restoreUser", userId: user("bob") });
    bench.do(approve(1));
    bench.do({ type: "eraseUser", userId: user("bob") });
    assert.deepEqual([bench.statusOf(1), [...bench.projection.accessRequests.of(user("bob"))]], [undefined, []]);
    assert.equal(bench.projection.membership(user("bob"), hr)?.requested, undefined);
    assert.equal(codeOf(bench.ask(approve(1))), "not-found");
  });

  test("of a later request for the same group replaces the earlier one, and its own end leaves nothing", () => {
    const bench = new Bench();
    bench.do(request(1));
    bench.do(request(2, { routeId: "expenses" }));
    bench.do(approve(1));
    bench.do(approve(2, { until: later(hour) }));
    assert.deepEqual([bench.statusOf(1), bench.statusOf(2)], ["replaced", "approved"]);
    assert.equal(codeOf(bench.ask(end(1, lead))), "nothing", "the end of what was replaced ends nothing");
    assert.deepEqual([bench.isIn(later(hour - 1)), bench.isIn(later(hour))], [true, false]);
    bench.do(end(2, lead));
    assert.deepEqual([bench.statusOf(2), bench.isIn(start)], ["ended", false]);
  });

  test("beside a membership of another source adds nothing that outlives it and takes nothing away", () => {
    const bench = new Bench();
    bench.do(request(1));
    bench.do({ type: "changeGroupMembers", groupId: hr, source: "scim", added: [user("bob")], removed: [] });
    bench.do(approve(1));
    bench.do(end(1, own));
    assert.deepEqual(bench.projection.membership(user("bob"), hr), { sources: ["scim"], excluded: false });
  });
});

describe("an end", () => {
  test("by the person withdraws a request that waits and gives up access; a repetition changes nothing", () => {
    const bench = new Bench();
    bench.do(request(1));
    assert.match(messageOf(bench.ask(end(1, lead))), /deny it/);
    bench.do(end(1, own));
    assert.deepEqual([bench.statusOf(1), codeOf(bench.ask(end(1, own)))], ["withdrawn", "nothing"]);
    assert.equal(codeOf(bench.ask(approve(1))), "conflict");
    bench.do(request(2));
    bench.do(approve(2));
    const others: AccessDecider = { type: "requester", userId: user("eve"), sessionId: sessionOf("eve") };
    assert.equal(codeOf(bench.ask(end(2, others))), "not-found", "another's request does not exist");
    bench.do(end(2, own));
    assert.deepEqual([bench.statusOf(2), bench.isIn(start)], ["ended", false]);
  });

  test("comes with a removal by an operator and with the group's", () => {
    const bench = new Bench();
    bench.do(request(1));
    bench.do(approve(1));
    bench.do({ type: "changeGroupMembers", groupId: hr, source: "operator", added: [], removed: [user("bob")] });
    assert.deepEqual(bench.projection.membership(user("bob"), hr), { sources: [], excluded: true });
    assert.equal(bench.statusOf(1), "removed");
    bench.do({ type: "changeGroupMembers", groupId: hr, source: "operator", added: [user("bob")], removed: [] });
    bench.do({ type: "changeGroupMembers", groupId: hr, source: "scim", added: [user("eve")], removed: [] });
    bench.do(request(2));
    bench.do(approve(2));
    bench.do({ type: "removeGroup", groupId: hr });
    assert.deepEqual([bench.statusOf(2), bench.isIn(start)], ["removed", false]);
    bench.now = later(4 * hour);
    assert.equal(codeOf(bench.ask(sweep(1, 2))), "nothing");
  });
});

test("an operator's grant and a request's end apart, in either order, by either sweep", () => {
  for (const [grantEnd, requestEnd] of [
    [2 * hour, 4 * hour],
    [4 * hour, 2 * hour],
  ] as const) {
    const bench = new Bench();
    bench.do(request(1));
    const members = { groupId: hr, source: "operator", added: [user("bob")], removed: [] } as const;
    bench.do({ type: "changeGroupMembers", ...members, until: later(grantEnd), reason: "on call" });
    bench.do(approve(1, { until: later(requestEnd) }));
    assert.deepEqual([bench.isIn(later(4 * hour - 1)), bench.isIn(later(4 * hour))], [true, false]);
    bench.now = later(2 * hour);
    bench.do(grantEnd < requestEnd ? { type: "expireMemberships", groupId: hr, userIds: [user("bob")] } : sweep(1));
    assert.equal(bench.projection.membership(user("bob"), hr)?.sources.length, 1);
    bench.now = later(4 * hour);
    // One sweep ends both parts of the membership; the other then finds the rest.
    bench.do({
      ...sweep(1),
      ...(grantEnd > requestEnd ? { type: "expireMemberships", groupId: hr, userIds: [user("bob")] } : {}),
    } as Command);
    assert.deepEqual([bench.projection.membership(user("bob"), hr), bench.statusOf(1)], [undefined, "expired"]);
  }
});

describe("who may submit", () => {
  const refused = (role: Parameters<typeof refuseCommand>[0], command: Command, actor: string): string | undefined =>
    refuseCommand(role, asked(command, { actor }));

  test("a command under the actor that it names, and no other", () => {
    assert.equal(refused("authenticate", request(1), "user:bob"), undefined);
    assert.match(refused("authenticate", request(1), "user:eve") ?? "", /another person/);
    assert.match(refused("operator", request(1), "operator:bob") ?? "", /may not submit/);
    assert.equal(refused("operator", approve(1), "user:dana"), undefined);
    assert.match(refused("operator", approve(1), "operator:dana") ?? "", /another person/);
    assert.match(refused("proxy", approve(1), "user:dana") ?? "", /may not submit/);
    const asDana: AccessDecider = { type: "operator", userId: user("dana") };
    assert.equal(refused("operator", approve(1, { by: asDana }), "operator:dana"), undefined);
    assert.equal(refused("operator", approve(1, { by: operator }), "operator:ci#token-1"), undefined);
    assert.match(
      refused("operator", approve(1, { by: operator }), "operator:bob") ?? "",
      /another person/,
      "hides who decides",
    );
    assert.match(refused("authenticate", approve(1, { by: asDana }), "operator:dana") ?? "", /may not submit/);
    assert.equal(refused("authenticate", end(1, own), "user:bob"), undefined);
    assert.match(refused("authenticate", end(1, own), "user:dana") ?? "", /another person/);
    assert.match(refused("proxy", sweep(1), "system") ?? "", /may not submit/);
  });

  test("what is malformed is refused whole", () => {
    const parse = (command: object) => () => parseCommandRequest(asked(command as Command));
    for (const broken of [
      { ...request(1), reason: "x".repeat(301) },
      { ...request(1), routeId: "a b" },
      { ...request(1), durationMs: 1 },
      { ...request(1), durationMs: accessMsMax + 1 },
      { ...request(1), refusal: 1 },
      { ...request(1), reason: "line\u0000" },
      { ...approve(1), until: null },
      { ...deny(1), until: later(1) },
      { ...approve(1), by: { type: "system" } },
      { ...approve(1), by: null },
      { type: "changeGroupMembers", groupId: hr, source: "request", added: [user("bob")], removed: [] },
    ])
      assert.throws(parse(broken), { code: "ERR_BROKER_MALFORMED_COMMAND" }, JSON.stringify(broken));
    for (const command of [request(1), approve(1), deny(1), end(1, own), sweep(1, 2)])
      assert.deepEqual(parse(command)().command, command);
  });

  test("commands that could see each other's changes are never in one batch", () => {
    const bench = new Bench();
    bench.do(request(1));
    bench.do(request(2, { routeId: "expenses" }));
    const together = (a: Command, b: Command): boolean => {
      const used = new AccessSet();
      used.add(accessOf(asked(a), bench.projection));
      return !used.conflicts(accessOf(asked(b), bench.projection));
    };
    const members = { groupId: leads, source: "operator", added: [], removed: [user("dana")] } as const;
    for (const [a, b] of [
      [approve(1), approve(2)],
      [approve(1), { type: "changeGroupMembers", ...members }],
      [approve(1), { type: "changeGroupMembers", ...members, groupId: hr, removed: [user("bob")] }],
      [approve(1), { type: "eraseUser", userId: user("bob") }],
      [approve(1), { type: "revokeSession", sessionId: sessionOf("dana"), reason: "operator" }],
      [approve(1), { type: "suspendUser", userId: user("dana"), reason: "left" }],
      [request(3), { type: "revokeSession", sessionId: sessionOf("bob"), reason: "operator" }],
    ] as const)
      assert.deepEqual([together(a, b), together(b, a)], [false, false], `${a.type} and ${b.type}`);
  });
});

test("what has ended leaves the projection by later ends alone, oldest first", () => {
  const bench = new Bench();
  const events: CardeaEvent[] = [];
  for (let n = 1; n <= endedRequestsMax + 2; n++) {
    const about = { requestId: idOf(n), userId: user(`u${n}`) };
    events.push(
      {
        type: "AccessRequested",
        ...about,
        routeId: "r",
        groupId: hr,
        durationMs: hour,
        reason: null,
        refusal: null,
        expiresAt: later(hour),
      },
      { type: "AccessRequestEnded", ...about, outcome: "withdrawn" },
    );
  }
  bench.fold(events);
  assert.equal(bench.projection.accessRequests.endedCount, endedRequestsMax);
  assert.deepEqual([bench.statusOf(2), bench.statusOf(3)], [undefined, "withdrawn"]);
  assert.deepEqual([...bench.projection.accessRequests.of(user("u1"))], []);
});

test("in any order of commands, a person is in the group by a request exactly while one is approved and has not ended", () => {
  const step = fc.tuple(fc.nat(13), fc.nat(2), fc.nat(6));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const bench = new Bench();
      let made = 0;
      for (const [what, route, hours] of steps) {
        const some = 1 + (made === 0 ? 0 : (route * 7 + hours) % made);
        const until = (bench.now + (1 + hours) * hour) as UnixMs;
        const member = (source: "operator" | "scim", adds: boolean): Command => ({
          ...{ type: "changeGroupMembers", groupId: hr, source },
          ...{ added: adds ? [user("bob")] : [], removed: adds ? [] : [user("bob")] },
        });
        const grant: Command = { ...member("operator", true), until, reason: "x" } as Command;
        const choices: readonly Command[] = [
          request(made + 1, { routeId: `route-${route}` }),
          request(made + 1, { routeId: `route-${route}` }),
          approve(some, { by: operator, until }),
          approve(some, { by: operator, until }),
          deny(some),
          end(some, own),
          end(some, operator),
          sweep(...Array.from({ length: made }, (_, n) => n + 1)),
          { type: "expireMemberships", groupId: hr, userIds: [user("bob")] },
          member("operator", hours % 2 === 0),
          member("scim", hours % 2 === 0),
          grant,
          { type: "removeGroup", groupId: hr },
        ];
        const command = choices[what];
        if (command === undefined) bench.now = (bench.now + hours * hour) as UnixMs;
        else {
          const performed = bench.ask(command);
          if (performed.type === "changes") {
            for (const { person } of performed.changes.newKeys) bench.keys.set(person.userId, person);
            bench.fold(performed.changes.events);
            if (command.type === "requestAccess") made += 1;
          }
        }
        const approved = [...bench.projection.accessRequests.of(user("bob"))].filter((r) => r.status === "approved");
        assert.ok(approved.length <= 1, "at most one counts");
        const membership = bench.projection.membership(user("bob"), hr);
        const requested = membership?.requested;
        assert.equal(requested !== undefined, membership?.sources.includes("request") === true);
        if (requested !== undefined)
          assert.deepEqual([requested.requestId, requested.until], [approved[0]?.requestId, approved[0]?.until]);
        const counts = approved.some((r) => r.until !== null && bench.now < r.until);
        if (counts) assert.equal(bench.isIn(bench.now), true);
        if (membership?.sources.join() === "request") assert.equal(bench.isIn(bench.now), counts);
      }
    }),
    { numRuns: 150 },
  );
});
