/** The effect of each command on a broker's state: its events, its refusals, and what is stored beside the log. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { performCommand } from "../../../src/broker/commands/catalog.ts";
import { MalformedCommandError, parseCommandRequest } from "../../../src/broker/commands/parse-command.ts";
import type { Performed, Tools } from "../../../src/broker/commands/performed.ts";
import { openTokens, openVault } from "../../../src/broker/commands/vault.ts";
import {
  type BootId,
  type CardeaEvent,
  type Command,
  type ConfigHash,
  type Epoch,
  type GroupId,
  type Link,
  type NodeId,
  open,
  type PersonKey,
  type Position,
  Projection,
  packConfigBody,
  type Stream,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import { record } from "../../events/support.ts";
import { asked, createSession, random, revoke, session, user } from "../support.ts";

const now = Date.now() as UnixMs;
const vaultKey = new Uint8Array(32).fill(1);
const group = (name: string): GroupId => name as GroupId;

/** A broker state that executes commands one at a time, as the leader does. */
class Bench {
  readonly ledger = new Projection();
  readonly keys = new Map<UserId, PersonKey>();
  readonly versions = new Map<Stream, number>();
  readonly configs = new Map<NodeId, ConfigHash>();
  readonly bodies = new Set<ConfigHash>();
  now = now;
  unready: readonly string[] = [];
  admitted: ReturnType<Tools["admittedNodes"]> = [];
  lost: Tools["lost"] = {
    holds: () => false,
    mayHold: () => false,
    lacks: () => true,
    endOfEpoch: () => 0 as Position,
    restoredAfter: () => false,
  };

  ask(command: Command): Performed {
    const tools: Tools = {
      epoch: 1 as Epoch,
      now: this.now,
      personKeyOf: (id) => this.keys.get(id),
      versionOf: (stream) => this.versions.get(stream) ?? 0,
      configOf: (id) => this.configs.get(id),
      hasBody: (hash) => this.bodies.has(hash),
      unreadyFor: () => this.unready,
      admittedNodes: () => this.admitted,
      lost: this.lost,
      random,
      wrappingKey: new Uint8Array(32).fill(2),
      vaultKey,
    };
    return performCommand(this.ledger, asked(command), tools);
  }

  /** Executes the command and folds its events. */
  do(command: Command): readonly CardeaEvent[] {
    const performed = this.ask(command);
    assert.equal(performed.type, "changes", JSON.stringify(performed));
    if (performed.type !== "changes") return [];
    const { events, newKeys, erasedKeys } = performed.changes;
    for (const { person } of newKeys) this.keys.set(person.userId, person);
    for (const userId of erasedKeys) this.keys.delete(userId);
    this.fold(events);
    return events;
  }

  fold(events: readonly CardeaEvent[]): Link {
    for (const recorded of record(events, this.ledger.applied)) {
      this.ledger.apply(recorded);
      this.versions.set(recorded.stream, (this.versions.get(recorded.stream) ?? 0) + 1);
    }
    return this.ledger.applied;
  }
}

const types = (events: readonly CardeaEvent[]) => events.map(({ type }) => type);
const codeOf = (performed: Performed) => (performed.type === "refused" ? performed.code : performed.type);

