/** Explanations of decisions: the rule in its policy, what would be decided now, old records, and who may see them. */
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { test } from "node:test";
import { type AuditRecord, openPullStore } from "../../../src/audit/index.ts";
import type { RouteConfig } from "../../../src/config/index.ts";
import { ruleTextOf } from "../../../src/console/api/past/rule-text.ts";
import type { ExplainAnswer } from "../../../src/console/index.ts";
import {
  type BootId,
  type CommandId,
  type ConfigHash,
  type NodeId,
  packConfigBody,
  type UnixMs,
} from "../../../src/events/index.ts";
import { createRecordedRequestReader } from "../../../src/proxy/index.ts";
import { ModelDisk } from "../../audit/spool/model-disk.ts";
import { batchOf, decision } from "../../audit/support.ts";
import { signIn, subjectId } from "../../auth/authenticate/support.ts";
import { json, type OperatorWorld, pushRecords, startOperatorWorld } from "./operator-support.ts";

const storedRoute = (id: string, policy: unknown): object => ({
  ...{ id, name: id, from: `https://${id}.example.com/`, host: `${id}.example.com`, port: null, tunnel: null },
  ...{ match: { kind: "prefix", value: "/" }, bearer: null, sessionLifetimeMs: 0, allowedUsers: [] },
  ...{ allowPublicUnauthenticatedAccess: false, corsAllowPreflight: false, allowAnyAuthenticatedUser: false },
  ...{ allowedDomains: [], allowedIdpClaims: {}, clientCa: null, requiresClientCertificate: false, policy },
});

async function activate({ world }: OperatorWorld, routes: readonly object[]) {
  const text = JSON.stringify({ routes });
  const configHash = createHash("sha256").update(text).digest("hex") as ConfigHash;
  const command = { type: "activateConfiguration", nodeId: "node-1" as NodeId } as const;
  const stored = await world.deps.databroker.submit({
    commandId: randomUUID() as CommandId,
    actor: "service:node-1",
    command: { ...command, configHash, body: packConfigBody(text) },
  });
  assert.ok(stored.type === "done");
  await world.replica.waitFor(stored.link, 5_000);
  return { configHash, link: stored.link };
}

test("an explanation shows the rule in its policy, names, and what would be decided now, from today's facts", async (t) => {
  const at = await startOperatorWorld(t, {
    deps: { recordReaderOf: createRecordedRequestReader },
    operator: (inner) => ({
      ...inner,
      status: async (options) => {
        const status = await inner.status(options);
        return { ...status, nodes: status.nodes.map((node) => ({ ...node, configHash: running })) };
      },
    }),
  });
  let running: string | null = null;
  await signIn(at.world, at.world.visitor(), "alice");
  const alice = subjectId(at.world, "alice");
  const [sessionId] = at.world.replica.projection.sessionsOf(alice);
  const policy = [
    { deny: { or: [{ http_method: { is: "DELETE" } }] } },
    { allow: { and: [{ groups: { has: "hr" } }] } },
  ];
  const { configHash, link } = await activate(at, [storedRoute("payroll", policy)]);
  running = configHash;
  const record = {
    ...{ kind: "decision", seq: 1 },
    ...decision("/june", {
      ...{ sessionId: sessionId ?? null, userId: alice, configHash, applied: link, at: Date.now() as UnixMs },
      ...{ requestId: "wanted", routeId: "payroll", host: "payroll.example.com", result: "deny", status: 403 },
      ...{ reasons: ["groups-unauthorized"], rule: "policy[1].allow.and" },
    }),
  } as AuditRecord;
  pushRecords(at.feed, record);
  const explain = async (): Promise<ExplainAnswer> => {
    const answer = await at.post("/explain", { id: "wanted" });
    assert.equal(answer.status, 200, answer.body);
    return json(answer);
  };
  const before = await explain();
  const shown = before.route?.policy;
  assert.deepEqual([before.route?.name, shown?.firstLine], ["payroll", 1]);
  assert.equal(shown?.text.split("\n")[(shown.line ?? 0) - 1]?.trim(), "and:");
  assert.deepEqual(before.names, { [alice]: "Alice Archer" });
  assert.ok(before.now.type === "decided", JSON.stringify(before.now));
  assert.deepEqual([before.now.result, before.now.rule], ["deny", null]);

  await at.post("/groups/hr/members", { add: [alice] });
  const added = await explain();
  assert.ok(added.now.type === "decided");
  assert.deepEqual([added.now.result, added.now.rule], ["permit", "policy[1].allow.and"]);
  assert.equal(added.record.result, "deny", "the record stays what it was");

  await at.post(`/users/${alice}/sessions/revoke`);
  const ended = await explain();
  assert.ok(ended.now.type === "decided");
  assert.equal(ended.now.result, "signin");
  running = "0".repeat(64);
  const unknown = await explain();
  assert.ok(unknown.now.type === "open");
  assert.match(unknown.now.why, /not stored/);
});

