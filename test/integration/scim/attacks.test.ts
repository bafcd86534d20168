/**
 * Attacks on the SCIM server by holders of tokens and by strangers: bodies that are large, wide or deep, filters that
 * cost much, bulk requests that go in circles, resources of another client, and tokens that are revoked meanwhile.
 *
 * The process serves decisions too, so each attack is measured by the longest pause of its event loop.
 */
import assert from "node:assert/strict";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { test } from "node:test";
import { shared, startInstallation } from "../identity/installation.ts";
import { operate, patchOf, raiseLevel, type ScimClient, type ScimReply, scimClient } from "./scim-client.ts";

let okta: ScimClient;
const installation = shared(async (t) => {
  const at = await startInstallation(t, ({ url, upstream }) => ({
    scim_clients: { okta: { match: "subject" }, other: { match: "subject" } },
    routes: [{ from: url("app", ""), to: upstream, allow_any_authenticated_user: true }],
  }));
  await raiseLevel(at);
  okta = await scimClient(at, "okta");
  return at;
});

const bulkSchema = "urn:ietf:params:scim:api:messages:2.0:BulkRequest";
const bulkOf = (...Operations: readonly object[]): object => ({ schemas: [bulkSchema], Operations });
/** Of processor time, which other processes on the machine do not lengthen. */
const cpuMsMax = 400;

let made = 0;
async function createUser(client = okta): Promise<string> {
  made += 1;
  const answer = await client.request("POST", "/Users", { userName: `u-${made}`, externalId: `u-${made}` });
  assert.equal(answer.status, 201, JSON.stringify(answer.body));
  return String(answer.body["id"]);
}

/** The answer, and the longest piece of work of this process meanwhile. */
async function measured(send: () => Promise<ScimReply>): Promise<ScimReply> {
  let before = process.threadCpuUsage();
  let longest = 0;
  const timer = setInterval(() => {
    const { user, system } = process.threadCpuUsage(before);
    before = process.threadCpuUsage();
    longest = Math.max(longest, (user + system) / 1_000);
  }, 1);
  const pauses = monitorEventLoopDelay({ resolution: 1 });
  pauses.enable();
  const answer = await send().finally(() => {
    clearInterval(timer);
    pauses.disable();
  });
  assert.ok(longest < cpuMsMax, `one piece of work took ${longest} ms of processor time; pause ${pauses.max / 1e6} ms`);
  return answer;
}

function assertRefused(answer: ScimReply, status: number, scimType?: string): void {
  assert.equal(answer.status, status, JSON.stringify(answer.body).slice(0, 500));
  if (scimType !== undefined) assert.equal(answer.body["scimType"], scimType);
}

test("a body of 100 MB is refused before it has arrived, with and without its length", async () => {
  const at = installation();
  for (const headers of [{ "content-length": String(100 * 1024 * 1024) }, { "transfer-encoding": "chunked" }]) {
    const outgoing = httpRequest(
      {
        ...{ host: "127.0.0.1", port: at.port, method: "POST", path: "/scim/v2/Users" },
        headers: {
          host: new URL(at.url("authenticate")).host,
          authorization: `Bearer ${okta.token}`,
          "content-type": "application/scim+json",
          ...headers,
        },
      },
      undefined,
    );
    outgoing.on("error", () => {}); // the server closes the connection
    const answered = new Promise<IncomingMessage | undefined>((resolve) => {
      outgoing.once("response", resolve);
      outgoing.once("close", () => resolve(undefined));
    });
    let sent = 0;
    const chunk = Buffer.alloc(64 * 1024, " ");
    const send = async (): Promise<void> => {
      while (sent < 100 * 1024 * 1024 && !outgoing.destroyed) {
        sent += chunk.length;
        if (!outgoing.write(chunk))
          await new Promise((resolve) => {
            outgoing.once("drain", resolve);
            outgoing.once("close", resolve);
            outgoing.once("response", resolve);
          });
        if (isAnswered) return;
      }
    };
    let isAnswered = false;
    void answered.then(() => {
      isAnswered = true;
    });
    void send();
    const response = await answered;
    assert.equal(response?.statusCode, 413);
    assert.ok(sent < 32 * 1024 * 1024, `${sent} bytes were accepted`);
    outgoing.destroy();
  }
});

