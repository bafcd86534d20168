/**
 * SCIM compliance: what RFC 7643 and RFC 7644 require of a server (MUST and SHALL), by section, against a running
 * installation; and hostile requests.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { GroupId } from "../../../src/events/index.ts";
import { openSqliteLog } from "../../../src/replication/log/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { LogWriter } from "../../support/log-writer.ts";
import { type Installation, shared, startInstallation } from "../identity/installation.ts";
import { operate, patchOf, raiseLevel, requester, type ScimClient, type ScimReply, scimClient } from "./scim-client.ts";

let okta: ScimClient;
const installation = shared(async (t) => {
  const folder = new TemporaryFolder("scim-compliance");
  t.after(() => folder[Symbol.dispose]());
  const path = join(folder.path, "log.sqlite");
  await beginAtFirstLevel(path);
  const at = await startInstallation(t, ({ url, upstream }) => ({
    databroker_storage_type: "file",
    databroker_storage_connection_string: path,
    scim_clients: { okta: { match: "subject" }, email: { match: "email" } },
    routes: [{ from: url("app", ""), to: upstream, allow_any_authenticated_user: true }],
  }));
  const early = await scimClient(at, "okta");
  const refused = await early.request("GET", "/Users");
  assert.equal(refused.status, 503, "below level 4 nothing is served");
  assert.match(String(refused.body["detail"]), /cluster finalize/);
  await raiseLevel(at);
  okta = await scimClient(at, "okta");
  return at;
});

/** A log that an earlier version has begun. */
async function beginAtFirstLevel(path: string): Promise<void> {
  const log = await openSqliteLog({ path, cluster: "cardea" });
  const writer = await LogWriter.open(log);
  await writer.append([{ events: [{ type: "GroupUpserted", groupId: "first" as GroupId, name: "first" }] }]);
  await log.close();
}

const errorSchema = "urn:ietf:params:scim:api:messages:2.0:Error";
let made = 0;
async function createUser(more: object = {}): Promise<ScimReply> {
  made += 1;
  const answer = await okta.request("POST", "/Users", { userName: `user-${made}`, externalId: `x-${made}`, ...more });
  assert.equal(answer.status, 201, JSON.stringify(answer.body));
  return answer;
}
const idOf = ({ body }: ScimReply): string => String(body["id"]);

function assertRefused(answer: ScimReply, status: number, scimType?: string): void {
  assert.equal(answer.status, status, JSON.stringify(answer.body));
  assert.deepEqual(answer.body["schemas"], [errorSchema]);
  assert.equal(answer.body["status"], String(status));
  if (scimType !== undefined) assert.equal(answer.body["scimType"], scimType);
}

