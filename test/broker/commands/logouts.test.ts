/** Logouts at the identity provider: what they end, and which sign-ins they refuse afterwards. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { performCommand } from "../../../src/broker/commands/catalog.ts";
import { MalformedCommandError, parseCommandRequest } from "../../../src/broker/commands/parse-command.ts";
import type { Tools } from "../../../src/broker/commands/performed.ts";
import { rememberedMax, rememberedMs } from "../../../src/broker/commands/session/record-logout.ts";
import {
  type Command,
  type CommandId,
  type Epoch,
  type Hash,
  logoutCommandId,
  type NeededLink,
  noPosition,
  type Position,
  Projection,
  personLogoutId,
  providerSessionId,
  type SessionId,
  type UnixMs,
} from "../../../src/events/index.ts";
import { createMemoryLog } from "../../../src/replication/log/index.ts";
import { record } from "../../events/support.ts";
import { asked, brokerOn, createSession, session, user } from "../support.ts";
import { provisionedWorld } from "./provisioned-world.ts";

const issuer = "https://idp.test";
const sid = providerSessionId(issuer, "op-session-1");
const otherSid = providerSessionId(issuer, "op-session-2");

type Logout = Extract<Command, { type: "recordLogout" }>;
const logout = (parts: Partial<Omit<Logout, "type">>): Logout => ({
  type: "recordLogout",
  providerSession: null,
  userId: null,
  remembered: true,
  ...parts,
});
const signIn = (id: string, parts: Parameters<typeof createSession>[2] = {}, userId = "alice") =>
  createSession(id, userId, { providerSession: sid, ...parts });
const statusOf = (projection: Projection, id: string) => projection.sessionStatus(session(id)).status;

test("a logout by sid ends every session that began in it, and no other", async (t) => {
  const world = await provisionedWorld(t, { level: 5 });
  await world.done(signIn("s1"));
  await world.done(signIn("s2"));
  await world.done(signIn("s3", { providerSession: otherSid }));
  await world.done(createSession("s4", "alice"));
  await world.done(signIn("s5", {}, "bob"));
  await world.done(logout({ providerSession: sid }));
  const after = await world.projection();
  assert.deepEqual(
    ["s1", "s2", "s3", "s4", "s5"].map((id) => statusOf(after, id)),
    ["revoked", "revoked", "active", "active", "revoked"],
  );
  const s1 = after.session(session("s1"));
  assert.equal(s1?.status === "revoked" && s1.reason, "identity-provider");
});

test("a logout by person alone ends all of their sessions, in one event", async (t) => {
  const world = await provisionedWorld(t, { level: 5 });
  for (const id of ["s1", "s2"]) await world.done(signIn(id));
  await world.done(createSession("s3", "bob"));
  await world.done(logout({ userId: user("alice") }));
  const after = await world.projection();
  assert.deepEqual(
    ["s1", "s2", "s3"].map((id) => statusOf(after, id)),
    ["revoked", "revoked", "active"],
  );
});

test("a sign-in that arrives after the logout of its sid is refused, whether or not a session was known", async (t) => {
  const world = await provisionedWorld(t, { level: 5 });
  await world.done(logout({ providerSession: sid, userId: user("alice") }));
  const late = await world.submit(signIn("s1"));
  assert.equal(late.type === "refused" && late.code, "logged-out");
  await world.done(signIn("s2", { providerSession: otherSid }));
  await world.done(createSession("s3", "alice"));
});

test("a sign-in that began before the logout of its person is refused; one that began after is not", async (t) => {
  const world = await provisionedWorld(t, { level: 5 });
  const before = (await world.projection()).applied.position;
  await world.done(logout({ userId: user("alice") }));
  const after = (await world.projection()).applied.position;
  const late = await world.submit(createSession("s1", "alice", { begunAt: before }));
  assert.equal(late.type === "refused" && late.code, "logged-out");
  await world.done(createSession("s2", "alice", { begunAt: after }));
  await world.done(createSession("s3", "bob", { begunAt: before }));
});

test("a sign-in that began in a lost history counts as begun before a logout, whatever its position", async (t) => {
  const world = await provisionedWorld(t, { level: 5 });
  await world.done(logout({ userId: user("alice") }));
  const { applied } = await world.projection();
  const signInAt = (id: string, begunLink: NeededLink, of = "alice") =>
    createSession(id, of, { begunAt: begunLink.position, begunLink });
  const lost: readonly NeededLink[] = [
    { ...applied, epoch: (applied.epoch - 1) as Epoch },
    { ...applied, hash: "f".repeat(64) as Hash },
    { ...applied, position: (applied.position + 1_000) as Position },
  ];
  for (const [n, begunLink] of lost.entries()) {
    const late = await world.submit(signInAt(`lost-${n}`, begunLink));
    assert.equal(late.type === "refused" && late.code, "logged-out", `${n}`);
    await world.done(signInAt(`bob-${n}`, begunLink, "bob"));
  }
  await world.done(signInAt("own", applied));
  const cut: Command = { type: "revokeUserSessions", userId: user("bob"), reason: "operator" };
  await world.done(cut, "operator");
  const after = (await world.projection()).applied;
  const late = await world.submit(signInAt("cut", { ...after, hash: "f".repeat(64) as Hash }, "bob"));
  assert.equal(late.type === "refused" && late.code, "logged-out");
  await world.done(signInAt("anew", after, "bob"));
});

test("a sign-in whose beginning is malformed is refused whole", () => {
  const link = { epoch: 1, position: 7, hash: "f".repeat(64) };
  const begun = (parts: object) => ({ ...asked(createSession("s1", "alice")), command: { ...good, ...parts } });
  const good = createSession("s1", "alice");
  assert.deepEqual(parseCommandRequest(begun({ begunAt: 7, begunLink: link })).command, {
    ...good,
    begunAt: 7,
    begunLink: link,
  });
  for (const parts of [
    { begunAt: 8, begunLink: link },
    { begunLink: link },
    { begunAt: 7, begunLink: { ...link, hash: "f" } },
    { begunAt: 7, begunLink: { ...link, epoch: -1 } },
    { begunAt: 7, begunLink: { ...link, incarnation: "longer than a tag" } },
    { begunAt: 7, begunLink: "1.7.f" },
  ])
    assert.throws(() => parseCommandRequest(begun(parts)), MalformedCommandError, JSON.stringify(parts));
});

test("a sign-in that began before an operator ended all sessions of its person is refused", async (t) => {
  const world = await provisionedWorld(t, { level: 5 });
  const cut: Command = { type: "revokeUserSessions", userId: user("alice"), reason: "operator" };
  await world.done(createSession("s1", "alice"));
  for (const id of ["s2", "s3"]) {
    const before = (await world.projection()).applied.position; // the second time no session is live
    await world.done(cut, "operator");
    const late = await world.submit(createSession(id, "alice", { begunAt: before }));
    assert.equal(late.type === "refused" && late.code, "logged-out", id);
  }
  const after = (await world.projection()).applied.position;
  await world.done(createSession("s4", "alice", { begunAt: after }));
  await world.done(createSession("s5", "bob", { begunAt: noPosition }));
});

test("a logout token that comes again after a day ends no session that began after its time", async (t) => {
  const hours = (n: number) => (Date.now() - n * 3_600_000) as UnixMs;
  for (const named of [{ userId: user("alice") }, { providerSession: sid }]) {
    const world = await provisionedWorld(t, { level: 5 });
    await world.done(signIn("s1", { issuedAt: hours(40) }));
    await world.done(signIn("s2", { issuedAt: hours(1) }));
    await world.done(logout({ ...named, issuedAt: hours(30) }));
    const after = await world.projection();
    assert.deepEqual([statusOf(after, "s1"), statusOf(after, "s2")], ["revoked", "active"]);
    await world.done(signIn("s3", { begunAt: noPosition }));
  }
});

test("a token issued before the logout of its person begins no session later", async (t) => {
  const world = await provisionedWorld(t, { level: 5 });
  await world.done(logout({ userId: user("alice") }));
  const at = (ms: number) => (Date.now() + ms) as UnixMs;
  const late = await world.submit(createSession("s1", "alice", { issuedAt: at(-60_000) }));
  assert.equal(late.type === "refused" && late.code, "logged-out");
  await world.done(createSession("s2", "alice", { issuedAt: at(5_000) }));
});

test("a repeated logout token is one command: a session that began since is not ended", async (t) => {
  const broker = brokerOn(createMemoryLog());
  t.after(() => broker.stop());
  const commandId = logoutCommandId(issuer, "jti-1", { sid: "", sub: "alice" });
  const token = asked(logout({ userId: user("alice") }), { commandId });
  const submit = (command: Command, id = randomUUID() as string as CommandId) =>
    broker.databroker("authenticate").submit(asked(command, { commandId: id }));
  while ((await broker.databroker("operator").submit(asked({ type: "finalizeUpgrade", level: 5 }))).type !== "done");
  const first = await broker.databroker("authenticate").submit(token);
  await submit(createSession("s1", "alice", { begunAt: 1_000_000 as Position }));
  const again = await broker.databroker("authenticate").submit(token);
  assert.ok(first.type === "done" && again.type === "done");
  assert.deepEqual(again.link, first.link);
  const revoked = await submit({ type: "revokeSession", sessionId: session("s1"), reason: "operator" });
  assert.equal(revoked.type === "done" && revoked.changed, true, "it was still active");
});

test("an unauthenticated logout ends what it names and is not remembered", async (t) => {
  const world = await provisionedWorld(t, { level: 5 });
  await world.done(signIn("s1"));
  await world.done(logout({ providerSession: sid, remembered: false }));
  await world.done(logout({ providerSession: otherSid, remembered: false }));
  const after = await world.projection();
  assert.deepEqual([statusOf(after, "s1"), after.tombstonesWithoutUser], ["revoked", 0]);
  await world.done(signIn("s2"));
});

test("below level 5 a logout is refused by a sentence that names the remedy, and a sign-in records no sid", async (t) => {
  const world = await provisionedWorld(t, { level: 4 });
  const refused = await world.submit(logout({ providerSession: sid }));
  assert.match(refused.type === "refused" ? refused.message : "", /level 4.*cardea cluster finalize/);
  await world.done(signIn("s1"));
  assert.deepEqual((await world.projection()).sessionsOfProvider(sid), []);
});

test("an operator may not record a logout, and a malformed one is refused", async (t) => {
  const world = await provisionedWorld(t, { level: 5 });
  const asOperator = await world.submit(logout({ providerSession: sid }), "operator");
  assert.equal(asOperator.type === "refused" && asOperator.code, "forbidden");
});

/** A projection at level 5, and the tools of a leader. */
function leader(now: number) {
  const projection = new Projection();
  const tools = { now, versionOf: () => 0, personKeyOf: () => undefined } as unknown as Tools;
  const fold = (command: Command) => {
    const performed = performCommand(projection, asked(command), tools);
    if (performed.type === "changes")
      for (const recorded of record(performed.changes.events, projection.applied)) projection.apply(recorded);
    return performed;
  };
  for (const recorded of record([{ type: "UpgradeFinalized", level: 5 }], projection.applied))
    projection.apply(recorded);
  return { projection, tools, fold };
}

