/** Re-derivation: a recorded decision, decided again from the facts and the configuration that its record names. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Rederivation, rederiveDecision } from "../../../src/audit/index.ts";
import type { DecisionRecord } from "../../../src/auth/index.ts";
import type { SessionCreated, SessionId, UnixMs, UserId } from "../../../src/events/index.ts";
import { config as parseWhole } from "../../config/support.ts";
import { at, configText, type LogWorld, logWorld, readerOf, routes, stored } from "./support.ts";

function again(world: LogWorld, record: DecisionRecord, configuration = stored(world.config)): Rederivation {
  const facts = { projection: world.projection, open: world.open };
  return rederiveDecision(record, { facts, configuration, readRecord: readerOf(configuration) });
}

function fieldsIn(found: Rederivation): readonly string[] {
  return found.type === "different" ? found.differences.map(({ field }) => field) : [found.type];
}

test("every kind of answer is derived again whole: permit, refusal, sign-in, public, no route", async () => {
  const world = await logWorld();
  const [kim, boss, lee] = [
    await world.signIn("kim@example.com"),
    await world.signIn("boss@example.com"),
    await world.signIn("lee@example.com"),
  ];
  await world.members("eng", { added: [kim.userId] });
  const records = [
    ["permit", world.recordOf("eng", kim)],
    ["permit", world.recordOf("eng", boss)],
    ["deny", world.recordOf("eng", lee)],
    ["deny", world.recordOf("eng", kim, { path: "/secret/1" })],
    ["signin", world.recordOf("eng", null)],
    ["permit", world.recordOf("open", null)],
    ["permit", world.recordOf("short", lee)],
    [
      "not_found",
      { ...world.recordOf("open", null), ...{ routeId: null, host: "other.example.com" }, result: "not_found" },
    ],
  ] as const;
  for (const [result, record] of records) {
    assert.equal(record.result, result);
    const found = again(world, record as DecisionRecord);
    assert.equal(found.type, "same", JSON.stringify([record, found]));
    if (found.type === "same") assert.deepEqual([found.answer.result, found.uncompared], [result, []]);
  }
});

test("a group that is removed and added again is judged as of the link, not as of now", async () => {
  const world = await logWorld();
  const kim = await world.signIn("kim@example.com");
  await world.members("eng", { added: [kim.userId] });
  const permitted = world.recordOf("eng", kim);
  await world.members("eng", { removed: [kim.userId] });
  const refused = world.recordOf("eng", kim);
  assert.deepEqual([permitted.result, refused.result], ["permit", "deny"]);
  assert.equal(again(world, refused).type, "same");
  assert.deepEqual(fieldsIn(again(world, permitted)), ["result", "reasons", "allow", "rule"]);
  await world.members("eng", { added: [kim.userId] });
  assert.equal(again(world, permitted).type, "same");
  assert.ok(fieldsIn(again(world, refused)).includes("result"));
});

test("each part of a record that a wrong node could have got wrong is compared", async () => {
  const world = await logWorld();
  const kim = await world.signIn("kim@example.com");
  await world.members("eng", { added: [kim.userId] });
  const record = world.recordOf("eng", kim);
  const other = await world.signIn("lee@example.com");
  const changes: [string, Partial<DecisionRecord>][] = [
    ["reasons", { reasons: ["email-ok"] }],
    ["allow", { allow: { met: true, reasons: ["email-ok"] } }],
    ["deny", { deny: { met: true, reasons: [] } }],
    ["rule", { rule: "policy[0].deny.or" }],
    ["route", { routeId: "open" }],
    ["caller", { sessionId: other.sessionId }],
    ["caller", { sessionId: "unknown" as SessionId, userId: "nobody" as UserId }],
    ["result", { result: "signin" }],
  ];
  for (const [field, change] of changes)
    assert.ok(fieldsIn(again(world, { ...record, ...change })).includes(field), `${field} ${JSON.stringify(change)}`);
});

test("an ended session permits nothing: revoked, expired, of another provider, older than its route allows", async () => {
  const world = await logWorld();
  const revoked = await world.signIn("a@example.com");
  const short = await world.signIn("b@example.com", { expiresAt: (at + 60_000) as UnixMs });
  const foreign = await world.signIn("c@example.com", { idpId: "another" });
  const old = await world.signIn("d@example.com");
  const permits = (session: SessionCreated, more: Partial<DecisionRecord> = {}): DecisionRecord => ({
    ...world.recordOf("short", session),
    ...{ result: "permit", status: 200, reasons: ["user-ok"], sessionId: session.sessionId, userId: session.userId },
    ...more,
  });
  const records = [
    permits(revoked),
    permits(short, { at: (at + 61_001) as UnixMs }),
    permits(foreign),
    permits(old, { at: (at + 601_001) as UnixMs }),
  ];
  await world.append({
    type: "SessionRevoked",
    sessionId: revoked.sessionId,
    userId: revoked.userId,
    reason: "operator",
  });
  for (const record of records) assert.ok(fieldsIn(again(world, record)).includes("caller"), JSON.stringify(record));
  const inTime = permits(short, { at: (at + 60_500) as UnixMs });
  assert.equal(again(world, inTime).type, "same", "the node may date a decision up to a second late");
});

test("an open exchange whose session has ended is cut, also on a public route", async () => {
  const world = await logWorld();
  const kim = await world.signIn("kim@example.com");
  await world.append({ type: "SessionRevoked", sessionId: kim.sessionId, userId: kim.userId, reason: "operator" });
  const cut: DecisionRecord = {
    ...world.recordOf("open", null),
    ...({ occasion: "redecision", result: "signin", status: 401, reasons: ["user-unauthenticated"] } as const),
    ...{ sessionId: kim.sessionId, userId: kim.userId, allow: undefined, deny: undefined },
  };
  assert.equal(again(world, cut).type, "same");
  assert.ok(fieldsIn(again(world, { ...cut, result: "permit" })).includes("caller"));
});

test("an erased person's decision is derived again by what is left, and what is gone is named", async () => {
  const world = await logWorld();
  const [kim, lee] = [await world.signIn("kim@example.com"), await world.signIn("lee@example.com")];
  await world.members("eng", { added: [kim.userId] });
  const [permit, deny] = [world.recordOf("eng", kim), world.recordOf("eng", lee)];
  const forged = { ...deny, result: "permit", allow: { met: true, reasons: ["groups-ok"] } } as const;
  for (const { userId } of [kim, lee]) world.erased.add(userId);
  const found = again(world, permit);
  assert.ok(found.type === "same", "the group answers");
  assert.match(found.uncompared.join(), /email/);
  const unknown = again(world, deny);
  assert.ok(unknown.type === "unknown", "the e-mail might have let them in");
  assert.match(unknown.why, /email/);
  assert.equal(again(world, forged).type, "unknown");
});

test("what the record does not hold is never guessed", async () => {
  const world = await logWorld();
  const kim = await world.signIn("kim@example.com");
  const outside = world.recordOf("certificate", kim);
  assert.equal(again(world, outside).type, "same", "without the group the certificate does not matter");
  await world.members("eng", { added: [kim.userId] });
  const inside = world.recordOf("certificate", kim);
  const unknown = again(world, inside);
  assert.ok(unknown.type === "unknown");
  assert.match(unknown.why, /client_certificate/);
  const redacted = { ...world.recordOf("eng", kim), path: "/files/[redacted]" };
  assert.equal(again(world, redacted).type, "unknown", "the path might be denied");
  const skipped: Partial<DecisionRecord>[] = [
    { occasion: "closed" },
    { result: "unavailable", status: 503 },
    { result: "bad_request", status: 400 },
    { result: "deny", allow: undefined, deny: undefined, reasons: ["websocket-origin"] },
  ];
  for (const more of skipped) {
    const found = again(world, { ...inside, ...more });
    assert.ok(found.type === "unknown" && found.code === "not-decided", JSON.stringify(found));
  }
});

test("the configuration that the record names decides, not the present one", async () => {
  const world = await logWorld();
  const kim = await world.signIn("kim@example.com");
  await world.members("eng", { added: [kim.userId] });
  const record = world.recordOf("eng", kim);
  const changed = stored(parseWhole(configText(routes.replace("groups: {has: eng}", "groups: {has: ops}"))));
  assert.ok(fieldsIn(again(world, record, changed)).includes("result"));
  assert.equal(again(world, record, stored(world.config)).type, "same");
  const moved = stored(parseWhole(configText(routes.replace("https://eng.example.com", "https://e.example.com"))));
  assert.deepEqual(fieldsIn(again(world, record, moved)), ["route"]);
});

test("a session that the log has as active, and the node refused for a reason of its own, raises no difference", async () => {
  const world = await logWorld();
  const kim = await world.signIn("kim@example.com");
  await world.members("eng", { added: [kim.userId] });
  const named = { fact: `session:${kim.sessionId}`, criteria: [], position: 1, exact: true };
  const trace = { rule: null, rules: [], more: 0, facts: [named], factsMore: 0 };
  const refused = { ...world.recordOf("eng", null), trace };
  const found = again(world, refused);
  assert.ok(found.type === "unknown" && found.code === "session", JSON.stringify(found));
  const idle = { ...refused, reasons: [...refused.reasons, "session-idle"], trace: undefined };
  const { trace: _, ...untraced } = { ...idle, rule: refused.rule };
  assert.equal(again(world, untraced as DecisionRecord).type, "same", "the record says that it was idle");
});

test("a route with a port on a wildcard host is found again, although a record does not have the port", async () => {
  const more = `${routes}  - id: apps
    from: https://*.apps.example.com:8443
    to: http://127.0.0.1:8091
    allow_any_authenticated_user: true
`;
  const world = await logWorld(parseWhole(configText(more)));
  const kim = await world.signIn("kim@example.com");
  const record = { ...world.recordOf("apps", kim), host: "one.apps.example.com" };
  assert.equal(again(world, record).type, "same");
  const nowhere = { ...record, routeId: null, result: "not_found" } as const;
  assert.equal(again(world, nowhere).type, "unknown", "the request may have named another port");
});

test("a tunnel is derived again by the service that it names", async () => {
  const more = `${routes}  - id: db
    from: tcp+https://db.example.com:5432
    to: tcp://127.0.0.1:5432
    policy:
      - allow:
          or: [groups: {has: eng}]
`;
  const world = await logWorld(parseWhole(configText(more)));
  const kim = await world.signIn("kim@example.com");
  await world.members("eng", { added: [kim.userId] });
  const tunnel = { ...world.recordOf("db", kim, { method: "CONNECT" }), host: "db.example.com:5432", path: "" };
  assert.equal(again(world, tunnel).type, "same", JSON.stringify(again(world, tunnel)));
  assert.deepEqual(fieldsIn(again(world, { ...tunnel, host: "db.example.com:5433" })), ["route"]);
});