describe("RFC 7644", () => {
  test("§3.1: answers are application/scim+json, and JSON in either type is accepted", async () => {
    installation();
    const answer = await okta.request("GET", "/ServiceProviderConfig");
    assert.match(answer.header("content-type") ?? "", /^application\/scim\+json/);
    const body = JSON.stringify({ userName: "plain-json", externalId: "plain-json" });
    assert.equal((await okta.request("POST", "/Users", body, { "content-type": "application/json" })).status, 201);
    assertRefused(await okta.request("POST", "/Users", body, { "content-type": "text/plain" }), 415);
  });

  test("§3.3: creation is 201 with Location, meta and ETag; a duplicate is 409", async () => {
    const answer = await createUser();
    const meta = answer.body["meta"] as Record<string, string>;
    assert.equal(answer.header("location"), meta["location"]);
    assert.equal(answer.header("etag"), meta["version"]);
    assert.equal(meta["resourceType"], "User");
    assert.ok(meta["created"] && meta["lastModified"]);
    const again = { userName: answer.body["userName"], externalId: "other" };
    assertRefused(await okta.request("POST", "/Users", again), 409, "uniqueness");
  });

  test("§3.3: read-only attributes of the request are ignored", async () => {
    const answer = await createUser({ id: "mine", meta: { created: "never" }, groups: [{ value: "x" }] });
    assert.notEqual(answer.body["id"], "mine");
    assert.equal(answer.body["groups"], undefined);
  });

  test("§3.4.1: a resource is read by its id", async () => {
    const created = await createUser();
    const answer = await okta.request("GET", `/Users/${idOf(created)}`);
    assert.deepEqual(answer.body, created.body);
    assertRefused(await okta.request("GET", "/Users/no-such"), 404);
  });

  test("§3.4.2.2: filters apply, an unknown operator is invalidFilter, and no result is an empty list", async () => {
    const created = await createUser({ title: "Zebra Keeper" });
    const found = await okta.request("GET", '/Users?filter=title co "zebra" and userName pr');
    assert.equal(found.body["totalResults"], 1);
    assert.equal((found.body["Resources"] as { id: string }[])[0]?.id, idOf(created));
    assertRefused(await okta.request("GET", '/Users?filter=title xx "zebra"'), 400, "invalidFilter");
    const none = await okta.request("GET", '/Users?filter=title eq "no one"');
    assert.deepEqual([none.status, none.body["totalResults"], none.body["Resources"]], [200, 0, []]);
  });

  test("§3.4.2.3: sorting by an attribute, in both orders", async () => {
    for (const nickName of ["sort-b", "sort-C", "sort-a"]) await createUser({ nickName });
    const names = async (order: string): Promise<readonly string[]> => {
      const query = `/Users?filter=nickName sw "sort-"&sortBy=nickName&sortOrder=${order}`;
      const { body } = await okta.request("GET", query);
      return (body["Resources"] as { nickName: string }[]).map(({ nickName }) => nickName);
    };
    assert.deepEqual(await names("ascending"), ["sort-a", "sort-b", "sort-C"]);
    assert.deepEqual(await names("descending"), ["sort-C", "sort-b", "sort-a"]);
  });

  test("§3.4.2.4: pages are stable; startIndex below 1 is 1; a negative count is 0", async () => {
    for (let n = 0; n < 5; n++) await createUser();
    const whole = await okta.request("GET", "/Users?count=200");
    const all = (whole.body["Resources"] as { id: string }[]).map(({ id }) => id);
    const paged: string[] = [];
    for (let at = 1; at <= all.length; at += 2) {
      const page = await okta.request("GET", `/Users?startIndex=${at}&count=2`);
      assert.equal(page.body["totalResults"], all.length);
      paged.push(...(page.body["Resources"] as { id: string }[]).map(({ id }) => id));
    }
    assert.deepEqual(paged, all);
    const odd = await okta.request("GET", "/Users?startIndex=-3&count=-1");
    assert.deepEqual([odd.body["startIndex"], odd.body["itemsPerPage"]], [1, 0]);
    assert.equal(odd.body["totalResults"], all.length);
  });

  test("§3.4.2.5, §3.9: attributes and excludedAttributes, with what is always returned", async () => {
    const id = idOf(await createUser({ displayName: "D", name: { givenName: "G", familyName: "F" } }));
    const only = await okta.request("GET", `/Users/${id}?attributes=name.givenName`);
    assert.deepEqual(Object.keys(only.body).sort(), ["id", "name", "schemas"]);
    assert.deepEqual(only.body["name"], { givenName: "G" });
    const without = await okta.request("GET", `/Users/${id}?excludedAttributes=displayName,id`);
    assert.equal(without.body["displayName"], undefined);
    assert.equal(without.body["id"], id);
  });

  test("§3.4.3: a search by POST", async () => {
    const schemas = ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"];
    const search = { schemas, filter: 'userName eq "user-1"', attributes: ["userName"], startIndex: 1, count: 5 };
    const answer = await okta.request("POST", "/Users/.search", search);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    assert.equal(answer.body["totalResults"], 1);
  });

  test("§3.4.2.1, §3.4.3: a query of the root finds users and groups, by GET and by POST", async () => {
    const user = await createUser({ displayName: "root-query" });
    const group = await okta.request("POST", "/Groups", {
      displayName: "root-query",
      members: [{ value: idOf(user) }],
    });
    assert.equal(group.status, 201, JSON.stringify(group.body));
    const filter = 'displayName eq "root-query"';
    const schemas = ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"];
    const kinds = ({ body }: ScimReply): readonly unknown[] =>
      (body["Resources"] as { meta: { resourceType: string } }[]).map(({ meta }) => meta.resourceType);
    const byGet = await okta.request("GET", `/?filter=${filter}`);
    assert.deepEqual([byGet.body["totalResults"], kinds(byGet)], [2, ["User", "Group"]]);
    const onlyGroups = `${filter} and meta.resourceType eq "Group"`;
    const byPost = await okta.request("POST", "/.search", { schemas, filter: onlyGroups });
    assert.deepEqual([byPost.body["totalResults"], kinds(byPost)], [1, ["Group"]]);
    const paged = await okta.request("GET", `/?filter=${filter}&startIndex=2&count=1`);
    assert.deepEqual([paged.body["totalResults"], kinds(paged)], [2, ["Group"]]);
    assert.deepEqual((await okta.request("GET", `?filter=${filter}`)).body, byGet.body, "without the slash too");
    const narrow = await scimClient(installation(), "okta", { scopes: ["users:read"] });
    assertRefused(await narrow.request("GET", `/?filter=${filter}`), 403);
    assertRefused(await okta.request("POST", "/", { schemas }), 405);
    assertRefused(await okta.request("GET", "/.search"), 405);
  });

  test("§3.5.2.2: a removed `active` is unassigned and denies; no other PATCH gives it back", async () => {
    const id = idOf(await createUser({ active: false }));
    const removed = await okta.request("PATCH", `/Users/${id}`, patchOf({ op: "remove", path: "active" }));
    assert.deepEqual([removed.status, removed.body["active"]], [200, undefined]);
    const changed = await okta.request("PATCH", `/Users/${id}`, patchOf({ op: "add", path: "title", value: "x" }));
    assert.deepEqual([changed.status, changed.body["active"], changed.body["title"]], [200, undefined, "x"]);
    const nulled = patchOf({ op: "replace", value: { active: null } });
    assert.equal((await okta.request("PATCH", `/Users/${id}`, nulled)).body["active"], undefined);
  });

  test("§3.5.1: PUT replaces; what is left out goes; the id stays", async () => {
    const created = await createUser({ displayName: "before" });
    const id = idOf(created);
    const body = { id: "other", userName: created.body["userName"], externalId: created.body["externalId"] };
    const answer = await okta.request("PUT", `/Users/${id}`, body);
    assert.deepEqual([answer.status, answer.body["id"], answer.body["displayName"]], [200, id, undefined]);
    assertRefused(await okta.request("PUT", `/Users/${id}`, { externalId: "x" }), 400, "invalidValue");
  });

  test("§3.5.2: a PATCH is applied whole or not at all", async () => {
    const id = idOf(await createUser({ displayName: "whole" }));
    const operations = [
      { op: "replace", path: "displayName", value: "half" },
      { op: "replace", path: 'emails[value co "z"]', value: { value: "e" } },
    ];
    assertRefused(await okta.request("PATCH", `/Users/${id}`, patchOf(...operations)), 400, "noTarget");
    assert.equal((await okta.request("GET", `/Users/${id}`)).body["displayName"], "whole");
  });

  test("§3.6: a deleted resource is 404 for everything, and in no list", async () => {
    const created = await createUser();
    const id = idOf(created);
    assert.equal((await okta.request("DELETE", `/Users/${id}`)).status, 204);
    for (const method of ["GET", "DELETE"]) assertRefused(await okta.request(method, `/Users/${id}`), 404);
    assertRefused(await okta.request("PATCH", `/Users/${id}`, patchOf({ op: "add", path: "title", value: "x" })), 404);
    const listed = await okta.request("GET", `/Users?filter=userName eq "${String(created.body["userName"])}"`);
    assert.equal(listed.body["totalResults"], 0);
    const again = { userName: created.body["userName"], externalId: created.body["externalId"] };
    const recreated = await okta.request("POST", "/Users", again);
    assert.notEqual(recreated.body["id"], id, "an id is never used again");
  });

  test("§3.7: bulk resolves bulkIds, reports each operation, and stops at failOnErrors", async () => {
    const schemas = ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"];
    const Operations = [
      { method: "POST", path: "/Users", bulkId: "a", data: { userName: "bulk-a", externalId: "bulk-a" } },
      { method: "POST", path: "/Users", bulkId: "b", data: { userName: "bulk-b", externalId: "bulk-b" } },
      {
        method: "POST",
        path: "/Groups",
        bulkId: "g",
        data: { displayName: "bulk", members: [{ value: "bulkId:a" }, { value: "bulkId:b" }] },
      },
      {
        method: "PATCH",
        path: "/Groups/bulkId:g",
        data: patchOf({ op: "remove", path: 'members[value eq "bulkId:b"]' }),
      },
      { method: "POST", path: "/Users", bulkId: "c", data: { userName: "bulk-a", externalId: "bulk-c" } },
      { method: "DELETE", path: "/Users/bulkId:never" },
    ];
    const answer = await okta.request("POST", "/Bulk", { schemas, Operations, failOnErrors: 1 });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    const done = answer.body["Operations"] as Record<string, string>[];
    assert.deepEqual(
      done.map(({ status }) => status),
      ["201", "201", "201", "204", "409"],
    );
    assert.ok(Number(answer.header("cardea-position")) > 0);
    const group = await okta.request("GET", '/Groups?filter=displayName eq "bulk"');
    const [{ members = [] } = {}] = group.body["Resources"] as { members?: readonly object[] }[];
    assert.equal(members.length, 1);
    const many = Array.from({ length: 1_001 }, () => ({ method: "DELETE", path: "/Users/x" }));
    assertRefused(await okta.request("POST", "/Bulk", { schemas, Operations: many }), 413);
  });

  test("§3.12, §3.13: errors have the form of the RFC, and other versions and endpoints are 404", async () => {
    assertRefused(await okta.request("POST", "/Users", "{", {}), 400, "invalidSyntax");
    assertRefused(await okta.request("GET", "/Widgets"), 404);
    assertRefused(await okta.request("DELETE", "/Users"), 405);
    assertRefused(await okta.request("GET", "/Me"), 501);
  });

  test("§3.14: ETags: If-Match, If-None-Match, and no new version without a change", async () => {
    const created = await createUser();
    const [id, etag] = [idOf(created), created.header("etag") ?? ""];
    const title = (value: string) => patchOf({ op: "replace", path: "title", value });
    const changed = await okta.request("PATCH", `/Users/${id}`, title("one"), { "if-match": etag });
    assert.equal(changed.status, 200);
    assert.notEqual(changed.header("etag"), etag);
    assertRefused(await okta.request("PATCH", `/Users/${id}`, title("two"), { "if-match": etag }), 412);
    assertRefused(await okta.request("DELETE", `/Users/${id}`, undefined, { "if-match": etag }), 412);
    const same = await okta.request("PATCH", `/Users/${id}`, title("one"));
    assert.equal(same.header("etag"), changed.header("etag"));
    const now = changed.header("etag") ?? "";
    assert.equal((await okta.request("GET", `/Users/${id}`, undefined, { "if-none-match": now })).status, 304);
  });

  test("§4: discovery, which refuses filters", async () => {
    const config = await okta.request("GET", "/ServiceProviderConfig");
    for (const name of ["patch", "bulk", "filter", "sort", "etag"])
      assert.equal((config.body[name] as { supported: boolean }).supported, true, name);
    assert.equal((await okta.request("GET", "/ResourceTypes")).body["totalResults"], 2);
    assert.equal((await okta.request("GET", "/ResourceTypes/User")).body["endpoint"], "/Users");
    const schema = "urn:ietf:params:scim:schemas:core:2.0:User";
    assert.equal((await okta.request("GET", `/Schemas/${schema}`)).body["id"], schema);
    assertRefused(await okta.request("GET", '/Schemas?filter=id eq "x"'), 403);
    const requiredOf = async (client: ScimClient): Promise<boolean | undefined> => {
      const { body } = await client.request("GET", "/Schemas/urn:ietf:params:scim:schemas:core:2.0:User");
      const attributes = body["attributes"] as { name: string; required: boolean }[];
      return attributes.find(({ name }) => name === "externalId")?.required;
    };
    assert.equal(await requiredOf(okta), true, "people of this client are matched by it");
    assert.equal(await requiredOf(await scimClient(installation(), "email")), false);
  });
});

