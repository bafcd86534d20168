/**
 * The monitors of what arrives from outside: a correct history breaks nothing, and each error is found.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describe, type Invariant } from "../../../../chaos/sim/monitors/index.ts";
import { directoryUserOf, scimClient, scimUserOf } from "../../../../chaos/sim/outside/provisioned-people.ts";
import { formatRecord, jtiOf, newStream } from "../../../../src/auth/authenticate/transmitter/stream-record.ts";
import { pushMethod } from "../../../../src/auth/shared-signals/index.ts";
import {
  type CardeaEvent,
  type CommandId,
  encode,
  type GroupId,
  provisionedProfile,
  type SessionId,
  type UnixMs,
  type UserId,
} from "../../../../src/events/index.ts";
import { History } from "./history.ts";

const [ada, eve] = ["ada" as UserId, "eve" as UserId];
const sid = "00000000-0000-4000-8000-000000000001" as SessionId;
const team = "team" as GroupId;

function isKept(history: History): void {
  assert.deepEqual(history.monitorResult.violations.map(describe), []);
}
function isBroken(history: History, invariant: Invariant, what: RegExp): void {
  const texts = history.monitorResult.violations.filter((each) => each.invariant === invariant).map(describe);
  assert.match(texts.join("\n"), what);
}
const invoke = (history: History, commandId: string, command: object): History =>
  history.tell("command-invoked", { process: "client-1", commandId, command, attempt: 1, to: "broker-1" });

test("a session that begins after the logout of its provider's session is found, and one that is left live", () => {
  const signIn = (history: History, providerSession: SessionId): History => {
    invoke(history, "create-s9", {
      type: "createSession",
      sessionId: "s9",
      userId: ada,
      profile: { claims: {} },
      providerSession,
    });
    return history.create("s9");
  };
  const logout = (history: History): History => {
    invoke(history, "out", { type: "recordLogout", providerSession: sid, userId: null, remembered: true });
    return history.append({ type: "LogoutRecorded", logoutId: sid, until: 86_400_000 as UnixMs }, "out");
  };
  isKept(signIn(logout(History.begun()), "another" as SessionId));
  isKept(logout(signIn(History.begun(), sid).revoke("s9")));
  isBroken(signIn(logout(History.begun()), sid), "logged-out", /s9 is created at 1\.4.*, after its logout/);
  isBroken(logout(signIn(History.begun(), sid)), "logged-out", /s9 is live at 1\.4.*, where its logout is answered/);
});

test("two holders of a user name are found, whatever the case of its letters", () => {
  const named = (history: History, person: UserId, userName: string): History => {
    const record = { version: 1, id: person, createdAt: "", changedAt: "", resource: { userName }, movedTo: null };
    const userId = scimUserOf(person);
    const profile = provisionedProfile(scimClient, record, { email: "", name: "" });
    invoke(history, `name-${person}`, { type: "writeProvisionedUser", userId, client: scimClient, profile });
    return history.append({ type: "UserUpserted", userId, profile: new Uint8Array() }, `name-${person}`);
  };
  isKept(named(named(History.begun(), ada, "Name-1"), eve, "name-2"));
  isBroken(named(named(History.begun(), ada, "Name-1"), eve, "name-1"), "one-name", /both have the name hr\/name-1/);
});

test("a sign-in against a provisioned person, and a session that outlives an answered deactivation, are found", () => {
  const signIn = (history: History): History => {
    invoke(history, "create-s9", {
      type: "createSession",
      sessionId: "s9",
      userId: ada,
      profile: { claims: {} },
      provisioned: [scimUserOf(ada)],
    });
    return history.create("s9");
  };
  const suspended = { type: "UserSuspended", userId: scimUserOf(ada), reason: "sim" } as const;
  isKept(signIn(History.begun()));
  isBroken(signIn(History.begun().append(suspended, "end")), "deactivated", /s9 is created .*, though/);
  const answered = (history: History): History =>
    history.tell("deactivation-answered", {
      process: "client-1",
      person: ada,
      ended: history.head,
      link: history.head,
    });
  isKept(answered(History.begun().append(suspended, "end").revoke("s1")));
  isBroken(answered(History.begun().append(suspended, "end")), "deactivated", /session s1 of ada is live/);
});

test("a change that is dropped and released, or released twice, is found", () => {
  const heldId = "held" as CommandId;
  const command = { type: "changeGroupMembers", groupId: team, source: "operator", added: [], removed: [] };
  const held: CardeaEvent = {
    ...{ type: "MassChangeHeld", heldId, source: "operator:sim", subject: "group:team", base: "empty" },
    ...{ template: encode(command), added: [], removed: [eve], people: 3, counted: 3, limit: 2 },
    expiresAt: 1 as UnixMs,
  };
  const ended = (outcome: "released" | "dropped"): CardeaEvent => {
    return { type: "HeldChangeEnded", heldId, outcome, reason: "" };
  };
  const begun = (): History => History.begun().append(held, "held");
  isKept(begun().append(ended("released"), "a"));
  isKept(begun().append(ended("dropped"), "a"));
  isBroken(begun().append(ended("dropped"), "a").append(ended("released"), "b"), "held-decided", /and was dropped/);
  isBroken(begun().append(ended("released"), "a").append(ended("released"), "b"), "held-decided", /and was released/);
});

test("a request that is decided twice, by the person who asked or without its access, and access that stays, are found", () => {
  const about = { requestId: "asked" as CommandId, userId: ada };
  const request: CardeaEvent = {
    ...{ type: "AccessRequested", ...about, routeId: "team", groupId: team, durationMs: 60_000 },
    ...{ reason: null, refusal: null, expiresAt: 9 as UnixMs },
  };
  const access = { groupId: team, source: "request", requestId: about.requestId } as const;
  const given: CardeaEvent = { type: "GroupMembersChanged", ...access, added: [ada], removed: [], until: 5 as UnixMs };
  const taken: CardeaEvent = { type: "GroupMembersChanged", ...access, added: [], removed: [ada] };
  const approved: CardeaEvent = {
    ...{ type: "AccessRequestDecided", ...about, decision: "approved", until: 5 as UnixMs, note: null },
  };
  const denied: CardeaEvent = { type: "AccessRequestDecided", ...about, decision: "denied", until: null, note: null };
  const ended: CardeaEvent = { type: "AccessRequestEnded", ...about, outcome: "ended" };
  const begun = (): History => History.begun().append(request, "ask");
  const inForce = (): History => begun().batch([given, approved], "approve");
  isKept(inForce().batch([taken, ended], "end"));
  isKept(begun().append(denied, "deny"));
  isBroken(inForce().append(denied, "deny"), "request-decided", /was AccessRequestDecided before/);
  isBroken(begun().append(approved, "approve"), "request-decided", /gives no such access/);
  isBroken(begun().batch([given, denied], "deny"), "request-access", /without an approval/);
  isBroken(History.begun().batch([given, approved], "approve"), "request-decided", /never made/);
  isBroken(begun().append(given, "give"), "request-access", /without an approval/);
  isBroken(inForce().append(ended, "end"), "request-access", /its access stays/);
});

test("a run that read only a part of a directory, or nothing, and withdraws a membership is found", () => {
  const user = directoryUserOf(ada);
  const members = (added: readonly UserId[], removed: readonly UserId[]): CardeaEvent => {
    return { type: "GroupMembersChanged", groupId: team, source: "directory", added, removed };
  };
  const run = (what: string, isEmpty: boolean, ids: readonly string[]): History => {
    const history = History.begun().append(members([user], []), "add");
    const state = { people: { ada: true }, groups: { team: ids } };
    history.tell("directory-run", { process: "broker-1", run: 1, mode: "full", isEmpty, state });
    history.tell("directory-page", { process: "broker-1", run: 1, what });
    history.tell("directory-submitted", { process: "broker-1", run: 1, commandId: "cut" });
    return history.append(members([], [user]), "cut");
  };
  isKept(run("last", false, []));
  isBroken(run("partial", false, []), "directory-kept", /read only a part/);
  isBroken(run("failed", false, []), "directory-kept", /has not read everything/);
  isBroken(run("last", true, []), "directory-kept", /suddenly empty/);
  isBroken(run("last", false, ["ada"]), "directory-kept", /the directory has that person there/);
});

test("a signal that is acknowledged and not in the log is found, and a revocation that no receiver gets", () => {
  const acknowledged = (history: History): History =>
    history
      .tell("signal-issued", { process: "operator", jti: "t1", commandIds: ["revoke-s1"] })
      .tell("signal-acknowledged", { process: "operator", jti: "t1" });
  isKept(acknowledged(History.begun().revoke("s1")));
  isBroken(acknowledged(History.begun()), "signal-durable", /token t1 is acknowledged, and its command revoke-s1/);

  const revoked = (accept: (history: History, jti: string) => void): History => {
    const history = History.begun();
    const of = { createdAt: 0 as UnixMs, requested: null, description: null, at: history.head };
    const delivery = { method: pushMethod, endpoint_url: "https://r.example", authorization_header: null } as const;
    const record = formatRecord({ salt: "s".repeat(32), stream: newStream({ ...of, streamId: "st", delivery }) });
    invoke(history, "stream", { type: "writeSignalStream", receiver: "r", expected: 0, record });
    const status = { receiver: "r", streamId: "st", status: "enabled", delivered: history.head.position } as const;
    history.append({ type: "SignalStreamChanged", ...status }, "stream").revoke("s1");
    accept(history, jtiOf("st", history.head.hash, 0));
    return history.tell("faults-over", { process: "operator" }).later(20_000).tell("run-over", { process: "operator" });
  };
  const accepted = (history: History, jti: string, content = "session-revoked 1"): History =>
    history.tell("signal-accepted", { process: "operator", receiver: "r", jti, content });
  const ofSignals = (history: History): string[] =>
    history.monitorResult.violations.filter(({ invariant }) => invariant === "signal-delivered").map(describe);
  assert.deepEqual(ofSignals(revoked(accepted)), []);
  isBroken(
    revoked(() => {}),
    "signal-delivered",
    /never got SessionRevoked at 1\.4/,
  );
  const twice = revoked((history, jti) => accepted(accepted(history, jti), "another"));
  isBroken(twice, "signal-delivered", /one event reaches the receiver as .* and as another/);
});