test("a hostile record is answered without an error of the server, and a rule is found in any text", async (t) => {
  const at = await startOperatorWorld(t, { deps: { recordReaderOf: createRecordedRequestReader } });
  const record = { kind: "decision", seq: 1, ...decision("/"), applied: at.world.replica.applied };
  for (const parts of [
    { userId: { toString: 1 }, sessionId: 7 },
    { routeId: ["a"], trace: { rule: 5, rules: [], facts: [] } },
    { rule: "policy[0].allow.__proto__[9].constructor", routeId: "x".repeat(5_000) },
    { host: "\u0000<script>", path: "/‮%00", configHash: "zz" },
  ]) {
    const answer = await at.post("/explain", { record: { ...record, ...parts } });
    assert.ok(answer.status < 500, `${JSON.stringify(parts)}: ${answer.status} ${answer.body}`);
  }
  const location = { file: "x", line: 0, column: 0 };
  const ppl = { allow: { or: Array.from({ length: 1_000 }, (_, i) => ({ user: { is: `user-${i}: "#<b>` } })) } };
  const route = { ...storedRoute("app", null), policy: { ppl, location } } as unknown as RouteConfig;
  const text = ruleTextOf(route, "policy.allow.or");
  assert.equal(text.text.split("\n")[(text.line ?? 0) - text.firstLine]?.trim(), "or:");
  assert.ok(text.text.split("\n").length <= 400 && text.lines > 2_000);
  assert.equal(ruleTextOf(route, "policy[7].deny.not").line, null);
  assert.equal(ruleTextOf(route, null).line, null);
  assert.equal(ruleTextOf({ ...route, allowedUsers: ["a@example.com"] } as never, "shorthands").line, 1);
});

test("a decision that has left the memory is found among the stored ones, or the answer says how far it looked", async (t) => {
  const disk = new ModelDisk();
  const boot = "boot-1" as BootId;
  const history = await openPullStore({ disk, boot, bytesMax: 1_000_000_000, monotonicMs: () => 0 });
  const ageMs = (hours: number): UnixMs => (Date.now() - hours * 3_600_000) as UnixMs;
  const stored = (seq: number, hours: number, requestId: string): AuditRecord => ({
    ...{ kind: "decision", seq },
    ...decision("/", { boot, at: ageMs(hours), requestId }),
  });
  await history.write(batchOf(stored(1, 100, "old"), stored(2, 30, "twice"), stored(3, 2, "recent")));
  const at = await startOperatorWorld(t, { history });
  for (const id of ["old", "twice", "recent", "boot-1:2"]) {
    const answer = await at.post("/explain", { id });
    assert.equal(answer.status, 200, `${id}: ${answer.body}`);
  }
  const missing = await at.post("/explain", { id: "never" });
  assert.equal(missing.status, 404);
  assert.match(json(missing).error, /no such decision is among the records since 20\d\d-/);
  const from = new Date(ageMs(31)).toISOString();
  const until = new Date(ageMs(29)).toISOString();
  const window = json(await at.get(`/decisions?since=${from}&until=${until}`));
  assert.deepEqual(
    [window.decisions.map(({ record }: { record: AuditRecord }) => record.seq), window.more],
    [[2], false],
  );
  await history.close();
});