test("a remembered logout is swept like an expired session, and a later logout renews it", () => {
  const now = 1_800_000_000_000;
  const { projection, fold, tools } = leader(now);
  fold(logout({ providerSession: sid }));
  assert.equal(projection.tombstonesWithoutUser, 1);
  assert.deepEqual(projection.expired((now + rememberedMs - 1) as UnixMs, 10), []);
  (tools as { now: number }).now = now + 1_000;
  fold(logout({ providerSession: sid }));
  assert.deepEqual(projection.expired((now + rememberedMs) as UnixMs, 10), []);
  (tools as { now: number }).now = now + rememberedMs + 1_000;
  assert.deepEqual(projection.expired((now + rememberedMs + 1_000) as UnixMs, 10), [sid]);
  fold({ type: "expireSessions", sessionIds: [sid] });
  assert.equal(projection.tombstonesWithoutUser, 0);
  assert.equal(projection.session(sid), undefined);
});

test("beyond the bound a logout still ends its sessions, and one without a session is refused", () => {
  const now = 1_800_000_000_000 as UnixMs;
  const { projection, fold } = leader(now);
  const events = Array.from({ length: rememberedMax }, (_, n) => ({
    type: "LogoutRecorded" as const,
    logoutId: personLogoutId(user(`user-${n}`)),
    until: (now + rememberedMs) as UnixMs,
  }));
  for (const recorded of record(events, projection.applied)) projection.apply(recorded);
  const created = {
    ...{ type: "SessionCreated" as const, sessionId: session("s1"), userId: user("alice"), idpId: "idp" },
    ...{ issuedAt: now, expiresAt: (now + 1_000) as UnixMs, profile: new Uint8Array(40), providerSession: sid },
  };
  for (const recorded of record([created], projection.applied)) projection.apply(recorded);
  const performed = fold(logout({ providerSession: sid }));
  assert.deepEqual(performed.type === "changes" && performed.changes.events.map(({ type }) => type), [
    "SessionRevoked",
  ]);
  const unknown = fold(logout({ providerSession: otherSid }));
  assert.match(unknown.type === "refused" ? unknown.message : "", /no more can be/);
  const known = fold(logout({ userId: user("user-7") }));
  assert.equal(known.type, "changes", "a logout that is remembered already can be renewed");
});

test("more sessions of one sid than fit into a batch end with all sessions of their person", () => {
  const now = 1_800_000_000_000 as UnixMs;
  const { projection, fold } = leader(now);
  const events = Array.from({ length: 300 }, (_, n) => ({
    ...{ type: "SessionCreated" as const, sessionId: session(`s${n}`), userId: user("alice"), idpId: "idp" },
    ...{ issuedAt: now, expiresAt: (now + 1_000) as UnixMs, profile: new Uint8Array(40), providerSession: sid },
  }));
  for (const recorded of record(events, projection.applied)) projection.apply(recorded);
  const performed = fold(logout({ providerSession: sid }));
  assert.deepEqual(performed.type === "changes" && performed.changes.events.map(({ type }) => type), [
    "UserSessionsRevoked",
    "LogoutRecorded",
  ]);
  assert.equal(statusOf(projection, "s299"), "revoked");
});

test("the id of a provider's session reveals neither issuer nor sid, and no separator joins them", () => {
  assert.match(sid, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  const ids = new Set<SessionId>([
    providerSessionId("https://a", "b"),
    providerSessionId("https://", "ab"),
    providerSessionId("https://ab", ""),
    personLogoutId(user("https://ab")),
  ]);
  assert.equal(ids.size, 4);
});
