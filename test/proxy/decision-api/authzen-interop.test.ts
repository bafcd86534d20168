/**
 * AuthZEN's published scenarios against a real server: the Todo application, the API gateway in front of it, and the
 * fixture of the certification scenario. The requests are as the working group publishes them
 * (github.com/openid/authzen). Roles are claims of the identity provider; the configuration below maps the scenarios'
 * actions and resources to requests.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { Registry } from "prom-client";
import { type CardeaEvent, encode, type UnixMs, userIdOf } from "../../../src/events/index.ts";
import { type DecisionServer, startDecisionServer } from "../../../src/proxy/index.ts";
import { base, config, goodRoute } from "../../config/support.ts";
import { sessionId } from "../../events/support.ts";
import { type Rig, routeTo, sendRequest, startRig } from "../support.ts";

const issuer = "https://idp.example.com";
const key = "a-key-of-at-least-32-characters-0123456789";
const decisionApi = config(`${base}decision_api:
  address: 127.0.0.1:9180
  keys: {interop: ${key}}
  lists_people: [interop]
  subject_issuer: ${issuer}
  resources:
    user:
      can_read_user: GET http://todo.localhost/users/{id}
    todo:
      can_read_todos: GET http://todo.localhost/todos
      can_create_todo: POST http://todo.localhost/todos
      can_update_todo: PUT http://todo.localhost/owners/{resource.ownerID}/todos/{id}
      can_delete_todo: DELETE http://todo.localhost/owners/{resource.ownerID}/todos/{id}
    route:
      GET: GET http://gateway.localhost{+id}
      POST: POST http://gateway.localhost{+id}
      PUT: PUT http://gateway.localhost{+id}
      DELETE: DELETE http://gateway.localhost{+id}
    record:
      read: GET http://records.localhost/records{/resource.status}/{id}
      write: PUT http://records.localhost/records{/resource.status}/{id}
      delete: DELETE http://records.localhost/deletions/{action.soft}/{id}
${goodRoute}`).decisionApi;

const pid = (part: string): string => `CiRmZD${part}MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs`;
type Person = Readonly<{ subject: string; email: string; roles: readonly string[] }>;
const rick: Person = { subject: pid("A2"), email: "rick@the-citadel.com", roles: ["admin", "evil_genius"] };
const morty: Person = { subject: pid("E2"), email: "morty@the-citadel.com", roles: ["editor"] };
const summer: Person = { subject: pid("I2"), email: "summer@the-smiths.com", roles: ["editor"] };
const beth: Person = { subject: pid("M2"), email: "beth@the-smiths.com", roles: ["viewer"] };
const jerry: Person = { subject: pid("Q2"), email: "jerry@the-smiths.com", roles: ["viewer"] };
const smiths = [rick, morty, summer, beth, jerry];
const alice: Person = { subject: "alice", email: "alice@example.com", roles: [] };
const bob: Person = { subject: "bob", email: "bob@example.com", roles: ["admin"] };

const role = (name: string) => ({ "claim/roles": name });
const method = (name: string) => ({ http_method: { is: name } });
/** One rule per entry of `oneOf`, each with all of `all`, because several lists in one rule would be alternatives. */
const allow = (all: readonly object[], oneOf: readonly object[]) =>
  oneOf.map((one) => ({ allow: { and: [...all, one] } }));
const anyUser = (name: string) => allow([{ authenticated_user: true }], [method(name)]);
const route = (host: string, path: string, ppl: readonly object[]) =>
  routeTo(1, {
    ...{ host, match: { kind: "prefix", value: path }, allowAnyAuthenticatedUser: false },
    policy: { ppl, location: { file: "cardea.yaml", line: 1, column: 1 } },
  });

const routes = [
  route("todo.localhost", "/users", anyUser("GET")),
  route("todo.localhost", "/todos", [...anyUser("GET"), ...allow([method("POST")], [role("admin"), role("editor")])]),
  ...smiths.map(({ email }) =>
    route("todo.localhost", `/owners/${email}/`, [
      ...allow([role("editor"), { email: { is: email } }], [method("PUT"), method("DELETE")]),
      ...allow([method("PUT")], [role("evil_genius")]),
      ...allow([method("DELETE")], [role("admin")]),
    ]),
  ),
  route("gateway.localhost", "/users/", anyUser("GET")),
  route("gateway.localhost", "/todos", [
    ...anyUser("GET"),
    ...allow([method("POST")], [role("admin"), role("editor")]),
    ...allow([method("PUT")], [role("evil_genius"), role("editor")]),
    ...allow([method("DELETE")], [role("admin"), role("editor")]),
  ]),
  route("records.localhost", "/records/archived/", [...anyUser("GET"), ...allow([method("PUT")], [role("admin")])]),
  route("records.localhost", "/records/", [...anyUser("GET"), ...allow([method("PUT")], [{ user: { is: "alice" } }])]),
  route("records.localhost", "/deletions/true/", allow([method("DELETE")], [{ user: { is: "alice" } }])),
];