test("a million members, or a list of a million values, is refused without a long piece of work", async () => {
  installation();
  const id = await createUser();
  const ones = "1,".repeat(1_000_000).slice(0, -1);
  const group = await okta.request("POST", "/Groups", { displayName: "wide" });
  const path = `/Groups/${String(group.body["id"])}`;
  const bodies: readonly (readonly [method: string, path: string, body: string])[] = [
    ["POST", "/Groups", `{"displayName":"w","members":[${ones}]}`],
    ["PUT", path, `{"displayName":"wide","members":[${ones}]}`],
    ["PATCH", path, JSON.stringify(patchOf({ op: "add", path: "members", value: [1] })).replace("[1]", `[${ones}]`)],
    ["POST", "/Users", `{"userName":"w","externalId":"w","emails":[${ones}]}`],
    [
      "PATCH",
      `/Users/${id}`,
      JSON.stringify(patchOf({ op: "add", path: "roles", value: [1] })).replace("[1]", `[${ones}]`),
    ],
    ["POST", "/Bulk", `{"schemas":["${bulkSchema}"],"Operations":[${ones}]}`],
  ];
  for (const [method, at, body] of bodies) {
    const answer = await measured(() => okta.request(method, at, body));
    assertRefused(answer, 413);
  }
  const many = Array.from({ length: 20_001 }, () => ({ value: id }));
  assertRefused(
    await measured(() => okta.request("PUT", path, { displayName: "wide", members: many })),
    400,
    "tooMany",
  );
});

test("depth is refused before anything walks the body", async () => {
  installation();
  const id = await createUser();
  const deep = `${"[".repeat(900_000)}1${"]".repeat(900_000)}`;
  for (const [method, path, body] of [
    ["POST", "/Users", `{"userName":"d","externalId":"d","x":${deep}}`],
    ["PATCH", `/Users/${id}`, JSON.stringify(patchOf({ op: "add", path: "x", value: [1] })).replace("[1]", deep)],
    [
      "POST",
      "/Bulk",
      JSON.stringify(bulkOf({ method: "POST", path: "/Users", bulkId: "a", data: [1] })).replace("[1]", deep),
    ],
    ["POST", "/Users/.search", deep],
  ] as const) {
    const answer = await measured(() => okta.request(method, path, body));
    assertRefused(answer, 400, "invalidSyntax");
  }
});

test("filters that are deep, wide or made to backtrack are refused or answered at once", async () => {
  installation();
  await createUser();
  const refused = [
    `${"(".repeat(900)}title pr${")".repeat(900)}`,
    `${"not (".repeat(300)}title pr${")".repeat(300)}`,
    Array.from({ length: 100 }, () => "title pr").join(" or "),
    `title eq "${"\\".repeat(1_900)}`,
    `title eq "${"a\\\\".repeat(600)}`,
    `title${" ".repeat(1_900)}`,
    `emails[${"emails[".repeat(200)}value pr${"]".repeat(201)}`,
    "x".repeat(3_000),
  ];
  const search = (filter: string): Promise<ScimReply> =>
    okta.request("POST", "/Users/.search", {
      schemas: ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
      filter,
    });
  for (const filter of refused) assertRefused(await measured(() => search(filter)), 400, "invalidFilter");
  const costly = `title co "${"a".repeat(900)}" or title ew "${"a".repeat(900)}b"`;
  assert.equal((await measured(() => search(costly))).status, 200);
});

