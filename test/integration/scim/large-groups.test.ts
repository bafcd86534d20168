/**
 * Large groups, as Entra ID and Okta send them: additions and removals of 100 members per PATCH, all 1,100 members in
 * one PUT, and a replacement of all of them by PATCH. A person who signs in follows each step.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { echoOf, follow, startInstallation } from "../identity/installation.ts";
import { patchOf, raiseLevel, scimClient } from "./scim-client.ts";

const people = 1_100;
const perPatch = 100;

test("groups of 1,100 members arrive in the ways of Entra ID and of Okta", async (t) => {
  const at = await startInstallation(t, ({ url, upstream }) => ({
    scim_clients: { okta: { match: "subject" } },
    routes: [{ from: url("app", ""), to: upstream, allow_any_authenticated_user: true, pass_identity_headers: true }],
    jwt_claims_headers: ["groups"],
  }));
  await raiseLevel(at);
  const { request } = await scimClient(at, "okta");
  const ids: string[] = [];
  const schemas = ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"];
  for (let from = 0; from < people; from += perPatch) {
    const Operations = Array.from({ length: perPatch }, (_, n) => {
      const name = `user-${from + n}`;
      return { method: "POST", path: "/Users", bulkId: name, data: { userName: `${name}@x.com`, externalId: name } };
    });
    const { body } = await request("POST", "/Bulk", { schemas, Operations });
    for (const { location } of body["Operations"] as { location: string }[])
      ids.push(location.slice(location.lastIndexOf("/") + 1));
  }
  const visitor = at.visitor();
  at.provider.person.name = "user-0";
  const seen = async (): Promise<string> => {
    const { end } = await follow(visitor, at.url("app"));
    return String(echoOf(end).headers["x-pomerium-claim-groups"] ?? "");
  };
  const membersOf = async (path: string): Promise<readonly string[]> =>
    ((await request("GET", path)).body["members"] as { value: string }[]).map(({ value }) => value).sort();
  const sorted = [...ids].sort();

  const made = await request("POST", "/Groups", { displayName: "staff", externalId: "oid-staff" });
  const path = `/Groups/${String(made.body["id"])}`;
  for (let from = 0; from < people; from += perPatch) {
    const value = ids.slice(from, from + perPatch).map((id) => ({ $ref: null, value: id }));
    assert.equal((await request("PATCH", path, patchOf({ op: "Add", path: "members", value }))).status, 204);
  }
  assert.deepEqual(await membersOf(path), sorted);
  assert.equal(await seen(), "staff");

  const listed = ids.slice(0, perPatch).map((id) => ({ $ref: null, value: id }));
  const first = patchOf({ op: "Remove", path: "members", value: listed });
  assert.equal((await request("PATCH", path, first)).status, 204);
  assert.equal(await seen(), "");
  const rest = ids.slice(perPatch).sort();
  assert.deepEqual(await membersOf(path), rest);
  const operations = ids.slice(0, perPatch).map((id) => ({ op: "add", path: "members", value: [{ value: id }] }));
  assert.equal((await request("PATCH", path, patchOf(...operations))).status, 204);
  assert.equal(await seen(), "staff");
  const byFilter = ids.slice(0, perPatch).map((id) => ({ op: "remove", path: `members[value eq "${id}"]` }));
  assert.equal((await request("PATCH", path, patchOf(...byFilter))).status, 204);
  assert.equal(await seen(), "");
  assert.deepEqual(await membersOf(path), rest);

  const all = ids.map((value) => ({ value, display: `${value}@x.com` }));
  const put = await request("PUT", path, { displayName: "staff", externalId: "oid-staff", members: all });
  assert.equal(put.status, 200, JSON.stringify(put.body).slice(0, 300));
  assert.deepEqual(await membersOf(path), sorted);
  assert.equal(await seen(), "staff");
  const etag = put.header("etag");
  const again = await request("PUT", path, { displayName: "staff", externalId: "oid-staff", members: all });
  assert.equal(again.header("etag"), etag, "nothing has changed");
  const without = patchOf({ op: "replace", path: "members", value: all.slice(1) });
  assert.equal((await request("PATCH", path, without)).status, 204);
  assert.equal(await seen(), "");
  assert.deepEqual(await membersOf(path), ids.slice(1).sort());
});