let rig: Rig;
let server: DecisionServer;
before(async () => {
  rig = await startRig(routes);
  const people = [...smiths, alice, bob];
  await rig.apply(...people.flatMap((person, i) => signedIn(person, i + 1)));
  server = await startDecisionServer({
    listen: { ...(decisionApi ?? assert.fail()), address: { host: "127.0.0.1", port: 0 } },
    deps: () => rig.deps,
    registry: new Registry(),
    requestId: randomUUID,
  });
});
after(async () => {
  await server.close();
  await rig.close();
});

function signedIn({ subject, email, roles }: Person, n: number): CardeaEvent[] {
  const userId = userIdOf(issuer, subject);
  const profile = encode({ issuer, subject, email, emailVerified: true, name: email, claims: { roles } });
  const times = { issuedAt: 0 as UnixMs, expiresAt: (Date.now() + 3_600_000) as UnixMs };
  return [
    { type: "UserUpserted", userId, profile },
    { type: "SessionCreated", sessionId: sessionId(n), userId, idpId: "idp", ...times, profile },
  ];
}

async function post(
  path: string,
  body: unknown,
): Promise<{ status: number; json: () => ReturnType<typeof JSON.parse> }> {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const options = { method: "POST", path: `/access/v1/${path}`, headers, body: JSON.stringify(body) };
  const { status, body: text } = await sendRequest(server.address?.port ?? 0, options);
  return { status, json: () => JSON.parse(text) };
}
async function decide(question: unknown): Promise<boolean> {
  const { status, json } = await post("evaluation", question);
  assert.equal(status, 200);
  return json().decision;
}

describe("the Todo application", () => {
  const todo = (n: number, owner: Person) => ({
    type: "todo",
    id: `7240d0db-8ff0-41ec-98b2-34a096273b9${n}`,
    properties: { ownerID: owner.email },
  });
  const question = (person: Person, action: string, resource: unknown) => ({
    subject: { type: "user", id: person.subject },
    action: { name: action },
    resource,
    context: {},
  });
  /** Expected decisions per person, about a todo of Rick's and one of their own. */
  const answers: readonly (readonly [Person, ...boolean[]])[] = [
    // read user (two), read todos, create, update Rick's, update own, delete Rick's, delete own
    [rick, true, true, true, true, true, true, true, true],
    [morty, true, true, true, true, false, true, false, true],
    [summer, true, true, true, true, false, true, false, true],
    [beth, true, true, true, false, false, false, false, false],
    [jerry, true, true, true, false, false, false, false, false],
  ];
  for (const [i, [person, ...expected]] of answers.entries()) {
    test(`${person.email}: the 8 published evaluations`, async () => {
      const own = person === rick ? todo(1, morty) : todo(i, person);
      const requests = [
        question(person, "can_read_user", { type: "user", id: beth.email }),
        question(person, "can_read_user", { type: "user", id: person.email }),
        question(person, "can_read_todos", { type: "todo", id: "todo-1" }),
        question(person, "can_create_todo", { type: "todo", id: "todo-1" }),
        question(person, "can_update_todo", todo(2, rick)),
        question(person, "can_update_todo", own),
        question(person, "can_delete_todo", todo(2, rick)),
        question(person, "can_delete_todo", own),
      ];
      const decisions: boolean[] = [];
      for (const one of requests) decisions.push(await decide(one));
      assert.deepEqual(decisions, expected);
    });
  }
  test("the 3 published batches", async () => {
    const batch = async (person: Person, ...owners: Person[]) => {
      const { subject, action, context } = question(person, "can_update_todo", null);
      const evaluations = owners.map((owner, n) => ({ resource: todo(n, owner) }));
      const { json } = await post("evaluations", { subject, action, context, evaluations });
      return json().evaluations.map(({ decision }: { decision: boolean }) => decision);
    };
    assert.deepEqual(await batch(rick, rick, jerry), [true, true]);
    assert.deepEqual(await batch(morty, rick, morty), [false, true]);
    assert.deepEqual(await batch(jerry, rick, jerry), [false, false]);
  });
  test("a request with missing or surplus parts for its template is denied", async () => {
    const own = todo(1, morty);
    for (const resource of [
      { ...own, properties: {} },
      { ...own, properties: { ownerID: "" } },
      { ...own, properties: { ownerID: { email: morty.email } } },
      { ...own, properties: { ownerID: `${morty.email}/todos/x/../..` } },
      { ...own, properties: { ownerID: ".." } },
      { ...own, id: "../../todos" },
      { ...own, type: "constructor" },
    ])
      assert.equal(await decide(question(morty, "can_update_todo", resource)), false, JSON.stringify(resource));
    for (const action of ["can_fly", "constructor", "PUT"])
      assert.equal(await decide(question(morty, action, own)), false, action);
    assert.equal(await decide(question({ ...morty, subject: "nobody" }, "can_read_todos", own)), false);
  });
});

