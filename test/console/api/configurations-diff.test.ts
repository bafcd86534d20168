/** Differences and history of configurations in the operator API. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigDiffer } from "../../../src/console/api/lab/config-changes.ts";
import { operatorOperations } from "../../../src/console/api/operator-operations.ts";
import type { ConfigurationDiff, ConfigurationHistory } from "../../../src/console/index.ts";
import type { ConfigHash } from "../../../src/events/index.ts";
import { signIn, subjectId, type World } from "../../auth/authenticate/support.ts";
import { announceConfiguration } from "./lab-support.ts";
import { json, startOperatorWorld } from "./operator-support.ts";

const route = (id: string, policy: unknown, more: object = {}): object => ({
  ...{
    id,
    name: `Name of ${id}`,
    from: `https://${id}.example/`,
    host: `${id}.example`,
    requiresClientCertificate: false,
  },
  ...{ allowPublicUnauthenticatedAccess: false, corsAllowPreflight: false, allowAnyAuthenticatedUser: false },
  ...{ allowedDomains: [], allowedIdpClaims: {}, allowedUsers: [], clientCa: null },
  ...{ policy, ...more },
});
const inGroup = (...groups: string[]): object => ({ allow: { or: groups.map((has) => ({ groups: { has } })) } });

const activate = (world: World, node: string, text: object): Promise<ConfigHash> =>
  announceConfiguration(world, node, JSON.stringify(text));

test("two configurations are compared by path, without secrets, and with the people who gain and lose routes", async (t) => {
  const at = await startOperatorWorld(t);
  const { world } = at;
  await signIn(world, world.visitor(), "alice"); // in eng
  await signIn(world, world.visitor(), "bob"); // in sales
  const [alice, bob] = [subjectId(world, "alice"), subjectId(world, "bob")];
  const a = await activate(world, "node-1", {
    cookie: { secret: "hmac-sha256:one", expireMs: 1 },
    routes: [
      route("eng", inGroup("eng")),
      route("same", inGroup("eng")),
      route("old", { allow: { or: [{ authenticated_user: true }] } }),
      route("odd", { allow: { or: [{ email: "hmac-sha256:x" }] } }),
    ],
  });
  const b = await activate(world, "node-2", {
    cookie: { secret: "hmac-sha256:two", expireMs: 2 },
    routes: [
      route("eng", inGroup("sales"), { setHeaders: { Authorization: "hmac-sha256:token" } }),
      route("same", inGroup("eng"), { timeoutMs: 5 }),
      route("<new>", { allow: { and: [{ groups: { has: "sales" } }, { http_method: { is: "GET" } }] } }),
      route("odd", { allow: { or: [{ email: "hmac-sha256:y" }] } }),
    ],
  });
  const diff: ConfigurationDiff = json(await at.get(`/configurations/${a}/diff/${b.slice(0, 12)}`));
  operatorOperations["GET /configurations/:a/diff/:b"].answer.parse(diff);
  const kinds = new Map(diff.changes.map(({ path, kind, from, to }) => [path, [kind, from, to]]));
  assert.deepEqual(kinds.get("cookie.secret"), ["secret", null, null]);
  assert.deepEqual(kinds.get("cookie.expireMs"), ["changed", 1, 2]);
  assert.deepEqual(kinds.get("routes[eng].policy.allow.or[0].groups.has"), ["changed", "eng", "sales"]);
  assert.deepEqual(kinds.get("routes[same].timeoutMs"), ["added", null, 5]);
  assert.equal(kinds.get("routes[<new>]")?.[0], "added");
  assert.doesNotMatch(JSON.stringify(diff), /hmac-sha256|token/, "no digest of a secret");
  assert.deepEqual(
    [diff.routes.added, diff.routes.removed].map((list) => list.map(({ id }) => id)),
    [["<new>"], ["old"]],
  );
  assert.deepEqual(
    diff.routes.changed.map(({ id, keys }) => [id, [...keys].sort()]),
    [
      ["eng", ["policy", "setHeaders"]],
      ["same", ["timeoutMs"]],
      ["odd", ["policy"]],
    ],
  );
  const effect = (list: ConfigurationDiff["gains"]): unknown =>
    list.map(({ route: { id }, people, conditional, named }) => [
      id,
      people,
      conditional,
      named.map(({ userId }) => userId),
    ]);
  assert.deepEqual(effect(diff.gains), [
    ["<new>", 1, 1, [bob]],
    ["eng", 1, 0, [bob]],
  ]);
  const lost = diff.loses.map(({ route: { id }, people }) => [id, people]);
  assert.deepEqual(lost, [
    ["old", 2],
    ["eng", 1],
  ]);
  assert.equal(diff.loses[1]?.named[0]?.userId, alice);
  assert.deepEqual(diff.notes, [{ route: "odd", note: "the policy cannot be evaluated: its text has redacted parts" }]);
  assert.deepEqual([diff.unchecked, diff.applied > 0], [0, true]);
  assert.equal((await at.get(`/configurations/${a}/diff/${"0".repeat(64)}`)).status, 404);
  assert.equal((await at.get(`/configurations/x/diff/${a}`)).status, 400);
  const limited = await at.token({ role: "viewer", routeGroups: ["hr"] });
  const refused = await at.get(`/configurations/${a}/diff/${b}`, { headers: { authorization: `Bearer ${limited}` } });
  assert.equal(json(refused).code, "out-of-scope");

  const c = await activate(world, "node-1", { routes: [] });
  const history: ConfigurationHistory = json(await at.get("/configurations/history"));
  const of = (hash: string) => history.configurations.find(({ configHash }) => configHash === hash);
  const times = [of(a)?.firstSeenAt, of(a)?.lastSeenAt, of(c)?.firstSeenAt].map((time) => Date.parse(time ?? ""));
  assert.ok(times.every(Number.isFinite), JSON.stringify(history));
  assert.equal(times[1], times[2], "node-1 left the first when it announced the third");
  assert.ok((times[0] ?? 0) <= (times[1] ?? 0));
});

test("lists are compared without their equal parts, entries with names by their name, and values stay within a bound", () => {
  const changes = (from: unknown, to: unknown) => {
    const differ = new ConfigDiffer();
    differ.compare("", from, to);
    return differ.result();
  };
  assert.deepEqual(changes({ a: [1, 2, 3] }, { a: [1, 9, 2, 3] }).changes, [
    { path: "a[1]", kind: "added", from: null, to: 9 },
  ]);
  const named = changes({ l: [{ name: "x", v: 1 }, { name: "y" }] }, { l: [{ name: "y" }, { name: "x", v: 2 }] });
  assert.deepEqual(
    named.changes.map(({ path }) => path),
    ["l[x].v", "l (order)"],
  );
  assert.deepEqual(changes({ a: 1 }, { a: 1 }), { changes: [], moreChanges: 0 });
  const many = changes({}, Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`k${i}`, i])));
  assert.deepEqual([many.changes.length, many.moreChanges], [2_000, 3_000]);
  const [long] = changes({ a: "" }, { a: "x".repeat(10_000) }).changes;
  assert.ok(String(long?.to).length < 2_100);
  const [whole] = changes({}, { sink: { url: "https://h/?hmac-sha256:secret", key: "hmac-sha256:k" } }).changes;
  assert.deepEqual(whole?.to, { url: "(secret)", key: "(secret)" });
  const proto = changes(JSON.parse('{"__proto__": 1}'), { a: 1 });
  assert.equal(proto.changes.length, 2);
});

test("the history of configurations is searched once, and then only what has been recorded since", async (t) => {
  const depths: number[] = [];
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      history(request) {
        if (request.streams.length > 0) depths.push(request.depth);
        return inner.history(request);
      },
    }),
  });
  const { world } = at;
  const since = async (): Promise<ConfigurationHistory> => json(await at.get("/configurations/history"));
  const first = await activate(world, "node-1", { routes: [route("a", inGroup("eng"))] });
  await signIn(world, world.visitor(), "alice");
  const before = await since();
  assert.ok(depths.reduce((sum, depth) => sum + depth, 0) >= world.replica.applied.position);
  depths.length = 0;
  assert.deepEqual(await since(), before);
  assert.deepEqual(depths, [], "nothing has been recorded since");
  const position = world.replica.applied.position;
  const second = await activate(world, "node-1", { routes: [route("b", inGroup("eng"))] });
  const after = await since();
  assert.ok(depths.length > 0 && depths.every((depth) => depth <= world.replica.applied.position - position));
  const seen = (hash: ConfigHash) => after.configurations.find(({ configHash }) => configHash === hash)?.firstSeenAt;
  assert.ok(seen(first) && seen(second), "what was found before is still there");
  assert.equal(after.searchedTo, 0);
});