describe("RFC 7643", () => {
  test("§2.1: names of attributes ignore case", async () => {
    const answer = await okta.request("POST", "/Users", { USERNAME: "case", EXTERNALID: "case", DisplayNAME: "C" });
    assert.deepEqual([answer.body["userName"], answer.body["displayName"]], ["case", "C"]);
  });

  test("§3.1: externalId is compared exactly, userName is not", async () => {
    await createUser({ userName: "MixedCase", externalId: "MixedCase" });
    const total = async (filter: string) => (await okta.request("GET", `/Users?filter=${filter}`)).body["totalResults"];
    assert.deepEqual(
      [
        await total('userName eq "mixedcase"'),
        await total('externalId eq "mixedcase"'),
        await total('externalId eq "MixedCase"'),
      ],
      [1, 0, 1],
    );
  });

  test("§4.1.2: groups of a user are read-only and shown", async () => {
    const id = idOf(await createUser());
    const group = await okta.request("POST", "/Groups", { displayName: "shown", members: [{ value: id }] });
    const { groups } = (await okta.request("GET", `/Users/${id}`)).body as { groups: readonly { value: string }[] };
    assert.equal(groups[0]?.value, group.body["id"]);
    assertRefused(
      await okta.request("PATCH", `/Users/${id}`, patchOf({ op: "remove", path: "groups" })),
      400,
      "mutability",
    );
  });
});