test("a caller with some groups of routes sees decisions on these alone, whatever it filters or asks by id", async (t) => {
  const routes = [
    { id: "payroll", from: "https://payroll.example.com", routeGroups: ["hr"] },
    { id: "wiki", from: "https://wiki.example.com", routeGroups: ["staff"] },
  ];
  const history = await openPullStore({
    ...{ disk: new ModelDisk(), boot: "boot-1" as BootId, bytesMax: 1_000_000_000, monotonicMs: () => 0 },
  });
  const at = await startOperatorWorld(t, { routes: routes as never, history });
  t.after(() => history.close());
  await signIn(at.world, at.world.visitor(), "bob");
  const bob = subjectId(at.world, "bob");
  const record = (seq: number, routeId: string | null): AuditRecord => ({
    ...{ kind: "decision", seq },
    ...decision("/", { routeId, requestId: `request-${seq}`, userId: bob }),
  });
  const act = { kind: "operator", seq: 4, node: "node-1", boot: "boot-1", region: "eu", at: 1, commandId: "c" };
  const gap = { kind: "gap", seq: 5, node: "node-1", boot: "boot-1", at: 1, first: 5, last: 5, why: "x" };
  pushRecords(at.feed, record(1, "payroll"), record(2, "wiki"), record(3, null));
  pushRecords(at.feed, { ...act, actor: "user:x", command: "suspendUser", targets: [], targetsMore: 0 } as never);
  pushRecords(at.feed, gap as AuditRecord);
  const headers = {
    authorization: `Bearer ${await at.token({ role: "viewer", routeGroups: ["hr"] })}`,
    accept: "application/json",
  };
  const seen = async (query: string): Promise<number[]> => {
    const answer = await at.get(`/decisions?last=100${query}`, { headers });
    assert.equal(answer.status, 200, answer.body);
    return json(answer).decisions.map((one: { record: AuditRecord }) => one.record.seq);
  };
  assert.deepEqual(await seen(""), [1, 5]);
  assert.deepEqual(await seen("&route=wiki"), [5]);
  assert.deepEqual(await seen(`&user=${bob}&kind=decision,operator`), [1]);
  assert.deepEqual(await seen("&user=stranger@example.com"), [5], "nothing says whether a person exists");
  const asked = async (body: object): Promise<number> =>
    (await at.post("/explain", body, { headers: { ...headers, "content-type": "application/json" } })).status;
  assert.equal(await asked({ id: "request-1" }), 200);
  assert.equal(await asked({ id: "request-2" }), 404);
  assert.equal(await asked({ id: "boot-1:2" }), 404);
  const said = async (id: string): Promise<string> =>
    (await at.post("/explain", { id }, { headers: { ...headers, "content-type": "application/json" } })).body;
  assert.equal(await said("request-2"), await said("request-9"), "as if there were none");
  assert.equal(await asked({ record: record(1, "payroll") }), 403, "a record that the caller brings along");
  assert.equal((await at.get("/changes", { headers })).status, 403);
  assert.equal((await at.get("/activity", { headers })).status, 403);
});

test("a caller with some groups of routes does not learn which other route an address belongs to", async (t) => {
  const routes = [
    { id: "payroll", from: "https://payroll.example.com", routeGroups: ["hr"] },
    { id: "vault", from: "https://vault.example.com", routeGroups: ["keys"] },
  ];
  let running: string | null = null;
  const at = await startOperatorWorld(t, {
    routes: routes as never,
    deps: { recordReaderOf: createRecordedRequestReader },
    operator: (inner) => ({
      ...inner,
      status: async (options) => {
        const status = await inner.status(options);
        return { ...status, nodes: status.nodes.map((node) => ({ ...node, configHash: running })) };
      },
    }),
  });
  await signIn(at.world, at.world.visitor(), "alice");
  const { configHash, link } = await activate(at, [storedRoute("payroll", null), storedRoute("vault", null)]);
  running = configHash;
  const record = {
    ...{ kind: "decision", seq: 1 },
    ...decision("/", { configHash, applied: link, at: Date.now() as UnixMs, requestId: "moved", routeId: "payroll" }),
    ...{ host: "vault.example.com", sessionId: null, userId: null, result: "deny", status: 403 },
    ...{ allow: { met: false, reasons: [] }, deny: { met: false, reasons: [] } },
  } as AuditRecord;
  pushRecords(at.feed, record);
  const limited = `Bearer ${await at.token({ role: "viewer", routeGroups: ["hr"] })}`;
  const headers = { authorization: limited, accept: "application/json", "content-type": "application/json" };
  const whole: ExplainAnswer = json(await at.post("/explain", { id: "moved" }));
  assert.ok(whole.now.type === "open" && whole.again.type === "different", JSON.stringify(whole));
  assert.match(whole.now.why, /another route now: vault/);
  const answer = await at.post("/explain", { id: "moved" }, { headers });
  const own: ExplainAnswer = json(answer);
  assert.ok(own.now.type === "open" && own.again.type === "different", answer.body);
  assert.equal(own.now.why, "the address belongs to another route now");
  assert.deepEqual(own.again.differences, [{ field: "route", recorded: "payroll", derived: "another" }]);
  const { host: _host, ...shown } = own.record;
  assert.ok(!JSON.stringify({ ...own, record: shown }).includes("vault"));
});