test("a PATCH whose operations would be compared with each other without end is refused", async () => {
  installation();
  const id = await createUser();
  const add = (n: number): object => ({
    op: "add",
    path: "roles",
    value: Array.from({ length: 190 }, (_, at) => ({ value: `${n} ${at}`, display: "x".repeat(5) })),
  });
  const wide = patchOf(...Array.from({ length: 100 }, (_, n) => add(n)));
  assertRefused(await measured(() => okta.request("PATCH", `/Users/${id}`, wide)), 400, "tooMany");
  const filter = Array.from({ length: 60 }, (_, n) => `value eq "${n}"`).join(" or ");
  const filtered = patchOf(...Array.from({ length: 500 }, () => ({ op: "remove", path: `roles[${filter}]` })));
  assertRefused(await measured(() => okta.request("PATCH", `/Users/${id}`, filtered)), 400, "tooMany");
  const group = await okta.request("POST", "/Groups", { displayName: "filters", members: [{ value: id }] });
  const starts = patchOf(...Array.from({ length: 500 }, () => ({ op: "remove", path: 'members[value sw "x"]' })));
  const path = `/Groups/${String(group.body["id"])}`;
  assertRefused(await measured(() => okta.request("PATCH", path, starts)), 400, "tooMany");
});

test("10,000 operations of a bulk request are refused; those that wait for each other get 409", async () => {
  installation();
  const operation = (n: number): object => ({
    ...{ method: "POST", path: "/Users", bulkId: `b${n}` },
    data: { userName: `bulk-${n}`, externalId: `bulk-${n}` },
  });
  const many = bulkOf(...Array.from({ length: 10_000 }, (_, n) => operation(n)));
  assertRefused(await measured(() => okta.request("POST", "/Bulk", many)), 413, "tooMany");
  const manager = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
  const managed = (own: string, by: string): object => ({
    ...{ method: "POST", path: "/Users", bulkId: own },
    data: { userName: `circle-${own}`, externalId: `circle-${own}`, [manager]: { manager: { value: `bulkId:${by}` } } },
  });
  const statuses = async (...operations: readonly object[]): Promise<readonly unknown[]> => {
    const { body } = await measured(() => okta.request("POST", "/Bulk", bulkOf(...operations)));
    return (body["Operations"] as { bulkId: string; status: string }[]).map(({ bulkId, status }) => [bulkId, status]);
  };
  assert.deepEqual(await statuses(managed("p", "q"), managed("q", "p"), managed("s", "s"), managed("n", "none")), [
    ["s", "409"],
    ["n", "409"],
    ["p", "409"],
    ["q", "409"],
  ]);
  const group = {
    ...{ method: "POST", path: "/Groups", bulkId: "g" },
    data: { displayName: "forward", members: [{ value: "bulkId:boss" }, { value: "bulkId:report" }] },
  };
  const boss = operation(1) as { data: object };
  assert.deepEqual(await statuses(group, managed("report", "boss"), { ...boss, bulkId: "boss" }), [
    ["boss", "201"],
    ["report", "201"],
    ["g", "201"],
  ]);
  const chain = Array.from({ length: 300 }, (_, n) => managed(`c${n}`, `c${n + 1}`));
  const all = await statuses(...chain, { ...(operation(2) as object), bulkId: "c300" });
  assert.ok(all.length === 301 && all.every((each) => (each as string[])[1] === "201"));
});