describe("createSession", () => {
  test("the first session of a person records their profile, sealed under their own key", () => {
    const bench = new Bench();
    const performed = bench.ask(createSession("s1", "alice"));
    assert.equal(performed.type, "changes");
    if (performed.type !== "changes") return;
    const { events, newKeys, vault } = performed.changes;
    assert.deepEqual(types(events), ["UserUpserted", "SessionCreated"]);
    assert.equal(newKeys.length, 1);
    assert.equal(JSON.stringify(events).includes("alice@example.test"), false);
    const [upserted] = events;
    const [key] = newKeys;
    if (upserted?.type !== "UserUpserted" || key === undefined) return assert.fail();
    assert.deepEqual(open(upserted.profile, key.person), createSession("s1", "alice").profile);
    assert.deepEqual(
      vault.map((entry) => openTokens(entry, [vaultKey])?.accessToken),
      ["access-s1"],
    );
  });

  test("a second session with the same profile records no new profile and makes no second key", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice"));
    const performed = bench.ask(createSession("s2", "alice"));
    assert.equal(performed.type === "changes" && performed.changes.newKeys.length, 0);
    assert.deepEqual(types(bench.do(createSession("s2", "alice"))), ["SessionCreated"]);
  });

  test("a session with an unchanged profile repeats its bytes exactly, so that copies store them once", () => {
    const bench = new Bench();
    const [first] = bench.do(createSession("s1", "alice")).filter((event) => event.type === "SessionCreated");
    const [second] = bench.do(createSession("s2", "alice")).filter((event) => event.type === "SessionCreated");
    assert.ok(first !== undefined && second !== undefined);
    assert.deepEqual(Buffer.from(second.profile), Buffer.from(first.profile));
  });

  test("a changed profile is recorded again", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice"));
    const profile = { ...createSession("s1", "alice").profile, name: "Alice B." };
    assert.deepEqual(types(bench.do(createSession("s2", "alice", { profile }))), ["UserUpserted", "SessionCreated"]);
  });

  test("claimed groups are recorded only if they differ from the provider's last claim", () => {
    const bench = new Bench();
    const groupIds = [group("eng"), group("ops")];
    assert.ok(types(bench.do(createSession("s1", "alice", { groupIds }))).includes("UserGroupsReplaced"));
    assert.deepEqual(types(bench.do(createSession("s2", "alice", { groupIds: [...groupIds].reverse() }))), [
      "SessionCreated",
    ]);
    assert.deepEqual(types(bench.do(createSession("s3", "alice", { groupIds: [] }))), [
      "SessionCreated",
      "UserGroupsReplaced",
    ]);
    assert.equal(bench.ledger.groupsOf(user("alice"), now).size, 0);
    assert.deepEqual(types(bench.do(createSession("s4", "alice", { groupIds: null }))), ["SessionCreated"]);
  });

  test("above the limit the oldest sessions are revoked", () => {
    const bench = new Bench();
    for (const id of ["s1", "s2", "s3"]) bench.do(createSession(id, "alice", { maxSessionsPerUser: 3 }));
    const events = bench.do(createSession("s4", "alice", { maxSessionsPerUser: 2 }));
    const gone = events.flatMap((event) => (event.type === "SessionRevoked" ? [event.sessionId] : []));
    assert.deepEqual(gone, ["s1", "s2"]);
    assert.equal(bench.ledger.sessionStatus(session("s3")).status, "active");
    assert.equal(bench.ledger.sessionStatus(session("s4")).status, "active");
  });

  test("expired and revoked sessions do not count towards the limit", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice", { expiresAt: (now + 1_000) as UnixMs }));
    bench.do(createSession("s2", "alice"));
    bench.do(revoke("s2"));
    bench.now = (now + 2_000) as UnixMs;
    assert.deepEqual(types(bench.do(createSession("s3", "alice", { maxSessionsPerUser: 1 }))), ["SessionCreated"]);
  });

  const refusals: readonly (readonly [string, (bench: Bench) => Command, string])[] = [
    ["a session id that exists", () => createSession("s1", "alice"), "conflict"],
    ["a session id of another user", () => createSession("s1", "bob"), "conflict"],
    [
      "a session id that was revoked",
      (bench) => {
        bench.do(revoke("s1"));
        return createSession("s1", "alice");
      },
      "conflict",
    ],
    [
      "a session id that has expired and left the projection",
      (bench) => {
        bench.now = (now + 10_000_000) as UnixMs;
        bench.do({ type: "expireSessions", sessionIds: [session("s1")] });
        assert.equal(bench.ledger.session(session("s1")), undefined);
        return createSession("s1", "alice", { expiresAt: (now + 20_000_000) as UnixMs });
      },
      "conflict",
    ],
    [
      "a suspended person",
      (bench) => {
        bench.do({ type: "suspendUser", userId: user("alice"), reason: "" });
        return createSession("s2", "alice");
      },
      "suspended",
    ],
    [
      "an erased person",
      (bench) => {
        bench.do({ type: "eraseUser", userId: user("alice") });
        return createSession("s2", "alice");
      },
      "erased",
    ],
    ["a session whose expiry has passed", () => createSession("s2", "alice", { expiresAt: now }), "invalid"],
    [
      "another subject under the same user id",
      () => createSession("s2", "alice", { profile: { ...createSession("s2", "alice").profile, subject: "mallory" } }),
      "forbidden",
    ],
  ];
  for (const [what, prepare, code] of refusals) {
    test(`${what} is refused`, () => {
      const bench = new Bench();
      bench.do(createSession("s1", "alice"));
      assert.equal(codeOf(bench.ask(prepare(bench))), code);
    });
  }
});

