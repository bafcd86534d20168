/** Commands of transmitters of signals: what the leader records, and what it refuses. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MalformedCommandError, parseCommandRequest } from "../../../src/broker/commands/parse-command.ts";
import {
  type Command,
  claimsOfSession,
  parseGroupId,
  providerSessionId,
  readsLevel,
  type SessionId,
  signalRecordId,
  signalsFrom,
  transmitterOf,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import { createMemoryLog } from "../../../src/replication/log/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { asked, brokerOn, createSession, folded, session, user } from "../support.ts";
import { provisionedWorld } from "./provisioned-world.ts";

type Signal = Extract<Command, { type: "receiveSignal" }>;
const now = Date.now();
const at = (seconds: number): UnixMs => (now + seconds * 1_000) as UnixMs;
const byEmail = signalRecordId("okta", { by: "email", email: "alice@example.test" });
const bySubject = signalRecordId("okta", { by: "subject", issuer: "https://idp.test", subject: "alice" });

const signal = (action: Signal["action"], parts: Partial<Omit<Signal, "type">> = {}): Signal => ({
  type: "receiveSignal",
  transmitter: "okta",
  event: "account-disabled",
  action,
  recordId: bySubject,
  people: [user("s-alice")],
  sessions: [],
  subject: "matched",
  stream: null,
  issuedAt: at(0),
  occurredAt: at(0),
  ...parts,
});
const signIn = (id: string, parts: object = {}): Command =>
  createSession(id, "s-alice", { signalRecords: [bySubject, byEmail], ...parts });
const world = (t: Parameters<typeof provisionedWorld>[0]) => provisionedWorld(t, { level: readsLevel });
const status = async (at: Awaited<ReturnType<typeof world>>, id: string): Promise<string> =>
  (await at.projection()).sessionStatus(session(id)).status;

test("a record's id names its transmitter and nothing else, and issuers may end in a slash", () => {
  assert.equal(transmitterOf(bySubject), "okta");
  assert.equal(transmitterOf(user("s-alice")), undefined);
  assert.doesNotMatch(byEmail, /alice/);
  const slashed = signalRecordId("okta", { by: "subject", issuer: "https://idp.test/", subject: "alice" });
  assert.equal(slashed, bySubject);
  assert.equal(signalRecordId("okta", { by: "email", email: "Alice@Example.test" }), byEmail);
  assert.notEqual(signalRecordId("other", { by: "email", email: "alice@example.test" }), byEmail);
});

test("below its level a signal is refused with the remedy", async (t) => {
  const broker = brokerOn(createMemoryLog());
  t.after(() => broker.stop());
  const submit = (command: Command) => broker.databroker("authenticate").submit(asked(command));
  await waitFor("a leader", async () => (await submit(signIn("s-0"))).type === "done");
  const result = await submit(signal("revoke-sessions"));
  assert.ok(result.type === "refused" && result.code === "conflict");
  assert.match(result.message, new RegExp(`needs? level ${signalsFrom}.*cardea cluster finalize`));
});

test("the sessions of a person end, and later ones do not", async (t) => {
  const at_ = await world(t);
  await at_.done(signIn("s-1"));
  await at_.done(signal("revoke-sessions"));
  assert.equal(await status(at_, "s-1"), "revoked");
  const early = await at_.submit(signIn("s-2"));
  assert.equal(early.type === "refused" && early.code, "logged-out", "a token that was issued before");
  await at_.done(signIn("s-3", { issuedAt: at(60) }));
  assert.equal(await status(at_, "s-3"), "active");
});

test("a sign-in that began before all sessions of its person ended is refused", async (t) => {
  for (const recordId of [bySubject, byEmail]) {
    const at_ = await world(t);
    await at_.done(signIn("s-0"));
    const before = (await at_.projection()).applied.position;
    await at_.done(signal("revoke-sessions", { recordId, people: recordId === bySubject ? [user("s-alice")] : [] }));
    const after = (await at_.projection()).applied.position;
    const late = await at_.submit(signIn("s-1", { begunAt: before }));
    assert.equal(late.type === "refused" && late.code, "logged-out");
    await at_.done(signIn("s-2", { begunAt: after }));
    await at_.done(createSession("b-1", "s-bob", { begunAt: before }));
  }
});

test("a sign-in under way is refused also where no session has ended, and the outcome says so", async (t) => {
  const at_ = await world(t);
  const before = (await at_.projection()).applied.position;
  await at_.done(signal("revoke-sessions"));
  const late = await at_.submit(signIn("s-1", { begunAt: before }));
  assert.equal(late.type === "refused" && late.code, "logged-out");
});

test("a repeated token does nothing, and is answered with the first position", async (t) => {
  const log = createMemoryLog();
  const broker = brokerOn(log);
  t.after(() => broker.stop());
  const databroker = broker.databroker("authenticate");
  const level = { type: "finalizeUpgrade", level: readsLevel } as const;
  await waitFor("the level", async () => (await broker.databroker("operator").submit(asked(level))).type === "done");
  await databroker.submit(asked(signIn("s-1")));
  const request = asked(signal("revoke-sessions"));
  const first = await databroker.submit(request);
  await databroker.submit(asked(signIn("s-2", { issuedAt: at(60) })));
  const second = await databroker.submit(request);
  assert.ok(first.type === "done" && second.type === "done");
  assert.deepEqual(second.link, first.link);
  assert.equal((await folded(log)).sessionStatus(session("s-2")).status, "active");
});

test("a required sign-in ends only sessions that began before the event", async (t) => {
  const at_ = await world(t);
  await at_.done(signIn("s-1", { issuedAt: at(-600) }));
  await at_.done(signIn("s-2", { issuedAt: at(-120) }));
  await at_.done(signal("require-new-sign-in", { occurredAt: at(-300) }));
  assert.equal(await status(at_, "s-1"), "revoked");
  assert.equal(await status(at_, "s-2"), "active");
  await at_.done(signal("require-new-sign-in", { occurredAt: at(-150) }));
  assert.equal(await status(at_, "s-2"), "revoked", "it began within the difference that clocks may have");
});

test("a required sign-in refuses the sign-ins that are under way, also where no session or not all end", async (t) => {
  const at_ = await world(t);
  await at_.done(signIn("later", { issuedAt: at(600) }));
  const before = (await at_.projection()).applied.position;
  await at_.done(signal("require-new-sign-in", { event: "credential-change" }));
  assert.equal(await status(at_, "later"), "active");
  const after = (await at_.projection()).applied.position;
  const late = await at_.submit(signIn("s-1", { begunAt: before }));
  assert.equal(late.type === "refused" && late.code, "logged-out");
  await at_.done(signIn("s-2", { begunAt: after }));
});

test("a token that comes again after the log has forgotten it ends no session that began since", async (t) => {
  for (const action of ["revoke-sessions", "require-new-sign-in"] as const)
    for (const recordId of [bySubject, byEmail]) {
      const at_ = await world(t);
      const sid = providerSessionId("https://idp.test", "sid-1");
      const people = recordId === bySubject ? [user("s-alice")] : [];
      const weekAgo = { occurredAt: at(-7 * 86_400), issuedAt: at(-7 * 86_400), recordId, people };
      await at_.done(signIn("s-1", { providerSession: sid }));
      const before = (await at_.projection()).applied.position;
      await at_.done(signal(action, weekAgo));
      await at_.done(signal(action, { ...weekAgo, sessions: [sid] }));
      assert.equal(await status(at_, "s-1"), "active", `${action} ${recordId}`);
      await at_.done(signIn("s-2", { providerSession: sid, begunAt: (await at_.projection()).applied.position }));
      if (recordId === bySubject) await at_.done(signIn("s-3", { begunAt: before }));
    }
});

test("replaced claims are those of the newest statement, and a repetition or a later sign-in is not undone", async (t) => {
  const at_ = await world(t);
  const claimsOf = async (id: string) => {
    const projection = await at_.projection();
    const { session: of, user: person } = projection.sessionStatus(session(id)) as never as {
      session: { userId: UserId; refreshedAt: UnixMs; profile: Uint8Array };
      user: { profile: Uint8Array };
    };
    const open = await at_.opener(of.userId);
    return claimsOfSession(open(of.profile).claims, of.refreshedAt, open(person.profile));
  };
  const change = (role: string, seconds: number, groups: readonly string[] = []) =>
    signal("replace-claims", {
      event: "token-claims-change",
      occurredAt: at(seconds),
      claims: {
        values: { role: [role], groups },
        groups: { claim: "groups", groupIds: groups.map((each) => parseGroupId(each)) },
      },
    });
  const groups = async () => [...(await at_.projection()).groupsOf(user("s-alice"), at(0))].sort();
  await at_.done(signIn("s-1", { issuedAt: at(-600), groupIds: [parseGroupId("admins")] }));
  await at_.done(change("user", -300, ["staff"]));
  assert.deepEqual(await claimsOf("s-1"), { team: ["red"], role: ["user"], groups: ["staff"] });
  assert.deepEqual(await groups(), ["staff"]);
  assert.equal(await status(at_, "s-1"), "active");
  await at_.done(change("root", -400, ["admins"]));
  assert.deepEqual((await claimsOf("s-1"))["role"], ["user"], "an earlier one that arrives late");
  assert.deepEqual(await groups(), ["staff"]);
  await at_.done(change("guest", -200));
  assert.deepEqual(await claimsOf("s-1"), { team: ["red"], role: ["guest"], groups: [] });

  // A new sign-in states its own claims; those of the older session stay replaced.
  const { profile } = createSession("s-2", "s-alice");
  await at_.done(signIn("s-2", { issuedAt: at(0), profile: { ...profile, claims: { role: ["admin"] } } }));
  assert.deepEqual(await claimsOf("s-2"), { role: ["admin"] });
  assert.deepEqual((await claimsOf("s-1"))["role"], ["guest"]);
  const forged = { ...profile, claims: { "cardea:replaced": ["{}"] } };
  await at_.done(signIn("s-3", { issuedAt: at(0), profile: forged }));
  assert.deepEqual(await claimsOf("s-3"), {});
  assert.deepEqual((await claimsOf("s-1"))["role"], ["guest"], "a provider cannot undo it by a claim of that name");
});

test("where claims cannot be replaced, a new sign-in is required", async (t) => {
  const many = Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`c${n}`, [n]]));
  for (const claims of [undefined, { values: many, groups: null }]) {
    const at_ = await world(t);
    await at_.done(signIn("s-1", { issuedAt: at(-600) }));
    await at_.done(signal("replace-claims", claims === undefined ? {} : { claims }));
    assert.equal(await status(at_, "s-1"), "revoked");
  }
  const at_ = await world(t);
  await at_.done(signal("replace-claims", { recordId: byEmail, people: [] }));
  assert.ok(Number((await at_.projection()).user(byEmail)?.sessionsRevokedBelow) > 0, "by e-mail");
});

test("a disabled account refuses sign-ins until its transmitter enables it, and never lifts an operator's suspension", async (t) => {
  const at_ = await world(t);
  await at_.done(signIn("s-1"));
  await at_.done(signal("suspend"));
  assert.equal(await status(at_, "s-1"), "revoked");
  const refused = await at_.submit(signIn("s-2"));
  assert.ok(refused.type === "refused" && refused.code === "suspended");
  await at_.done({ type: "suspendUser", userId: user("s-alice"), reason: "operator" }, "operator");
  await at_.done(signal("restore", { event: "account-enabled", occurredAt: at(1) }));
  assert.equal((await at_.submit(signIn("s-3"))).type, "refused", "the operator's suspension stays");
  await at_.done({ type: "restoreUser", userId: user("s-alice") }, "operator");
  await at_.done(signIn("s-4"));
});

test("one transmitter does not lift what another has disabled", async (t) => {
  const at_ = await world(t);
  const other = signalRecordId("hr", { by: "subject", issuer: "https://idp.test", subject: "alice" });
  await at_.done(signal("suspend"));
  await at_.done(signal("suspend", { transmitter: "hr", recordId: other }));
  await at_.done(signal("restore", { transmitter: "hr", recordId: other, occurredAt: at(1) }));
  assert.equal((await at_.submit(signIn("s-1", { signalRecords: [bySubject, other] }))).type, "refused");
});

test("a signal about someone who has never signed in denies the first sign-in", async (t) => {
  const at_ = await world(t);
  await at_.done(signal("suspend", { recordId: byEmail, people: [] }));
  assert.equal((await at_.submit(signIn("s-1"))).type, "refused");
});

test("a refresh is refused too", async (t) => {
  const at_ = await world(t);
  await at_.done(signIn("s-1", { signalRecords: [] }));
  await at_.done(signal("suspend", { recordId: byEmail, people: [] }));
  const { profile, tokens } = createSession("s-1", "s-alice");
  const refreshed = await at_.submit({
    ...{ type: "refreshSession", sessionId: session("s-1"), profile, tokens, groupIds: null },
    ...{ refreshedAt: at(0), signalRecords: [byEmail] },
  });
  assert.ok(refreshed.type === "refused" && refreshed.code === "suspended");
});

test("signals that arrive in another order than they were made count by their own times", async (t) => {
  const at_ = await world(t);
  const record = async () => (await at_.projection()).user(bySubject)?.status;
  await at_.done(signal("suspend", { occurredAt: at(10) }));
  await at_.done(signal("restore", { occurredAt: at(5) }));
  assert.equal(await record(), "suspended", "an earlier one does not lift a later suspension");
  await at_.done(signal("restore", { occurredAt: at(20) }));
  assert.equal(await record(), "active");
  await at_.done(signal("suspend", { occurredAt: at(15) }));
  assert.equal(await record(), "active", "a repetition of an earlier one does not suspend again");
  await at_.done(signal("suspend", { occurredAt: at(21) }));
  assert.equal(await record(), "suspended");
});

test("a token that the log has forgotten does not suspend again what an operator has lifted", async (t) => {
  const at_ = await world(t);
  await at_.done(signal("suspend", { occurredAt: at(10) }));
  await at_.done({ type: "restoreUser", userId: bySubject }, "operator");
  await at_.done(signal("suspend", { occurredAt: at(10) })); // under another command id, as after a day
  assert.equal((await at_.projection()).user(bySubject)?.status, "active");
  await at_.done(signal("suspend", { occurredAt: at(11) }));
  assert.equal((await at_.projection()).user(bySubject)?.status, "suspended");
});

test("a signal that only records, or whose subject no one matches, changes no state", async (t) => {
  const at_ = await world(t);
  await at_.done(signIn("s-1"));
  const before = await at_.projection();
  await at_.done(signal("record"));
  await at_.done(
    signal("suspend", {
      subject: "unmatched",
      people: [],
      recordId: signalRecordId("okta", { by: "other", text: "x" }),
    }),
  );
  const after = await at_.projection();
  assert.equal(after.digest(), before.digest());
  assert.ok(after.applied.position > before.applied.position);
  assert.equal(await status(at_, "s-1"), "active");
});

test("what only the nodes can match leaves a mark in the record, up to which sessions end", async (t) => {
  const at_ = await world(t);
  await at_.done(signal("revoke-sessions", { recordId: byEmail, people: [] }));
  const projection = await at_.projection();
  const record = projection.user(byEmail);
  assert.equal(record?.status, "active");
  assert.ok(Number(record?.sessionsRevokedBelow) > 0);
  const early = await at_.submit(signIn("s-1"));
  assert.equal(early.type === "refused" && early.code, "logged-out", "a bearer token that was issued before");
  await at_.done(signIn("s-2", { begunAt: projection.applied.position }));
});

test("the state of a stream is the newest that the transmitter has said", async (t) => {
  const at_ = await world(t);
  const recordId = signalRecordId("okta", { by: "stream" });
  const said = (parts: object): Command =>
    signal("record", {
      ...{ recordId, people: [], event: "verification" },
      stream: { streamId: "st", status: null, statusAt: null, verifiedAt: null, verifiedState: null, ...parts },
    });
  await at_.done(said({ status: "paused", statusAt: at(10) }));
  await at_.done(said({ verifiedAt: at(5), verifiedState: "x" }));
  await at_.done(said({ status: "enabled", statusAt: at(1) }));
  assert.ok((await at_.projection()).user(recordId)?.profile);
});

test("a malformed signal, and one in the name of another transmitter, is refused before the log", () => {
  const wrong: readonly object[] = [
    { transmitter: "Okta!" },
    { transmitter: "hr" },
    { recordId: user("s-alice") },
    { people: [byEmail] },
    { people: Array.from({ length: 65 }, (_, n) => user(`p-${n}`)) },
    { action: "erase" },
    { event: "" },
    { event: "x".repeat(301) },
    { subject: "perhaps" },
    { occurredAt: -1 },
    { stream: { streamId: 1 } },
  ];
  for (const parts of wrong)
    assert.throws(
      () => parseCommandRequest({ ...asked(signal("suspend")), command: { ...signal("suspend"), ...parts } }),
      MalformedCommandError,
      JSON.stringify(parts),
    );
  parseCommandRequest(asked(signal("suspend")));
});

test("a session of the provider ends alone; one that the log does not know ends all of the person's", async (t) => {
  const at_ = await world(t);
  const [one, two] = [providerSessionId("https://idp.test", "sid-1"), providerSessionId("https://idp.test", "sid-2")];
  await at_.done(signIn("s-1", { providerSession: one }));
  await at_.done(signIn("s-2", { providerSession: two }));
  await at_.done(signal("revoke-sessions", { sessions: [one] }));
  assert.deepEqual([await status(at_, "s-1"), await status(at_, "s-2")], ["revoked", "active"]);
  const late = await at_.submit(signIn("s-3", { providerSession: one }));
  assert.ok(late.type === "refused", "a sign-in of the ended session that is under way");
  await at_.done(signal("revoke-sessions", { sessions: [one] }));
  assert.equal(await status(at_, "s-2"), "active", "the ended session is known");
  await at_.done(signal("revoke-sessions", { sessions: [providerSessionId("https://idp.test", "unknown")] }));
  assert.equal(await status(at_, "s-2"), "revoked");
});

test("a subject that is only a session of the provider ends it, and refuses a sign-in that is under way", async (t) => {
  const at_ = await world(t);
  const one = providerSessionId("https://idp.test", "sid-1");
  const recordId = signalRecordId("okta", { by: "other", text: "sid-1" });
  const only = { recordId, people: [], sessions: [one], subject: "session" } as const;
  await at_.done(signal("revoke-sessions", only));
  assert.equal((await at_.submit(signIn("s-1", { providerSession: one }))).type, "refused");
  await at_.done(signIn("s-2"));
  await at_.done(signal("suspend", only));
  assert.equal(await status(at_, "s-2"), "active");
  assert.equal((await at_.projection()).user(recordId), undefined, "no record is made");
});

test("sessions of other people are untouched", async (t) => {
  const at_ = await world(t);
  await at_.done(createSession("b-1", "s-bob"));
  await at_.done(signal("suspend"));
  await at_.done(signal("revoke-sessions", { recordId: byEmail, people: [] }));
  assert.equal(await status(at_, "b-1"), "active");
  const ids: readonly UserId[] = [user("s-bob")];
  const live = (await at_.projection()).sessionsOf(ids[0] as UserId) as readonly SessionId[];
  assert.equal(live.length, 1);
});