test("a client can neither read, change, name nor delete what another client has, in no way", async () => {
  const other = await scimClient(installation(), "other");
  const id = await createUser();
  const group = await okta.request("POST", "/Groups", { displayName: "of okta", members: [{ value: id }] });
  const groupId = String(group.body["id"]);
  const userPath = `/Users/${id}`;
  const groupPath = `/Groups/${groupId}`;
  for (const path of [userPath, groupPath]) {
    const patch = patchOf({ op: "replace", path: "displayName", value: "mine" });
    for (const [method, body] of [["GET"], ["PATCH", patch], ["DELETE"]] as const)
      assertRefused(await other.request(method, path, body), 404);
  }
  assertRefused(await other.request("PUT", userPath, { userName: "x", externalId: "x" }), 404);
  assertRefused(await other.request("PUT", groupPath, { displayName: "x" }), 404);
  assertRefused(await other.request("POST", "/Groups", { displayName: "theft", members: [{ value: id }] }), 400);
  const own = await other.request("POST", "/Groups", { displayName: "own" });
  const add = patchOf({ op: "add", path: "members", value: [{ value: id }] });
  assertRefused(await other.request("PATCH", `/Groups/${String(own.body["id"])}`, add), 400, "invalidValue");
  assertRefused(await other.request("POST", "/Groups", { displayName: "Of Okta".toLowerCase() }), 409, "uniqueness");
  for (const path of [
    `/Users?filter=id eq "${id}"`,
    `/Groups?filter=id eq "${groupId}"`,
    "/Users",
    `/?filter=id eq "${id}"`,
  ])
    assert.ok(!JSON.stringify((await other.request("GET", path)).body).includes(id));
  const bulk = await other.request(
    "POST",
    "/Bulk",
    bulkOf({ method: "DELETE", path: userPath }, { method: "DELETE", path: groupPath }),
  );
  assert.deepEqual(
    (bulk.body["Operations"] as { status: string }[]).map(({ status }) => status),
    ["404", "404"],
  );
  assert.equal((await okta.request("GET", userPath)).status, 200);
  assert.equal(((await okta.request("GET", groupPath)).body["members"] as object[]).length, 1);
});

test("a client with as many requests in progress as it may have does not keep another client out", async () => {
  const other = await scimClient(installation(), "other");
  const operations = Array.from({ length: 100 }, (_, n) => ({
    ...{ method: "POST", path: "/Groups", bulkId: `g${n}` },
    data: { displayName: `crowd-${n}` },
  }));
  const crowd = Array.from({ length: 60 }, () => okta.request("POST", "/Bulk", bulkOf(...operations)));
  const seen = await Promise.all(Array.from({ length: 10 }, () => other.request("GET", "/Users?count=1")));
  assert.ok(seen.every(({ status }) => status === 200));
  const answers = await Promise.all(crowd);
  const statuses = new Set(answers.map(({ status }) => status));
  assert.deepEqual([...statuses].sort(), [200, 503], "the rest is refused, with a time to try again");
  assert.equal(answers.find(({ status }) => status === 503)?.header("retry-after"), "1");
  assert.equal((await okta.request("GET", "/Users?count=1")).status, 200);
});

test("a revoked token is refused on a connection that stays open, and ends a bulk request in progress", async () => {
  const at = installation();
  const first = await scimClient(at, "okta");
  const second = await scimClient(at, "okta"); // as after `rotate --keep`: both count until the first is revoked
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const get = (token: string): Promise<number | undefined> =>
    new Promise((resolve, reject) => {
      const headers = { host: new URL(at.url("authenticate")).host, authorization: `Bearer ${token}` };
      httpRequest({ agent, host: "127.0.0.1", port: at.port, path: "/scim/v2/Users?count=1", headers }, (response) => {
        response.resume().once("end", () => resolve(response.statusCode));
      })
        .once("error", reject)
        .end();
    });
  assert.deepEqual([await get(first.token), await get(second.token)], [200, 200]);
  const operations = Array.from({ length: 1_000 }, (_, n) => ({
    ...{ method: "POST", path: "/Groups", bulkId: `g${n}` },
    data: { displayName: `revoked-${n}` },
  }));
  const running = first.request("POST", "/Bulk", bulkOf(...operations));
  assert.equal((await operate(at, `/scim/tokens/${first.tokenId}/revoke`, { wait: "all" })).status, 200);
  assert.deepEqual([await get(first.token), await get(second.token)], [401, 200]);
  agent.destroy();
  const { body } = await running;
  const statuses = (body["Operations"] as { status: string }[]).map(({ status }) => status);
  const refusedFrom = statuses.indexOf("401");
  assert.ok(refusedFrom > 0, "the request was in progress");
  assert.ok(statuses.slice(refusedFrom).every((status) => status === "401"));
  const left = await second.request("GET", '/Groups?filter=displayName sw "revoked-"&count=0');
  assert.equal(left.body["totalResults"], refusedFrom);
});