describe("hostile requests", () => {
  const at = (): Installation => installation();

  test("without a valid token nothing is answered, and the answer does not say why", async () => {
    const [id, secret] = [okta.tokenId, okta.token.slice(-43)];
    const wrong = `cardea_scim_${id}_${secret.slice(0, -2)}${secret.endsWith("AA") ? "BB" : "AA"}`;
    const unknown = `cardea_scim_${"0".repeat(12)}_${secret}`;
    const details = new Set<unknown>();
    for (const token of [wrong, unknown]) {
      const answer = await requester(at(), token)("GET", "/Users");
      assertRefused(answer, 401);
      details.add(answer.body["detail"]);
    }
    assert.equal(details.size, 1);
    for (const token of ["", "x", "a b", `cardea_scim_${id}_`, "x".repeat(5_000)])
      assertRefused(await requester(at(), token)("GET", "/Users"), 401);
    const answer = await okta.request("GET", "/Users", undefined, { authorization: `Basic ${okta.token}` });
    assertRefused(answer, 401);
    assert.match(answer.header("www-authenticate") ?? "", /^Bearer/);
  });

  test("a revoked, an expired and a limited token, and one of a client that is not configured", async () => {
    const limited = await scimClient(at(), "okta", { scopes: ["users:read"] });
    assert.equal((await limited.request("GET", "/Users")).status, 200);
    assertRefused(await limited.request("POST", "/Users", { userName: "x", externalId: "x" }), 403);
    assertRefused(await limited.request("GET", "/Groups"), 403);
    assert.equal((await operate(at(), `/scim/tokens/${limited.tokenId}/revoke`, { wait: "all" })).status, 200);
    assertRefused(await limited.request("GET", "/Users"), 401);
    const brief = await scimClient(at(), "okta", { expiresAt: new Date(Date.now() + 1_500).toISOString() });
    await new Promise((resolve) => setTimeout(resolve, 1_600));
    assertRefused(await brief.request("GET", "/Users"), 401);
    assertRefused(await (await scimClient(at(), "unnamed")).request("GET", "/Users"), 403);
    const listed = JSON.stringify((await operate(at(), "/scim/tokens")).body);
    assert.ok(listed.includes(limited.tokenId) && !listed.includes(limited.token.slice(-43)));
  });

  test("size is checked before the token, and the token before the content", async () => {
    const large = JSON.stringify({ userName: "x".repeat(2 * 1024 * 1024 + 1) });
    assertRefused(await requester(at(), "none")("POST", "/Users", large), 413);
    assertRefused(await requester(at(), "none")("POST", "/Users", "{"), 401);
    assertRefused(
      await okta.request("POST", "/Users", { userName: "x", externalId: "x", title: "x".repeat(30_000) }),
      413,
    );
  });

  test("malformed content is refused with a clear error", async () => {
    for (const body of [
      "[]",
      '"text"',
      "null",
      '{"userName": 7}',
      '{"userName": "x"}',
      '{"__proto__": {"a": 1}, "userName": "x"}',
    ]) {
      const answer = await okta.request("POST", "/Users", body);
      assert.equal(answer.status, 400, `${body}: ${JSON.stringify(answer.body)}`);
    }
    for (const body of [
      { displayName: "bad", members: [{ value: "no-such-user" }] },
      { displayName: "bad", members: [{ value: "x", type: "Group" }] },
      { displayName: "bad", members: [{}] },
      { displayName: "a\nb" },
      { displayName: "x".repeat(300) },
      { members: [] },
    ])
      assertRefused(await okta.request("POST", "/Groups", body), 400, "invalidValue");
    for (const path of ["/Users/..%2f..%2fadmin", "/Users/%ff", "/Users/a/b"]) {
      const { status } = await okta.request("GET", path);
      assert.ok(status === 404 || status === 400, `${path}: ${status}`); // the listener refuses some by itself
    }
    for (const query of ["count=x", "startIndex=1e3", "sortOrder=up", "attributes=a&excludedAttributes=b"])
      assertRefused(await okta.request("GET", `/Users?${query}`), 400, "invalidValue");
  });
});