describe("a command from the wire", () => {
  const request = (command: Command): unknown => ({ ...asked(command) });

  test("its texts must be well-formed and free of control characters", () => {
    const good = createSession("s1", "alice");
    assert.doesNotThrow(() => parseCommandRequest(request(good)));
    for (const bad of ["a\u0000", "a\nb", "\ud800", "\udc00a"]) {
      const profiles = [
        { ...good.profile, subject: bad },
        { ...good.profile, issuer: bad },
        { ...good.profile, email: bad },
        { ...good.profile, name: bad },
        { ...good.profile, claims: { [bad]: ["x"] } },
      ];
      const commands: readonly Command[] = [
        ...profiles.map((profile) => ({ ...good, profile })),
        { ...good, idpId: bad },
        { ...good, groupIds: [group(bad)] },
        { ...good, tokens: { ...good.tokens, refreshToken: bad } },
        { type: "suspendUser", userId: user("alice"), reason: bad },
      ];
      for (const command of commands)
        assert.throws(() => parseCommandRequest(request(command)), MalformedCommandError, JSON.stringify(command));
      assert.throws(() => parseCommandRequest({ ...asked(good), actor: `operator:${bad}` }), MalformedCommandError);
    }
    const lines = { ...good, profile: { ...good.profile, claims: { "address.formatted": ["1 Way\nTown"] } } };
    assert.doesNotThrow(() => parseCommandRequest(request(lines)));
  });
});

describe("a recorded refresh", () => {
  const tokens = { ...createSession("s1", "alice").tokens, refreshToken: "once" };
  const start = (tokenVersion: number): Command => ({
    ...{ type: "startRefresh", sessionId: session("s1"), tokens, tokenVersion },
    ...{ obtainedIn: 1 as Epoch, deadline: (now + 60_000) as UnixMs },
  });
  const keep = (tokenVersion: number): Command => ({
    ...{ type: "keepTokens", sessionId: session("s1"), tokens: { ...tokens, refreshToken: "next" } },
    ...{ tokenVersion, obtainedIn: 1 as Epoch },
  });
  const vaultOf = (bench: Bench, command: Command) => {
    const performed = bench.ask(command);
    assert.ok(performed.type === "changes");
    return openVault(performed.changes.vault[0], [vaultKey]);
  };

  test("the intent changes no projection of any level, and marks the vault entry", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice", { groupIds: [group("eng")] }));
    const before = bench.ledger.session(session("s1"));
    const deadline = now + 60_000;
    assert.deepEqual(vaultOf(bench, start(1)), {
      ...{ version: 2, tokens, obtainedIn: 1 },
      presentation: { tokenVersion: 1, epoch: 1, deadline },
    });
    assert.deepEqual(types(bench.do(start(1))), ["SessionRefreshed"]);
    assert.deepEqual(bench.ledger.session(session("s1")), before);
  });

  test("the log accepts one intent per vault entry", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice"));
    bench.do(start(1));
    assert.equal(codeOf(bench.ask(start(1))), "conflict");
  });

  test("new tokens are accepted only for that intent, and complete it", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice"));
    assert.equal(codeOf(bench.ask(keep(2))), "conflict", "before the intent");
    bench.do(start(1));
    const kept = vaultOf(bench, keep(2));
    assert.equal(kept?.tokens.refreshToken, "next");
    assert.equal(kept?.presentation, null);
    bench.do(keep(2));
    assert.equal(codeOf(bench.ask(keep(2))), "conflict", "a late answer does not replace newer tokens");
  });

  test("nothing is recorded for a session that has ended", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice"));
    bench.do(revoke("s1"));
    assert.equal(codeOf(bench.ask(start(2))), "conflict");
    assert.equal(codeOf(new Bench().ask(start(0))), "not-found");
  });
});