describe("the API gateway", () => {
  const requests = [
    ["GET", "/users/{userId}"],
    ["GET", "/todos"],
    ["POST", "/todos"],
    ["PUT", "/todos/{todoId}"],
    ["DELETE", "/todos/{todoId}"],
  ] as const;
  for (const person of smiths) {
    test(`${person.email}: the 5 published evaluations`, async () => {
      const decisions: boolean[] = [];
      for (const [name, id] of requests) {
        const subject = { type: "identity", id: person.subject };
        decisions.push(await decide({ subject, action: { name }, resource: { type: "route", id } }));
      }
      const writes = !person.roles.includes("viewer");
      assert.deepEqual(decisions, [true, true, writes, writes, writes]);
    });
  }
});

describe("the certification scenario", () => {
  const user = ({ subject }: Person, properties?: object) => ({
    type: "user",
    id: subject,
    ...(properties && { properties }),
  });
  const record = (n: number, status?: string) => ({
    ...{ type: "record", id: `record-${n}` },
    ...(status === undefined ? {} : { properties: { status } }),
  });
  const action = (name: string, properties?: object) => ({ action: { name, ...(properties && { properties }) } });
  const admin = { role: "admin" };

  test("the 8 decisions of the fixture, with and without a context, repeatedly", async () => {
    const cases = [
      [{ subject: user(alice), ...action("read"), resource: record(1) }, true],
      [{ subject: user(alice), ...action("write"), resource: record(1) }, true],
      [{ subject: user(bob), ...action("read"), resource: record(1) }, true],
      [{ subject: user(bob), ...action("write"), resource: record(1) }, false],
      [{ subject: user(alice), ...action("write"), resource: record(2, "archived") }, false],
      [{ subject: user(bob, admin), ...action("write"), resource: record(2, "archived") }, true],
      [{ subject: user(alice), ...action("delete", { soft: true }), resource: record(1) }, true],
      [{ subject: user(alice), ...action("delete", { soft: false }), resource: record(1) }, false],
    ] as const;
    const context = { time: "2025-06-27T18:03-07:00", ip: "192.168.1.1" };
    for (const [question, expected] of [...cases, ...cases])
      for (const requests of [question, { ...question, context }, { ...question, unknown: 1 }])
        assert.equal(await decide(requests), expected, JSON.stringify(requests));
    const claimed = { subject: user(alice, admin), ...action("write"), resource: record(2, "archived") };
    assert.equal(
      await decide(claimed),
      false,
      "an administrator is known from claims here, not from what the request says",
    );
  });

  test("batches: in order, each with the defaults that it does not replace, and with its own error", async () => {
    const run = async (body: object) =>
      (await post("evaluations", body)).json().evaluations.map((one: { decision: boolean }) => one.decision);
    const [read, write] = [action("read"), action("write")];
    assert.deepEqual(await run({ subject: user(bob), resource: record(1), evaluations: [read, write] }), [true, false]);
    const byStatus = [{ resource: record(1, "active") }, { resource: record(2, "archived") }];
    assert.deepEqual(await run({ subject: user(alice), ...read, evaluations: byStatus }), [true, true]);
    const writes = { subject: user(alice), ...write, resource: record(1) };
    assert.deepEqual(await run({ ...writes, evaluations: [{}, { resource: record(2, "archived") }] }), [true, false]);
    const bySubject = [{ subject: user(alice) }, { subject: user(bob, admin) }];
    assert.deepEqual(await run({ ...write, resource: record(2, "archived"), evaluations: bySubject }), [false, true]);
    assert.deepEqual(await run({ subject: user(alice), evaluations: [{ ...read, resource: record(1) }, read] }), [
      true,
      false,
    ]);
    for (const rest of [{}, { evaluations: [] }])
      assert.equal((await post("evaluations", { ...writes, ...rest })).json().decision, true);
  });

  test("searches for people and actions; a search for records is 501, because they are not known here", async () => {
    const ids = async (body: object) =>
      (await post("search/subject", body)).json().results.map(({ id }: { id: string }) => id);
    const readers = await ids({ subject: { type: "user" }, ...action("read"), resource: record(1) });
    assert.ok(readers.includes("alice") && readers.includes("bob"));
    assert.deepEqual(
      await ids({ subject: { type: "user", id: "alice" }, ...action("read"), resource: record(1) }),
      readers,
    );
    const writers = await ids({ subject: { type: "user" }, ...action("write"), resource: record(2, "archived") });
    assert.deepEqual(writers.sort(), ["bob", rick.subject].sort(), "the people with that role");
    const names = async (body: object) =>
      (await post("search/action", body)).json().results.map(({ name }: { name: string }) => name);
    assert.deepEqual(await names({ subject: user(alice), resource: record(1) }), ["read", "write"]);
    assert.deepEqual(await names({ subject: user(bob, admin), resource: record(2, "archived") }), ["read", "write"]);
    assert.deepEqual(await names({ subject: { type: "user", id: "nobody" }, resource: record(1) }), []);
    const records = await post("search/resource", {
      subject: user(alice),
      ...action("read"),
      resource: { type: "record" },
    });
    assert.equal(records.status, 501);
  });
});
