/** The monitors' own fold of rights, written from the contract, against the product's projection. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Chains, type LogPoint } from "../../../../chaos/sim/monitors/chains.ts";
import { Rights } from "../../../../chaos/sim/monitors/rights.ts";
import { type Stream as Random, streamOf as randomOf } from "../../../../chaos/sim/random.ts";
import {
  type CardeaEvent,
  type CommandId,
  chainHash,
  type Effect,
  type Epoch,
  type EventId,
  effectOf,
  encode,
  type GroupId,
  genesis,
  type Incarnation,
  type Link,
  linkOf,
  type MembershipSource,
  type Position,
  Projection,
  type Recorded,
  type SessionId,
  type Stream,
  streamOf,
  type UnixMs,
  type UserId,
} from "../../../../src/events/index.ts";

const users = ["ada", "bo", "cy"] as UserId[];
const groups = ["board", "payroll"] as GroupId[];
const sources: MembershipSource[] = ["operator", "scim", "idp"];
const requestId = "00000000-0000-4000-8000-000000000001" as CommandId;

test("in random histories both folds agree on sessions and memberships at every position", () => {
  for (let seed = 1; seed <= 30; seed += 1) {
    const random = randomOf(seed, "rights");
    const chains = new Chains();
    const rights = new Rights(chains);
    const projection = new Projection();
    const sessions: SessionId[] = [];
    let point = chains.genesis;
    for (let n = 0; n < 120; n += 1) {
      const made = eventOf(random, sessions);
      point = add({ chains, rights }, point, made);
      if (point.recorded !== null) projection.apply(point.recorded);
      for (const session of sessions) {
        const theirs = projection.sessionStatus(session).status === "active";
        const denial = rights.denialOf(session, point);
        assert.equal(denial === null, theirs, `seed ${seed}, ${session} at ${n}: ${denial?.why}`);
      }
      for (const user of users) {
        for (const group of groups) {
          const end = rights.endOf(user, group, point);
          for (const now of [0, 4, 20]) {
            const theirs = projection.groupsOf(user, now as UnixMs).has(group);
            const isOver = end !== null && end <= now;
            const ours = rights.groupDenial(user, group, point) === null && !isOver;
            assert.equal(ours, theirs, `seed ${seed}, ${user} in ${group} at ${n}, time ${now}`);
          }
        }
      }
    }
  }
});

test("the state at an older point can still be read, and a fork does not change it", () => {
  const chains = new Chains();
  const rights = new Rights(chains);
  const both = { chains, rights };
  const created = add(both, chains.genesis, session("s1", "ada"));
  const revoked = add(both, created, {
    type: "SessionRevoked",
    sessionId: id("s1"),
    userId: user("ada"),
    reason: "operator",
  });
  const other = add(both, created, session("s2", "ada"));
  const cut = add(both, other, { type: "UserSuspended", userId: user("ada"), reason: "left" });
  assert.equal(rights.denialOf("s1", created), null);
  assert.match(rights.denialOf("s1", revoked)?.why ?? "", /revoked/);
  assert.equal(rights.denialOf("s1", other), null, "the revocation is on another branch");
  assert.notEqual(rights.denialOf("s2", cut), null);
  assert.notEqual(rights.denialOf("s2", revoked), null, "it was never created there");
  assert.equal(chains.common(revoked, cut), created);
  assert.equal(chains.at(cut, 1), created);
  assert.deepEqual([...chains.backwards(cut, created)], [cut, other]);
  assert.ok(chains.contains(cut, created) && !chains.contains(cut, revoked) && !chains.contains(created, cut));
});

test("an acknowledgement on a branch covers the events before its fork, and no other branch", () => {
  const chains = new Chains();
  const both = { chains, rights: new Rights(chains) };
  const a = add(both, chains.genesis, session("s1", "ada"));
  const b = add(both, a, session("s2", "ada"));
  const c = add(both, a, session("s3", "ada"));
  chains.acknowledge(c);
  assert.deepEqual(
    [a, b, c].map((point) => chains.isAcknowledged(point)),
    [true, false, true],
  );
});

test("a sweep that ends a membership or a suspension before its end is a defect of the log", () => {
  const chains = new Chains();
  const rights = new Rights(chains);
  const both = { chains, rights };
  const until = { until: 100 as UnixMs };
  const group = groups[0] as GroupId;
  const grant = { type: "GroupMembersChanged", groupId: group, source: "operator", added: [user("ada")], removed: [] };
  const added = add(both, chains.genesis, { ...grant, ...until, reason: "why" } as Made);
  const suspended = add(both, added, { type: "UserSuspended", userId: user("bo"), reason: "left", ...until });
  const point = (made: Made): LogPoint => add(both, suspended, made);
  const defectOf = (made: Made): string | null => rights.fold(point(made));
  for (const at of [99, 100] as UnixMs[]) {
    const swept: Made = { type: "MembershipsExpired", groupId: group, userIds: [user("ada")], at };
    const lifted: Made = { type: "SuspensionExpired", userId: user("bo"), at };
    if (at < 100) {
      assert.match(defectOf(swept) ?? "", /ends early/);
      assert.match(defectOf(lifted) ?? "", /before 100/);
    } else {
      assert.equal(defectOf(swept), null);
      assert.equal(defectOf(lifted), null);
    }
  }
});

type Made = CardeaEvent | Readonly<{ unknown: string; stream: Stream; effect: Effect }>;

function add({ chains, rights }: Readonly<{ chains: Chains; rights: Rights }>, before: LogPoint, made: Made): LogPoint {
  const at: Link = before.link.position === 0 ? genesis : before.link;
  const position = (at.position + 1) as Position;
  const known = "unknown" in made ? null : made;
  const bytes = encode([position, made]);
  const recorded: Recorded = {
    epoch: 1 as Epoch,
    position,
    hash: chainHash(at.hash, bytes),
    eventId: "00000000-0000-4000-8000-000000000000" as EventId,
    stream: "unknown" in made ? made.stream : streamOf(made),
    version: 1,
    type: "unknown" in made ? made.unknown : made.type,
    schemaVersion: 1,
    effect: known === null ? ("effect" in made ? made.effect : "either") : effectOf(known.type),
    recordedAt: 0 as UnixMs,
    actor: "system",
    cause: null,
    event: known ?? { type: "Unknown", name: "unknown" in made ? made.unknown : "" },
  };
  assert.equal(linkOf(recorded).position, position);
  const point = chains.add(recorded, before);
  rights.fold(point);
  return point;
}

function eventOf(random: Random, sessions: SessionId[]): Made {
  const userId = random.pick(users);
  const groupId = random.pick(groups);
  const source = random.pick(sources);
  const sessionId = sessions.length > 0 ? random.pick(sessions) : id("s0");
  const kinds = ["create", "create", "create", "revoke", "cut", "suspend", "restore", "erase", "add", "remove"];
  const ending = [
    "add-until",
    "add-until",
    "add-request",
    "end-request",
    "suspend-until",
    "end-members",
    "end-suspension",
  ];
  const others = ["replace", "drop", "sweep", "unknown", "unknown-user", "opened", "again"];
  const kind = random.pick([...kinds, ...ending, ...others]);
  switch (kind) {
    case "add-until": {
      const box = { until: random.between(0, 9) as UnixMs, reason: "why" };
      return { type: "GroupMembersChanged", groupId, source: "operator", added: [userId], removed: [], ...box };
    }
    case "add-request": {
      const access = { until: random.between(0, 9) as UnixMs, requestId };
      return { type: "GroupMembersChanged", groupId, source: "request", added: [userId], removed: [], ...access };
    }
    case "end-request":
      return { type: "GroupMembersChanged", groupId, source: "request", added: [], removed: [userId], requestId };
    case "suspend-until":
      return { type: "UserSuspended", userId, reason: "left", until: random.between(0, 9) as UnixMs };
    case "end-members":
      return { type: "MembershipsExpired", groupId, userIds: [userId], at: random.between(0, 9) as UnixMs };
    case "end-suspension":
      return { type: "SuspensionExpired", userId, at: random.between(0, 9) as UnixMs };
    case "create": {
      const created = id(`s${sessions.length + 1}`);
      sessions.push(created);
      return session(created, userId);
    }
    case "revoke":
      return { type: "SessionRevoked", sessionId, userId, reason: "operator" };
    case "cut": {
      const upTo = random.chance(0.7) ? null : (random.between(1, 60) as Position);
      return { type: "UserSessionsRevoked", userId, upTo, reason: "operator" };
    }
    case "suspend":
      return { type: "UserSuspended", userId, reason: "left" };
    case "erase":
      return random.chance(0.1) ? { type: "UserErased", userId } : { type: "UserRestored", userId };
    case "restore":
      return { type: "UserRestored", userId };
    case "add":
      return { type: "GroupMembersChanged", groupId, source, added: [userId], removed: [] };
    case "remove":
      return { type: "GroupMembersChanged", groupId, source, added: [], removed: [userId] };
    case "replace":
      return { type: "UserGroupsReplaced", userId, source: "idp", groupIds: groups.filter(() => random.chance(0.5)) };
    case "drop":
      return { type: "GroupRemoved", groupId };
    case "sweep":
      return { type: "SessionsExpired", sessionIds: [sessionId] };
    case "again":
      return { type: "TighteningReasserted", subject: `session:${sessionId}`, of: "SessionBanned", lost: genesis.hash };
    case "unknown":
      return { unknown: "SessionBanned", stream: `session:${sessionId}`, effect: "tightens" };
    case "unknown-user":
      return { unknown: "UserBanned", stream: `user:${userId}`, effect: "tightens" };
    default:
      return {
        type: "EpochOpened",
        epoch: 1 as Epoch,
        incarnation: "i" as Incarnation,
        brokerId: "b" as never,
        publicKey: "",
      };
  }
}

function session(sessionId: string, userId: string): CardeaEvent {
  const times = { issuedAt: 0 as UnixMs, expiresAt: 9 as UnixMs };
  const whose = { sessionId: id(sessionId), userId: user(userId), idpId: "idp" };
  return { type: "SessionCreated", ...whose, ...times, profile: new Uint8Array() };
}
function id(text: string): SessionId {
  return text as SessionId;
}
function user(text: string): UserId {
  return text as UserId;
}