describe("refreshSession", () => {
  const refresh = (sessionId: string, parts: object = {}): Command => {
    const { profile, tokens } = createSession(sessionId, "alice");
    const refreshedAt = now;
    return {
      type: "refreshSession",
      sessionId: session(sessionId),
      profile,
      tokens,
      groupIds: null,
      refreshedAt,
      ...parts,
    };
  };

  test("a provider that states a name once keeps the known one, and others replace it", () => {
    const bench = new Bench();
    const nameAfter = (events: readonly CardeaEvent[]): string => {
      const refreshed = events.find(({ type }) => type === "SessionRefreshed" || type === "SessionCreated");
      if (refreshed?.type !== "SessionRefreshed" && refreshed?.type !== "SessionCreated") return assert.fail();
      const key = bench.keys.get(refreshed.userId) ?? assert.fail();
      return (open(refreshed.profile, key) as { name: string }).name;
    };
    const created = createSession("s1", "alice");
    bench.do({ ...created, profile: { ...created.profile, name: "Alice" } });
    const nameless = { ...created.profile, name: "" };
    assert.equal(nameAfter(bench.do(refresh("s1", { profile: nameless, keepsName: true }))), "Alice");
    const second = createSession("s2", "alice");
    assert.equal(nameAfter(bench.do({ ...second, profile: nameless, keepsName: true })), "Alice");
    assert.equal(nameAfter(bench.do(refresh("s1", { profile: nameless }))), "");
  });

  test("claims and tokens are replaced completely", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice", { groupIds: [group("eng"), group("ops")] }));
    const profile = { ...createSession("s1", "alice").profile, claims: { team: ["blue"] } };
    const performed = bench.ask(refresh("s1", { profile, groupIds: [group("eng")] }));
    assert.equal(performed.type, "changes");
    if (performed.type !== "changes") return;
    assert.deepEqual(types(performed.changes.events), ["SessionRefreshed", "UserUpserted", "UserGroupsReplaced"]);
    assert.equal(performed.changes.vault[0]?.version, 2);
  });

  test("an unchanged profile only marks the session as refreshed", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice"));
    assert.deepEqual(types(bench.do(refresh("s1"))), ["SessionRefreshed"]);
  });

  const cut: Command = { type: "revokeUserSessions", userId: user("alice"), reason: "operator" };
  const somebodyElse = { ...createSession("s1", "alice").profile, subject: "mallory" };
  const refusals: readonly (readonly [string, readonly Command[], Command, string])[] = [
    ["an unknown session", [], refresh("s9"), "not-found"],
    ["a revoked session", [revoke("s1")], refresh("s1"), "conflict"],
    ["a session revoked with all sessions of its user", [cut], refresh("s1"), "conflict"],
    [
      "a session of a suspended person",
      [{ type: "suspendUser", userId: user("alice"), reason: "" }],
      refresh("s1"),
      "suspended",
    ],
    ["a session of an erased person", [{ type: "eraseUser", userId: user("alice") }], refresh("s1"), "erased"],
    ["a refresh for another subject", [], refresh("s1", { profile: somebodyElse }), "forbidden"],
    [
      "a refresh of tokens that another refresh has replaced",
      [refresh("s1")],
      refresh("s1", { tokenVersion: 1 }),
      "conflict",
    ],
  ];
  for (const [what, before, command, code] of refusals) {
    test(`${what} is refused`, () => {
      const bench = new Bench();
      bench.do(createSession("s1", "alice"));
      for (const each of before) bench.do(each);
      assert.equal(codeOf(bench.ask(command)), code);
    });
  }
  test("an expired session is refused", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice"));
    bench.now = (now + 10_000_000) as UnixMs;
    assert.equal(codeOf(bench.ask(refresh("s1"))), "conflict");
  });
});

