/** OpenID AuthZEN 1.0: evaluations, searches, metadata, and the response to each error. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { Registry } from "prom-client";
import type { DecisionApiConfig } from "../../../src/config/index.ts";
import { type DecisionServer, startDecisionServer } from "../../../src/proxy/index.ts";
import { sessionId, userId } from "../../events/support.ts";
import {
  cookieOf,
  decisionApiConfig,
  engOnly,
  groupChanged,
  publicAccess,
  type ReceivedResponse,
  type RequestOptions,
  type Rig,
  routeTo,
  sendRequest,
  sessionRevoked,
  signedIn,
  startRig,
  userRecorded,
} from "../support.ts";

const key = "a-key-of-at-least-32-characters-0123456789";
const listingKey = "another-key-of-at-least-32-chars-987654321";
let rig: Rig;
let server: DecisionServer;
const cleanUps: (() => unknown)[] = [];

before(async () => {
  rig = await startRig([
    routeTo(1, { ...publicAccess, match: { kind: "prefix", value: "/public" } }),
    routeTo(1, { ...engOnly, match: { kind: "prefix", value: "/eng" }, staleGraceMs: 0 }),
    routeTo(1, {
      allowAnyAuthenticatedUser: false,
      match: { kind: "prefix", value: "/near" },
      policy: {
        ppl: { allow: { and: [{ source_ip: "203.0.113.0/24" }] } },
        location: { file: "cardea.yaml", line: 1, column: 1 },
      },
    }),
    routeTo(1, {
      match: { kind: "prefix", value: "/attached" },
      subPolicies: [
        {
          ...{ id: "s", name: "s", explanation: "", remediation: "" },
          ...{ allowedUsers: [], allowedDomains: [], allowedIdpClaims: {} },
          policy: {
            ppl: { deny: { or: [{ source_ip: "198.51.100.0/24" }] } },
            location: { file: "cardea.yaml", line: 1, column: 1 },
          },
        },
      ],
    }),
    routeTo(1),
  ]);
  await rig.apply(...[1, 2, 3].flatMap((n) => [userRecorded(n), signedIn(n)]), groupChanged({ added: [1] }));
  server = await serve({ keys: { wiki: key, console: listingKey }, listsPeople: ["console"] });
});
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
  await rig.close();
});

async function serve(parts: Partial<DecisionApiConfig>): Promise<DecisionServer> {
  const started = await startDecisionServer({
    listen: decisionApiConfig({ address: { host: "127.0.0.1", port: 0 }, ...parts }),
    deps: () => rig.deps,
    registry: new Registry(),
    requestId: randomUUID,
  });
  cleanUps.push(() => started.close());
  return started;
}

const send = (options: RequestOptions): Promise<ReceivedResponse> => sendRequest(server.address?.port ?? 0, options);

const authzen = async (path: string, body: unknown, headers: Readonly<Record<string, string>> = {}) => {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const given = { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers };
  const answer = await send({ method: "POST", path: `/access/v1/${path}`, body: text, headers: given });
  return { ...answer, json: () => JSON.parse(answer.body) };
};
const entity = (n: number, path: string) => ({
  subject: { type: "session", id: sessionId(n) },
  action: { name: "GET" },
  resource: { type: "route", id: `app.localhost${path}` },
  context: { ip: "203.0.113.9" },
});

test("AuthZEN: an evaluation, its errors, and the request id", async () => {
  const permitted = await authzen("evaluation", entity(1, "/eng"), { "x-request-id": "pep-7" });
  assert.equal(permitted.status, 200);
  assert.equal(permitted.headers["x-request-id"], "pep-7");
  assert.equal(permitted.json().decision, true);
  assert.equal(rig.records.at(-1)?.requestId, "pep-7");
  const denied = await authzen("evaluation", entity(2, "/eng"));
  assert.equal(denied.status, 200);
  assert.deepEqual([denied.json().decision, denied.json().context.result], [false, "deny"]);
  const asUser = { ...entity(1, "/eng"), subject: { type: "user", id: userId(1) } };
  assert.equal((await authzen("evaluation", asUser)).json().decision, true);
  const byCredential = (id: string) => ({ ...entity(1, "/eng"), subject: { type: "credential", id } });
  assert.equal((await authzen("evaluation", byCredential("s1"))).json().decision, true);
  assert.equal((await authzen("evaluation", byCredential("s2"))).json().decision, false);
  const cookie = { ...byCredential("s2"), context: { ip: "203.0.113.9", headers: { cookie: cookieOf(1) } } };
  assert.equal((await authzen("evaluation", cookie)).json().decision, false, "only the subject identifies the caller");
  const before = rig.records.length;
  for (const no of [
    { ...entity(1, "/eng"), subject: { type: "robot", id: "r2" } },
    { ...entity(1, "/eng"), subject: { type: "anonymous", id: "-" } },
    { ...entity(1, "/eng"), subject: { type: "user", id: "nobody" } },
    { ...entity(1, "/eng"), resource: { type: "document", id: "1" } },
    { ...entity(1, "/eng"), resource: { type: "route", id: "https://app.localhost/eng" } },
    { ...entity(1, "/near"), context: {} },
    { ...entity(1, "/attached"), context: {} },
  ])
    assert.equal((await authzen("evaluation", no)).json().decision, false, JSON.stringify(no));
  const { reasons, result, path } = rig.records[before] ?? assert.fail();
  assert.deepEqual({ reasons, result, path }, { reasons: ["subject-type"], result: "bad_request", path: "" });
  assert.equal(rig.records.length, before + 7, "each denial is recorded, also of what is unknown");
  const addressless = { ...entity(1, "/eng"), context: {} };
  assert.equal(
    (await authzen("evaluation", addressless)).json().decision,
    true,
    "that policy does not need the address",
  );
  const { subject: _subject, ...missing } = entity(1, "/eng");
  assert.deepEqual(
    [(await authzen("evaluation", missing)).status, (await authzen("evaluation", missing)).body],
    [400, "subject is missing\n"],
  );
  assert.equal((await authzen("evaluation", "{")).status, 400);
  for (const authorization of ["", "Bearer wrong", `Basic ${key}`]) {
    const refused = await authzen("evaluation", entity(1, "/eng"), { authorization });
    assert.deepEqual([refused.status, refused.headers["www-authenticate"]], [401, "Bearer"]);
  }
  rig.lease.overdueMs = 10;
  assert.equal((await authzen("evaluation", entity(1, "/eng"))).status, 503);
  rig.lease.overdueMs = -1_000;
});

test("AuthZEN: evaluations with defaults, and with each semantic that stops early", async () => {
  const { resource, ...defaults } = entity(1, "/eng");
  const second = { subject: { type: "session", id: sessionId(2) }, resource };
  const run = async (entries: readonly object[], options: object = {}) =>
    (await authzen("evaluations", { ...defaults, evaluations: entries, ...options }))
      .json()
      .evaluations.map(({ decision }: { decision: boolean }) => decision);
  const entries = [{ resource }, second, { resource }, {}];
  const before = rig.records.length;
  assert.deepEqual(await run(entries), [true, false, true, false]);
  assert.deepEqual(
    rig.records.slice(before).map(({ result }) => result),
    ["permit", "deny", "permit", "bad_request"],
  );
  const by = (evaluations_semantic: string) => ({ options: { evaluations_semantic } });
  assert.deepEqual(await run(entries, by("deny_on_first_deny")), [true, false]);
  assert.deepEqual(await run([second, ...entries], by("permit_on_first_permit")), [false, true]);
  const single = await authzen("evaluations", { ...entity(1, "/eng"), evaluations: [] });
  assert.equal(single.json().decision, true);
  assert.equal((await authzen("evaluations", { evaluations: entries, ...by("whatever") })).status, 400);
});

test("AuthZEN: searches for the actions and the resources of a person, in pages", async () => {
  const before = rig.records.length;
  const { action: _action, ...noAction } = entity(1, "/eng");
  const actions = (await authzen("search/action", noAction)).json();
  assert.deepEqual(actions.results.map(({ name }: { name: string }) => name).slice(0, 3), ["GET", "HEAD", "POST"]);
  const resources = async (n: number, page?: object) =>
    (await authzen("search/resource", { ...entity(n, "/"), resource: { type: "route" }, page })).json();
  const ids = ({ results }: { results: { id: string }[] }) => results.map(({ id }) => id);
  const all = ids(await resources(1));
  assert.deepEqual(all, [
    "http://app.localhost/public",
    "http://app.localhost/eng",
    "http://app.localhost/near",
    "http://app.localhost/attached",
    "http://app.localhost/",
  ]);
  assert.ok(!ids(await resources(2)).includes("http://app.localhost/eng"));
  const first = await resources(1, { limit: 3 });
  const rest = await resources(1, { limit: 3, token: first.page.next_token });
  assert.deepEqual([...ids(first), ...ids(rest)], all);
  assert.equal(rest.page.next_token, "");
  assert.equal(rig.records.length, before, "a search records no decision, but itself:");
  const act = rig.acts[0] ?? assert.fail();
  const { command, actor, targets, outcome, link } = act;
  assert.deepEqual(
    { command, actor, targets, outcome },
    {
      command: "searchActions",
      actor: "service:wiki",
      targets: [`user:${userId(1)}`, "route:app.localhost/eng"],
      outcome: "done",
    },
  );
  assert.equal(link, rig.deps.replica.applied);
});

test("AuthZEN: a search for the people of a route needs lists_people, and its pages are the same on all nodes", async () => {
  const { subject: _subject, ...question } = entity(1, "/");
  const about = { ...question, subject: { type: "user", id: "is ignored" } };
  const as = { authorization: `Bearer ${listingKey}` };
  const ids = ({ results }: { results: { id: string }[] }) => results.map(({ id }) => id);
  const refused = await authzen("search/subject", about);
  assert.deepEqual([refused.status, /lists_people/.test(refused.body)], [403, true]);
  const before = rig.records.length;
  const allUsers = [userId(1), userId(2), userId(3)].sort();
  assert.deepEqual(ids((await authzen("search/subject", about, as)).json()), allUsers);
  const eng = { ...about, resource: { type: "route", id: "app.localhost/eng" } };
  assert.deepEqual(ids((await authzen("search/subject", eng, as)).json()), [userId(1)]);
  const foundIds: string[] = [];
  for (let token = ""; ; ) {
    const page = { limit: 1, ...(token === "" ? {} : { token }) };
    const part = (await authzen("search/subject", { ...about, page }, as)).json();
    foundIds.push(...ids(part));
    token = part.page.next_token;
    if (token === "") break;
    assert.equal(part.page.count, 1);
  }
  assert.deepEqual(foundIds, allUsers);
  const others = { ...about, subject: { type: "robot" } };
  assert.deepEqual((await authzen("search/subject", others, as)).json().results, []);
  const nowhere = { ...about, resource: { type: "document", id: "1" } };
  assert.deepEqual((await authzen("search/subject", nowhere, as)).json().results, []);
  const { action: _action, ...noAction } = about;
  assert.equal((await authzen("search/subject", noAction, as)).status, 400);
  rig.lease.overdueMs = 10;
  assert.equal((await authzen("search/subject", eng, as)).status, 503, "an unknown result is not an empty one");
  const last = rig.acts.at(-1);
  assert.deepEqual([last?.command, last?.actor, last?.outcome], ["searchSubjects", "service:console", "unavailable"]);
  rig.lease.overdueMs = -1_000;
  assert.equal(rig.records.length, before);
  await rig.apply(sessionRevoked(3));
  assert.deepEqual(ids((await authzen("search/subject", about, as)).json()), [userId(1), userId(2)].sort());
});

test("AuthZEN: a page token belongs to its search, and a limit of 0 returns no results", async () => {
  const search = (page: object, n = 1) =>
    authzen("search/resource", { ...entity(n, "/"), resource: { type: "route" }, page });
  const { page } = (await search({ limit: 1 })).json();
  assert.equal((await search({ token: page.next_token })).json().page.count, 1, "the limit of the first page applies");
  assert.equal((await search({ token: page.next_token, limit: 2 })).status, 400);
  assert.equal((await search({ token: page.next_token, limit: 1 }, 2)).status, 400, "a token of another subject");
  for (const token of ["x", "W10", 7]) assert.equal((await search({ token })).status, 400);
  for (const limit of [-1, 1.5, "1"]) assert.equal((await search({ limit })).status, 400);
  assert.deepEqual((await search({ limit: 0 })).json().results, []);
  const { subject: _subject, ...noSubject } = entity(1, "/");
  assert.equal((await authzen("search/resource", { ...noSubject, resource: { type: "folder" } })).status, 400);
  const unknown = await authzen("search/resource", { ...entity(1, "/"), resource: { type: "folder" } });
  assert.deepEqual(unknown.json().results, []);
});

test("AuthZEN: a malformed request is 400, and the request id is returned unchanged", async () => {
  const question = entity(1, "/eng");
  for (const [body, headers] of [
    ["", {}],
    ["[]", {}],
    ["null", {}],
    [JSON.stringify(question), { "content-type": "text/plain" }],
    [{ ...question, subject: "user" }, {}],
    [{ ...question, action: { name: 7 } }, {}],
    [{ ...question, resource: { type: "route" } }, {}],
    [{ ...question, subject: { id: "1" } }, {}],
  ] as const)
    assert.equal((await authzen("evaluation", body, headers)).status, 400, JSON.stringify(body));
  const odd = await authzen("evaluation", question, { "x-request-id": "an arbitrary string (7)" });
  assert.equal(odd.headers["x-request-id"], "an arbitrary string (7)");
  assert.notEqual(rig.records.at(-1)?.requestId, "an arbitrary string (7)", "records contain only well-formed ids");
});

test("AuthZEN: the metadata lists the supported endpoints and nothing else", async () => {
  const read = async (at: DecisionServer) =>
    JSON.parse(
      (
        await sendRequest(at.address?.port ?? 0, {
          path: "/.well-known/authzen-configuration",
          host: "pdp.example.com",
        })
      ).body,
    );
  const base = "http://pdp.example.com";
  assert.deepEqual(await read(server), {
    policy_decision_point: base,
    access_evaluation_endpoint: `${base}/access/v1/evaluation`,
    access_evaluations_endpoint: `${base}/access/v1/evaluations`,
    search_subject_endpoint: `${base}/access/v1/search/subject`,
    search_action_endpoint: `${base}/access/v1/search/action`,
    search_resource_endpoint: `${base}/access/v1/search/resource`,
  });
  assert.ok(!("search_subject_endpoint" in (await read(await serve({ keys: { wiki: key } })))));
});
