/** SCIM through a separate proxy, and over restarts of the process that serves it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { TemporaryFolder } from "../../support/child.ts";
import { waitFor } from "../../support/wait-for.ts";
import { startInstallation } from "../identity/installation.ts";
import { operate, patchOf, raiseLevel, requester, scimClient } from "./scim-client.ts";

const user = (name: string): object => ({ userName: `${name}@example.com`, externalId: name });

test("a separate proxy forwards every method and a group of thousands", async (t) => {
  const at = await startInstallation(
    t,
    ({ url, upstream }) => ({
      scim_clients: { okta: {} },
      routes: [{ from: url("app", ""), to: upstream, policy: [{ allow: { or: [{ groups: { has: "thousand" } }] } }] }],
    }),
    "split",
  );
  await raiseLevel(at);
  const okta = await scimClient(at, "okta");
  const Operations = Array.from({ length: 1_000 }, (_, n) => ({
    method: "POST",
    path: "/Users",
    bulkId: `b${n}`,
    data: user(`person-${n}`),
  }));
  const schemas = ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"];
  const bulk = await okta.request("POST", "/Bulk", { schemas, Operations });
  assert.equal(bulk.status, 200, JSON.stringify(bulk.body).slice(0, 300));
  const locations = (bulk.body["Operations"] as { location: string }[]).map(({ location }) => location);
  const ids = locations.map((location) => location.slice(location.lastIndexOf("/") + 1));
  const members = ids.map((value) => ({ value, display: "x".repeat(300) }));
  const group = await okta.request("POST", "/Groups", { displayName: "thousand", members });
  assert.equal(group.status, 201, JSON.stringify(group.body).slice(0, 300));
  assert.equal((group.body["members"] as object[]).length, 1_000);
  const path = `/Groups/${String(group.body["id"])}`;
  const remove = { op: "remove", path: `members[value eq "${ids[0]}"]` };
  assert.equal((await okta.request("PATCH", path, patchOf(remove))).status, 204);
  const empty = { displayName: "thousand", members: [] };
  const refused = await okta.request("PUT", path, empty);
  assert.deepEqual(
    [refused.status, refused.header("retry-after")],
    [503, "900"],
    "it would take a group from 999 people",
  );
  const { held } = (await operate(at, "/held")).body as { held: { id: string; version: number; people: number }[] };
  const [{ id: heldId = "", version = 0, people = 0 } = {}] = held;
  assert.ok(held.length === 1 && String(refused.body["detail"]).includes(heldId), JSON.stringify(held));
  assert.equal(people, 999);
  const shown = (await operate(at, `/held/${heldId}`)).body["now"] as Record<string, unknown>;
  assert.deepEqual([shown["people"], shown["groups"]], [999, ["thousand"]]);
  assert.deepEqual(shown["routes"], [at.url("app")]);
  assert.equal(((await okta.request("GET", path)).body["members"] as object[]).length, 999);
  const release = { version, reason: "the group is no longer used", wait: "all" };
  assert.equal((await operate(at, `/held/${heldId}/release`, release)).status, 200);
  assert.equal((await okta.request("PUT", path, empty)).status, 200);
  assert.equal((await okta.request("DELETE", path)).status, 204);
});

test("after a restart the server knows everything that it had answered", async (t) => {
  const folder = new TemporaryFolder("scim-restart");
  t.after(() => folder[Symbol.dispose]());
  const start = (subtest: Parameters<typeof startInstallation>[0]) =>
    startInstallation(subtest, ({ url, upstream }) => ({
      databroker_storage_type: "file",
      data_dir: folder.path,
      scim_clients: { okta: {} },
      routes: [{ from: url("app", ""), to: upstream, allow_any_authenticated_user: true }],
    }));
  let token = "";
  const answered: string[] = [];
  await t.test("before", async (subtest) => {
    const at = await start(subtest);
    await raiseLevel(at);
    const okta = await scimClient(at, "okta");
    ({ token } = okta);
    const sent = Array.from({ length: 40 }, async (_, n) => {
      const answer = await okta.request("POST", "/Users", user(`kept-${n}`)).catch(() => undefined);
      if (answer?.status === 201) answered.push(String(answer.body["id"]));
    });
    await waitFor("some answers", () => answered.length >= 5, { everyMs: 5 });
    await at.services.stop();
    await Promise.allSettled(sent);
  });
  await t.test("after", async (subtest) => {
    const at = await start(subtest);
    const request = requester(at, token);
    await waitFor("the server", async () => (await request("GET", "/ServiceProviderConfig")).status === 200);
    for (const id of answered) assert.equal((await request("GET", `/Users/${id}`)).status, 200, id);
    const all = await request("GET", "/Users?count=200");
    assert.ok(Number(all.body["totalResults"]) >= answered.length);
    for (let n = 0; n < 40; n++) {
      const { status } = await request("POST", "/Users", user(`kept-${n}`));
      assert.ok(status === 201 || status === 409, `the client repeats its requests: ${status}`);
    }
    assert.equal((await request("GET", "/Users?count=0")).body["totalResults"], 40);
  });
});