describe("revokeSession", () => {
  test("an active session is revoked, and its tokens go with it", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice"));
    const performed = bench.ask(revoke("s1"));
    assert.deepEqual(performed.type === "changes" && performed.changes.vaultRemoved, ["s1"]);
    bench.do(revoke("s1"));
    assert.equal(bench.ledger.sessionStatus(session("s1")).status, "revoked");
  });
  test("revoking an unknown session is refused", () =>
    assert.equal(codeOf(new Bench().ask(revoke("s1"))), "not-found"));
  test("revoking a session that is already revoked, by itself or with its user, changes nothing", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice"));
    bench.do(createSession("s2", "alice"));
    bench.do(revoke("s1"));
    assert.equal(bench.ask(revoke("s1")).type, "nothing");
    bench.do({ type: "suspendUser", userId: user("alice"), reason: "" });
    assert.equal(bench.ask(revoke("s2")).type, "nothing");
  });
});

describe("users", () => {
  const about = (type: "suspendUser" | "restoreUser" | "eraseUser", userId = "alice"): Command =>
    type === "suspendUser" ? { type, userId: user(userId), reason: "left" } : { type, userId: user(userId) };
  const cut: Command = { type: "revokeUserSessions", userId: user("alice"), reason: "operator" };

  /** State before, command, expected result. */
  const table: readonly (readonly [readonly Command[], Command, string])[] = [
    [[], cut, "UserSessionsRevoked"],
    [[cut], cut, "UserSessionsRevoked"], // a sign-in may have begun between the two
    [[about("suspendUser")], cut, "nothing"],
    [[], about("suspendUser"), "UserSuspended"],
    [[about("suspendUser")], about("suspendUser"), "nothing"],
    [[about("eraseUser")], about("suspendUser"), "erased"],
    [[], about("restoreUser"), "nothing"],
    [[about("suspendUser")], about("restoreUser"), "UserRestored"],
    [[about("eraseUser")], about("restoreUser"), "erased"],
    [[], about("eraseUser"), "UserErased"],
    [[about("suspendUser")], about("eraseUser"), "UserErased"],
    [[about("eraseUser")], about("eraseUser"), "nothing"],
    [[], about("suspendUser", "unknown"), "not-found"],
    [[], about("restoreUser", "unknown"), "not-found"],
    [[], about("eraseUser", "unknown"), "not-found"],
    [[], { type: "revokeUserSessions", userId: user("unknown"), reason: "operator" }, "not-found"],
  ];
  for (const [before, command, expected] of table) {
    const state = before.map(({ type }) => type).join(", ") || "a session";
    test(`after ${state}: ${command.type} of ${"userId" in command ? command.userId : ""} gives ${expected}`, () => {
      const bench = new Bench();
      bench.do(createSession("s1", "alice"));
      for (const each of before) bench.do(each);
      const performed = bench.ask(command);
      const got = performed.type === "changes" ? performed.changes.events[0]?.type : codeOf(performed);
      assert.equal(got, expected);
    });
  }

  test("an erasure destroys the person's key and every token in the same batch", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice"));
    bench.do(createSession("s2", "alice"));
    const performed = bench.ask(about("eraseUser"));
    if (performed.type !== "changes") return assert.fail();
    assert.deepEqual(performed.changes.erasedKeys, ["alice"]);
    assert.deepEqual(performed.changes.vaultRemoved, ["s1", "s2"]);
  });

  test("a restored person does not get old sessions back", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice"));
    bench.do(about("suspendUser"));
    bench.do(about("restoreUser"));
    assert.equal(bench.ledger.sessionStatus(session("s1")).status, "revoked");
    bench.do(createSession("s2", "alice"));
    assert.equal(bench.ledger.sessionStatus(session("s2")).status, "active");
  });
});

