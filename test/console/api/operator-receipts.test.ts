/** Receipts over the operator API: many sessions at once, progress as Server-Sent Events, and the keys for auditors. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { registerReceiptKeys } from "../../../src/console/index.ts";
import { type CommandId, formatLink, type SessionId, type UnixMs, userIdOf } from "../../../src/events/index.ts";
import type { Receipt } from "../../../src/replication/index.ts";
import { checkReceipt, receiptKeys, receiptKeysPath } from "../../../src/replication/wire/index.ts";
import { secret, type World } from "../../auth/authenticate/support.ts";
import { json, startOperatorWorld } from "./operator-support.ts";

async function createSession(
  world: World,
  options: Readonly<{ subject: string; groups?: readonly string[]; idpId?: string; issuedAt?: number }>,
): Promise<SessionId> {
  const sessionId = randomUUID() as string as SessionId;
  const issuer = "https://other.example";
  const result = await world.deps.databroker.submit({
    commandId: randomUUID() as CommandId,
    actor: "service:authenticate",
    command: {
      ...{
        type: "createSession",
        sessionId,
        userId: userIdOf(issuer, options.subject),
        idpId: options.idpId ?? "demo",
      },
      issuedAt: (options.issuedAt ?? Date.now()) as UnixMs,
      expiresAt: (Date.now() + 3_600_000) as UnixMs,
      profile: { issuer, subject: options.subject, email: "", emailVerified: true, name: "", claims: {} },
      tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
      groupIds: (options.groups ?? []) as never,
      maxSessionsPerUser: 10_000,
    },
  });
  if (result.type !== "done") return assert.fail(JSON.stringify(result));
  await world.replica.waitFor(result.link, 2_000);
  return sessionId;
}

const statusesOf = (world: World, ids: readonly SessionId[]): readonly string[] =>
  ids.map((id) => world.replica.projection.sessionStatus(id).status);

test("named sessions are revoked at once; unknown ones are listed and change nothing", async (t) => {
  const at = await startOperatorWorld(t);
  const ids = [await createSession(at.world, { subject: "ann" }), await createSession(at.world, { subject: "ben" })];
  const other = await createSession(at.world, { subject: "ann" });
  const unknown = randomUUID();
  const answer = json(await at.post("/sessions/revoke", { sessionIds: [...ids, unknown], wait: "all" }));
  assert.deepEqual([answer.changed, answer.named, answer.unknown, answer.more], [true, 3, [unknown], false]);
  assert.match(answer.promise, /no node permits/);
  assert.equal(answer.receipt.complete, true);
  assert.deepEqual(statusesOf(at.world, [...ids, other]), ["revoked", "revoked", "active"]);
  const checked = await checkReceipt(answer.receipt.signed, [
    await receiptKeys({ cluster: "test", secrets: [secret] }),
  ]);
  if (!checked.ok) return assert.fail(checked.detail);
  assert.deepEqual(checked.statement.changes?.[0]?.ids, [...ids].sort());
});

test("a filter selects live sessions: of a group, of a provider, from before a time, or all", async (t) => {
  const at = await startOperatorWorld(t);
  const { world } = at;
  const hourAgo = Date.now() - 3_600_000;
  const ofEng = await createSession(world, { subject: "ann", groups: ["eng"] });
  const ofSales = await createSession(world, { subject: "ben", groups: ["sales"] });
  const old = await createSession(world, { subject: "cat", issuedAt: hourAgo });
  const elsewhere = await createSession(world, { subject: "dan", idpId: "other" });
  const all = [ofEng, ofSales, old, elsewhere];
  const revokeMatching = async (filter: object): Promise<unknown> =>
    json(await at.post("/sessions/revoke", { filter })).named;
  assert.equal(await revokeMatching({ group: "empty" }), 0);
  assert.equal(await revokeMatching({ group: "eng" }), 1);
  assert.deepEqual(statusesOf(world, all), ["revoked", "active", "active", "active"]);
  const before = new Date(hourAgo + 1_000).toISOString();
  assert.equal(await revokeMatching({ issuedBefore: before, idpId: "other" }), 0, "both conditions must hold");
  assert.equal(await revokeMatching({ issuedBefore: before }), 1);
  assert.equal(await revokeMatching({ idpId: "other" }), 1);
  assert.deepEqual(statusesOf(world, all), ["revoked", "active", "revoked", "revoked"]);
  assert.equal(await revokeMatching({ all: true }), 1);
  assert.equal(await revokeMatching({ all: true }), 0, "no session is left");
  for (const body of [
    {},
    { filter: {} },
    { filter: { all: false } },
    { filter: { group: "eng" }, sessionIds: [ofEng] },
    { filter: { issuedBefore: "yesterday" } },
    { sessionIds: [] },
    { sessionIds: ["a b"] },
    { sessionIds: Array.from({ length: 10_001 }, (_, n) => `s${n}`) },
  ])
    assert.equal((await at.post("/sessions/revoke", body)).status, 400, JSON.stringify(body).slice(0, 80));
});

test("a receipt claims no more than the change does: a person removed from a group keeps access by other rights", async (t) => {
  const at = await startOperatorWorld(t);
  await createSession(at.world, { subject: "ann", groups: ["eng"] });
  const user = userIdOf("https://other.example", "ann");
  const removed = json(await at.post("/groups/eng/members", { remove: [user], wait: "all" }));
  assert.match(removed.promise, /what other rights permit continues/);
  assert.equal(removed.receipt.complete, true);
  const suspended = json(await at.post(`/users/${user}/suspend`, { wait: "all" }));
  assert.match(suspended.promise, /no node permits another request, .* on the sessions that this user had/);
  const restored = json(await at.post(`/users/${user}/restore`, { wait: "all" }));
  assert.match(restored.promise, /every node decides by the log up to this change/);
});

test("every change that removes access comes with a signed receipt that states exactly that change", async (t) => {
  const at = await startOperatorWorld(t);
  const user = userIdOf("https://other.example", "ann");
  const id = () => createSession(at.world, { subject: "ann", groups: ["eng", "ops"] });
  const [one] = [await id(), await id()];
  const changes: readonly (readonly [string, object, string, readonly string[]])[] = [
    [`/sessions/${one}/revoke`, {}, "SessionRevoked", [one]],
    ["/sessions/revoke", { sessionIds: [await id()] }, "SessionRevoked", []],
    [`/users/${user}/sessions/revoke`, {}, "UserSessionsRevoked", [user]],
    ["/groups/eng/members", { remove: [user] }, "GroupMembersChanged", ["eng"]],
    ["/groups/ops/remove", {}, "GroupRemoved", ["ops"]],
    [`/users/${user}/suspend`, {}, "UserSuspended", [user]],
    [`/users/${user}/erase`, {}, "UserErased", [user]],
  ];
  const sets = [await receiptKeys({ cluster: "test", secrets: [secret] })];
  for (const [path, body, type, ids] of changes) {
    const answer = json(await at.post(path, { ...body, wait: "all" }));
    assert.equal(answer.changed, true, path);
    const checked = await checkReceipt(answer.receipt.signed ?? "", sets);
    if (!checked.ok) return assert.fail(`${path}: ${checked.detail}`);
    const { complete, command, link, changes, promise, nodes } = checked.statement;
    assert.deepEqual([complete, command, link], [true, answer.commandId, formatLink(answer.link)], path);
    assert.equal(changes?.[0]?.type, type, path);
    if (ids.length > 0) assert.deepEqual(changes?.[0]?.ids, ids, path);
    assert.equal(promise, answer.promise, path);
    assert.deepEqual(
      nodes.map(({ node, status }) => `${node} ${status}`),
      ["node-1 applied"],
      path,
    );
  }
  assert.equal((await at.post("/groups/ops/remove")).status, 404, "the group is removed");
  assert.equal((await at.post("/groups/base64url:AA/remove")).status, 400);
});

test("no receipt, answer, log line or refusal contains a secret or personal data", async (t) => {
  const at = await startOperatorWorld(t);
  const sentinels = ["dora.secret@example.com", "Dora Private", "claim-value-7", "access-token-7", "refresh-token-7"];
  const [email = "", name = "", claim = "", accessToken = "", refreshToken = ""] = sentinels;
  const sessionId = randomUUID() as string as SessionId;
  const created = await at.world.deps.databroker.submit({
    commandId: randomUUID() as CommandId,
    actor: "service:authenticate",
    command: {
      ...{ type: "createSession", sessionId, userId: userIdOf("https://other.example", "dora"), idpId: "demo" },
      ...{ issuedAt: Date.now() as UnixMs, expiresAt: (Date.now() + 3_600_000) as UnixMs },
      profile: {
        ...{ issuer: "https://other.example", subject: "dora", email, emailVerified: true, name },
        claims: { secret: [claim] },
      } as never,
      tokens: { accessToken, refreshToken, idToken: null, accessTokenExpiresAt: null },
      ...{ groupIds: null, maxSessionsPerUser: 10 },
    },
  });
  if (created.type !== "done") return assert.fail(JSON.stringify(created));
  await at.world.replica.waitFor(created.link, 2_000);
  const token = await at.token();
  const answers = [
    await at.post(`/users/${email}/sessions/revoke`, { wait: "all" }),
    await at.post(`/users/${email}/suspend`, { wait: "all", timeoutMs: -1 }),
    await at.post(`/sessions/${sessionId}/revoke`, { wait: "all", token: accessToken }),
    await at.post(`/users/${email}/suspend`, { wait: "all" }),
    await at.get(`/receipts/link:${formatLink(created.link)}`),
    await at.get(`/receipts/${token}`),
    await at.get("/cluster"),
  ];
  const receipts = answers.flatMap(({ body }) => {
    const signed = (JSON.parse(body) as { receipt?: Receipt }).receipt?.signed;
    return signed ? [Buffer.from(signed.split(".")[1] ?? "", "base64url").toString("utf8")] : [];
  });
  assert.ok(receipts.length >= 2);
  const output = [...answers.map(({ body }) => body), ...receipts, ...at.logged].join("\n");
  const secrets = (["hex", "base64", "base64url"] as const).map((form) => Buffer.from(secret).toString(form));
  for (const word of [...sentinels, ...secrets, token])
    assert.equal(
      output.includes(word),
      false,
      `${word} is in the output: ${output.slice(Math.max(0, output.indexOf(word) - 100)).slice(0, 200)}`,
    );
});

test("a receipt is streamed as it completes: progress first, then the signed receipt", async (t) => {
  let answers: Receipt[] = [];
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      async receipt(target, options) {
        const real = await inner.receipt(target, { ...options, timeoutMs: 0, wait: "none" });
        return answers.shift() ?? real;
      },
    }),
  });
  const id = await createSession(at.world, { subject: "ann" });
  const { link } = json(await at.post(`/sessions/${id}/revoke`));
  const real = json(await at.get(`/receipts/link:${formatLink(link)}?wait=none`)) as Receipt;
  const [node] = real.nodes;
  const open = { ...node, status: "unconfirmed", fencedInMs: 900 } as Receipt["nodes"][number];
  answers = [{ ...real, wait: "all", status: "incomplete", complete: false, signed: null, nodes: [open] }];
  const token = await at.token();
  const response = await at.visitor.request(at.url(`/receipts/link:${formatLink(link)}?timeout=5000`), {
    headers: { authorization: `Bearer ${token}`, accept: "text/event-stream" },
  });
  assert.match(String(response.headers["content-type"]), /^text\/event-stream/);
  const events = response.body.trim().split("\n\n");
  assert.deepEqual(
    events.map((event) => event.split("\n")[0]),
    ["event: progress", "event: receipt"],
  );
  const last = JSON.parse(events[1]?.split("\ndata: ")[1] ?? "") as Receipt;
  assert.equal(last.status, "complete");
  assert.notEqual(last.signed, null);
});

test("the keys of receipts are public on the authenticate host, and cached with an ETag", async (t) => {
  const keys = await receiptKeys({ cluster: "test", secrets: [secret, new Uint8Array(32)] });
  const at = await startOperatorWorld(t, { plugins: [(app) => registerReceiptKeys(app, keys)] });
  const url = at.world.url("authenticate", receiptKeysPath);
  const answer = await at.visitor.request(url, { headers: {} });
  assert.deepEqual([answer.status, answer.headers["content-type"]], [200, "application/jwk-set+json; charset=utf-8"]);
  assert.deepEqual(JSON.parse(answer.body), keys);
  assert.equal(keys.keys.length, 2);
  assert.equal(JSON.stringify(keys).includes('"d"'), false, "public parts only");
  const again = await at.visitor.request(url, { headers: { "if-none-match": String(answer.headers["etag"]) } });
  assert.equal(again.status, 304);
});

test("a receipt may be requested for any region by its name, and a region without nodes is not found before anything changes", async (t) => {
  const region = { brokers: 1, nodes: 2, fenced: 0, absent: 0, cutOff: false, lag: 0, silentMs: 10 };
  const requested: (string | undefined)[] = [];
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      status: async (options) => ({ ...(await inner.status(options)), regions: [{ ...region, region: "ap" }] }),
      receipt: async (target, options) => {
        requested.push(options.region);
        return inner.receipt(target, options);
      },
    }),
  });
  const id = await createSession(at.world, { subject: "ann" });
  const typo = await at.post(`/sessions/${id}/revoke`, { wait: "region", region: "pa" });
  assert.deepEqual([typo.status, json(typo).error], [404, 'no node of region "pa" is known']);
  assert.deepEqual(statusesOf(at.world, [id]), ["active"]);
  const answer = json(await at.post(`/sessions/${id}/revoke`, { wait: "region", region: "ap" }));
  assert.deepEqual([answer.receipt.wait, answer.receipt.region], ["region", "ap"]);
  const link = formatLink(answer.link);
  assert.equal((await at.get(`/receipts/link:${link}?wait=region&region=pa`)).status, 404);
  assert.equal(json(await at.get(`/receipts/link:${link}?wait=region&region=ap`)).region, "ap");
  assert.equal(json(await at.get(`/receipts/link:${link}?wait=region`)).region, "here");
  assert.deepEqual(requested, ["ap", "ap", "here"]);
});
