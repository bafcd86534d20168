/** A bulk request is judged whole: too many ends or removals are held before the first operation is applied. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startInstallation } from "../identity/installation.ts";
import { operate, patchOf, raiseLevel, type ScimClient, scimClient } from "./scim-client.ts";

const schemas = ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"];
type Operation = Readonly<{ method: string; path: string; bulkId?: string; data?: unknown }>;
type Held = Readonly<{ id: string; version: number; subject: string; people: number }>;

const bulk = (client: ScimClient, Operations: readonly Operation[]) =>
  client.request("POST", "/Bulk", { schemas, Operations });
const statuses = (body: Record<string, unknown>): readonly string[] =>
  (body["Operations"] as { status: string }[]).map(({ status }) => status);
const deactivate = (id: string): Operation => ({
  method: "PATCH",
  path: `/Users/${id}`,
  data: patchOf({ op: "replace", path: "active", value: "False" }),
});

test("a bulk request that would end too many people or memberships is held before anything of it is applied", async (t) => {
  const at = await startInstallation(
    t,
    ({ url, upstream }) => ({
      scim_clients: { okta: {} },
      routes: [{ from: url("app", ""), to: upstream, policy: [{ allow: { or: [{ groups: { has: "crew" } }] } }] }],
    }),
    "whole",
  );
  await raiseLevel(at);
  const okta = await scimClient(at, "okta");
  const created = await bulk(
    okta,
    Array.from({ length: 80 }, (_, n) => ({
      method: "POST",
      path: "/Users",
      bulkId: `b${n}`,
      data: { userName: `person-${n}@example.com`, externalId: `person-${n}` },
    })),
  );
  const locations = (created.body["Operations"] as { location: string }[]).map(({ location }) => location);
  const ids = locations.map((location) => location.slice(location.lastIndexOf("/") + 1));
  const members = ids.map((value) => ({ value }));
  const group = await okta.request("POST", "/Groups", { displayName: "crew", members });
  assert.equal(group.status, 201);
  const crew = `/Groups/${String(group.body["id"])}`;
  const isActive = async (id: string) => (await okta.request("GET", `/Users/${id}`)).body["active"];
  const heldNow = async () => (await operate(at, "/held")).body["held"] as readonly Held[];

  const some = await bulk(okta, ids.slice(0, 5).map(deactivate));
  assert.deepEqual([some.status, statuses(some.body)], [200, Array.from({ length: 5 }, () => "200")]);

  const creation = { method: "POST", path: "/Users", bulkId: "new", data: { userName: "new", externalId: "new" } };
  const many = [creation, ...ids.slice(5, 50).map(deactivate), { method: "DELETE", path: `/Users/${ids[50]}` }];
  for (let attempt = 0; attempt < 2; attempt++) {
    const refused = await bulk(okta, many);
    assert.deepEqual([refused.status, refused.header("retry-after")], [503, "900"], JSON.stringify(refused.body));
    assert.match(String(refused.body["detail"]), /it would end the access of 46 people/);
  }
  const [held, ...others] = await heldNow();
  assert.deepEqual([held?.subject, held?.people, others], ["people", 46, []]);
  assert.deepEqual(await Promise.all([isActive(ids[5] ?? ""), isActive(ids[49] ?? "")]), [true, true]);
  const search = await okta.request("GET", '/Users?filter=userName eq "new"');
  assert.equal(search.body["totalResults"], 0, "nothing of the request is applied, its additions neither");

  const one = await okta.request(
    "PATCH",
    `/Users/${ids[49]}`,
    patchOf({ op: "replace", path: "active", value: false }),
  );
  assert.equal(one.status, 200, "one person's end is never held");
  const kept = await okta.request(
    "PATCH",
    `/Users/${ids[48]}`,
    patchOf({ op: "replace", path: "active", value: true }),
  );
  assert.equal(kept.status, 200);
  const [narrowed] = await heldNow();
  assert.deepEqual([narrowed?.id, narrowed?.version], [held?.id, (held?.version ?? 0) + 2], "both are withdrawn");
  const shown = (await operate(at, `/held/${held?.id}`)).body["now"] as Record<string, unknown>;
  assert.equal(shown["people"], 44);

  const release = { version: narrowed?.version, reason: "the department has moved", wait: "all" };
  assert.equal((await operate(at, `/held/${held?.id}/release`, release)).status, 200);
  const accepted = await bulk(okta, many);
  assert.equal(accepted.status, 200, "the one person that the client has kept meanwhile is one person's end");
  assert.ok(
    statuses(accepted.body).every((status) => /^20[014]$/.test(status)),
    JSON.stringify(statuses(accepted.body)),
  );
  assert.equal(await isActive(ids[5] ?? ""), false);

  const left = (await okta.request("GET", crew)).body["members"] as { value: string }[];
  const removals = left.slice(0, 25).map(({ value }) => ({
    method: "PATCH",
    path: crew,
    data: patchOf({ op: "remove", path: `members[value eq "${value}"]` }),
  }));
  const removed = await bulk(okta, removals);
  assert.deepEqual([removed.status, new Set(statuses(removed.body))], [200, new Set(["503"])]);
  const after = (await okta.request("GET", crew)).body["members"] as object[];
  assert.equal(after.length, left.length, "not even the first removal is applied");
  const [ofGroup] = await heldNow();
  assert.equal(ofGroup?.subject, "group:crew");
});