describe("groups", () => {
  const change = (
    added: string[],
    removed: string[],
    source: "operator" | "idp" = "operator",
    id = "eng",
  ): Command => ({
    type: "changeGroupMembers",
    groupId: group(id),
    source,
    added: added.map(user),
    removed: removed.map(user),
  });
  function people(): Bench {
    const bench = new Bench();
    bench.do(createSession("s1", "alice"));
    bench.do(createSession("s2", "bob"));
    return bench;
  }

  test("only real changes are recorded", () => {
    const bench = people();
    bench.do(change(["alice"], []));
    const [event] = bench.do(change(["alice", "bob"], []));
    assert.deepEqual(event?.type === "GroupMembersChanged" && event.added, ["bob"]);
    assert.equal(bench.ask(change(["alice", "bob"], [])).type, "nothing");
    assert.equal(bench.ask(change([], [])).type, "nothing");
  });

  test("an operator's removal excludes a person, even one that only the provider claims, until an operator adds them", () => {
    const bench = people();
    bench.do(createSession("s3", "alice", { groupIds: [group("eng")] }));
    bench.do(change([], ["alice"]));
    bench.do(change(["bob"], []));
    bench.do(createSession("s4", "bob", { groupIds: [group("eng")] }));
    assert.equal(bench.ledger.groupsOf(user("alice"), now).has(group("eng")), false);
    assert.equal(bench.ask(change([], ["alice"])).type, "nothing");
    assert.equal(bench.ask(change(["alice"], [], "idp")).type, "nothing");
    bench.do(change(["alice"], []));
    assert.equal(bench.ledger.groupsOf(user("alice"), now).has(group("eng")), true);
  });

  const refusals: readonly (readonly [string, Command, string])[] = [
    ["adding an unknown user", change(["unknown"], []), "not-found"],
    ["removing an unknown user", change(["alice"], ["unknown"]), "not-found"],
    ["adding and removing the same user", change(["alice"], ["alice"]), "invalid"],
    ["removing members of an unknown group", change([], ["alice"], "operator", "nogroup"), "not-found"],
    ["removing an unknown group", { type: "removeGroup", groupId: group("nogroup") }, "not-found"],
  ];
  for (const [what, command, code] of refusals) {
    test(`${what} is refused`, () => assert.equal(codeOf(people().ask(command)), code));
  }
  test("adding an erased person is refused", () => {
    const bench = people();
    bench.do({ type: "eraseUser", userId: user("bob") });
    assert.equal(codeOf(bench.ask(change(["bob"], []))), "erased");
  });
  test("a group is removed with all its memberships", () => {
    const bench = people();
    bench.do(change(["alice"], []));
    assert.deepEqual(types(bench.do({ type: "removeGroup", groupId: group("eng") })), ["GroupRemoved"]);
    assert.equal(bench.ledger.groupsOf(user("alice"), now).size, 0);
  });
});

describe("sweep and configuration", () => {
  test("the sweep ends only sessions that are past their expiry, whatever was requested", () => {
    const bench = new Bench();
    bench.do(createSession("s1", "alice", { expiresAt: (now + 1_000) as UnixMs }));
    bench.do(createSession("s2", "alice"));
    const sweep: Command = { type: "expireSessions", sessionIds: ["s1", "s2", "s1", "s9"].map(session) };
    assert.equal(bench.ask(sweep).type, "nothing");
    bench.now = (now + 1_000) as UnixMs;
    const [event] = bench.do(sweep);
    assert.deepEqual(event?.type === "SessionsExpired" && event.sessionIds, ["s1"]);
    assert.equal(bench.ledger.sessionStatus(session("s2")).status, "active");
  });

  test("a level is finalized once no process blocks it, and is never lowered", () => {
    const bench = new Bench();
    const finalize = (level: number): Command => ({ type: "finalizeUpgrade", level });
    bench.unready = ["proxy-1 (version 1) reads level 1", "broker broker-2 (version 1) reads level 1"];
    const refused = bench.ask(finalize(2));
    assert.deepEqual(refused.type === "refused" && [refused.code, refused.message], [
      "conflict",
      "level 2 is not finalized: proxy-1 (version 1) reads level 1; broker broker-2 (version 1) reads level 1",
    ]);
    assert.equal(bench.ask(finalize(1)).type, "nothing", "a finalized level needs no further process");
    bench.unready = [];
    assert.deepEqual(types(bench.do(finalize(2))), ["UpgradeFinalized"]);
    assert.equal(bench.ledger.level, 2);
    for (const level of [1, 2]) assert.equal(bench.ask(finalize(level)).type, "nothing");
  });

  describe("retired nodes", () => {
    const node = (name: string, parts: Partial<Bench["admitted"][number]> = {}): Bench["admitted"][number] => ({
      ...{ node: name as NodeId, role: "proxy", region: "ap", boot: "boot-1" as BootId, answers: false },
      ...{ heardAt: now, applied: 1 as Position },
      ...parts,
    });
    const retire = (nodes: readonly string[], region: string | null = null): Command => ({
      ...{ type: "retireNodes", nodes: nodes as readonly NodeId[] },
      region,
    });

    test("absent nodes are recorded as retired, each with its role and region, and leave the list in that batch", () => {
      const bench = new Bench();
      bench.admitted = [node("a"), node("a", { role: "broker" }), node("b")];
      const performed = bench.ask(retire(["a"]));
      assert.ok(performed.type === "changes", performed.type);
      const { events, retired } = performed.changes;
      const entries = ["proxy", "broker"].map((role) => ({ nodeId: "a", role, region: "ap" }));
      assert.deepEqual(events, [{ type: "NodesRetired", nodes: entries }]);
      assert.deepEqual(retired, bench.admitted.slice(0, 2));
    });

    test("a region is retired with its nodes and brokers, and no other", () => {
      const bench = new Bench();
      bench.admitted = [node("a"), node("b", { role: "broker" }), node("c", { region: "eu", answers: true })];
      const performed = bench.ask(retire([], "ap"));
      assert.ok(performed.type === "changes", performed.type);
      assert.deepEqual(
        performed.changes.retired.map((each) => each.node),
        ["a", "b"],
      );
    });

    test("a node that is present, a name that is not known and a region without nodes are refused, with the name", () => {
      const bench = new Bench();
      bench.admitted = [node("a"), node("b", { answers: true })];
      const refusal = (command: Command) => {
        const performed = bench.ask(command);
        return performed.type === "refused" ? [performed.code, performed.message] : performed.type;
      };
      assert.deepEqual(refusal(retire(["a", "b"])), ["conflict", "still present: b; stop a node before you retire it"]);
      assert.deepEqual(refusal(retire([], "ap")), ["conflict", "still present: b; stop a node before you retire it"]);
      assert.deepEqual(refusal(retire(["a", "z"])), ["not-found", "not known: z"]);
      assert.deepEqual(refusal(retire([], "eu")), ["not-found", "no node or regional broker of region eu is known"]);
    });
  });

  test("a configuration is recorded when the node activates a different one", () => {
    const bench = new Bench();
    const activate: Command = {
      type: "activateConfiguration",
      nodeId: "proxy-1" as NodeId,
      configHash: "aa" as ConfigHash,
    };
    assert.deepEqual(types(bench.do(activate)), ["ConfigurationActivated"]);
    bench.configs.set("proxy-1" as NodeId, "aa" as ConfigHash);
    assert.equal(bench.ask(activate).type, "nothing");
    assert.equal(bench.ask({ ...activate, configHash: "bb" as ConfigHash }).type, "changes");
  });

  test("a body is recorded once, with the event that names it", () => {
    const bench = new Bench();
    const configHash = "aa" as ConfigHash;
    const body = packConfigBody("{}");
    const activate: Command = { type: "activateConfiguration", nodeId: "proxy-1" as NodeId, configHash };
    bench.configs.set("proxy-1" as NodeId, configHash);
    const offered = bench.ask({ ...activate, body });
    assert.equal(offered.type, "changes");
    if (offered.type !== "changes") return;
    assert.deepEqual(types(offered.changes.events), ["ConfigurationActivated"]);
    assert.deepEqual(offered.changes.configurations, [{ configHash, body, recordedAt: now }]);

    bench.bodies.add(configHash);
    assert.equal(bench.ask({ ...activate, body }).type, "nothing");
    const other = bench.ask({ ...activate, nodeId: "proxy-2" as NodeId, body });
    assert.deepEqual(other.type === "changes" && other.changes.configurations, []);
  });
});
