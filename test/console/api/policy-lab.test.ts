/** The policy lab of the operator API: checks, table tests, and recorded decisions that are decided again. */
import assert from "node:assert/strict";
import { request } from "node:http";
import { test } from "node:test";
import { baseAnswer, checkAnswer, testAnswer } from "../../../src/console/api/lab/lab-schemas.ts";
import type { CheckedText, TestedText } from "../../../src/console/index.ts";
import type { UnixMs } from "../../../src/events/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { outcomeOf, resultOf, startLabWorld } from "./lab-support.ts";
import { json } from "./operator-support.ts";

test("a policy is checked and linted with lines and columns, beside the shorthands of its route, and tested by a table", async (t) => {
  const { at } = await startLabWorld(t);
  const check = async (body: object): Promise<CheckedText> =>
    checkAnswer.parse(json(await at.post("/policy/check", body))) as unknown as CheckedText;
  const begun = baseAnswer.parse(json(await at.get("/policy/base?route=Engineering")));
  assert.deepEqual([begun.isOwn, begun.route?.id, begun.routes.length], [true, "eng", 2]);
  assert.equal((await check({ text: begun.route?.policy ?? "" })).ok, true, "the policy in force, as YAML");
  assert.equal((await at.get("/policy/base?route=none")).status, 404);
  const limited = `Bearer ${await at.token({ role: "viewer", routeGroups: ["hr"] })}`;
  const seen = baseAnswer.parse(json(await at.get("/policy/base", { headers: { authorization: limited } })));
  assert.deepEqual(
    seen.routes.map(({ id }) => id),
    ["payroll"],
  );
  const broken = await check({ text: "- allow:\n    or:\n      - grups: eng\n" });
  assert.equal(broken.ok, false);
  assert.deepEqual([broken.problems[0]?.line, broken.problems[0]?.column], [3, 9]);
  assert.match(broken.problems[0]?.remedy ?? "", /groups/);
  const yaml = await check({ text: "allow: [" });
  assert.equal(yaml.problems[0]?.severity, "error");

  const linted = await check({ text: "allow:\n  and:\n    - email: a@example.com\n    - email: b@example.com\n" });
  assert.equal(linted.ok, true);
  assert.deepEqual(
    linted.findings.map(({ kind, line }) => [kind, line]),
    [
      ["never-met", 2],
      ["nobody", 2],
    ],
  );
  const around = await check({ text: "allow:\n  or:\n    - groups: {has: hr}\n", route: "payroll" });
  assert.match(around.sentences.join("\n"), /hr/);
  assert.ok(around.ok && around.sentences.length > 1, "the shorthand of the route is a rule beside the text");
  assert.equal((await at.post("/policy/check", { text: "", route: "nowhere" })).status, 404);

  const tested = async (body: object): Promise<TestedText> =>
    testAnswer.parse(json(await at.post("/policy/test", body))) as TestedText;
  const cases = [
    "people: {ann: {session: {id: s, user_id: ann}, user: {email: ann@example.com}, groups: [eng]}}",
    "cases:",
    "  - {name: ann enters, as: ann, url: /, expect: permit}",
    "  - {name: a visitor enters, session: null, url: /, expect: permit}",
  ].join("\n");
  const text =
    "allow:\n  or:\n    - groups: {has: eng}\n    - email: boss@example.com\ndeny:\n  or:\n    - http_path: {is: /x}\n";
  const answer = await tested({ text, route: "eng", cases });
  assert.deepEqual(
    answer.cases.map(({ name, line, ok, result }) => [name, line, ok, result]),
    [
      ["ann enters", 3, true, "permit"],
      ["a visitor enters", 4, false, "signin"],
    ],
  );
  assert.deepEqual(
    answer.unmet.map(({ rule, line }) => [rule, line]),
    [["policy.deny.or", 6]],
  );
  assert.equal((await tested({ text, cases: [{ name: "one", url: "/", expect: "signin" }] })).cases[0]?.ok, true);
  assert.match((await tested({ text, cases: "cases: [{as: who}]" })).problems[0]?.problem ?? "", /people has no entry/);
  assert.equal((await tested({ text: "allow: [", cases })).cases.length, 0);
});

test("a replay decides recorded decisions again with the facts of their time, and says who gains and who loses", async (t) => {
  const { at, person, decided, replay } = await startLabWorld(t);
  const [alice, bob] = [await person("alice"), await person("bob")]; // alice is in eng, bob is in sales
  for (let i = 0; i < 3; i += 1) decided("eng", alice, "permit");
  decided("eng", bob, "deny");
  decided("payroll", bob, "permit");
  await at.post("/groups/night/members", { add: [bob.userId] });
  await waitFor("the addition", () =>
    at.world.replica.projection.groupsOf(bob.userId, Date.now() as UnixMs).has("night" as never),
  );
  decided("eng", bob, "deny");
  decided("eng", alice, "permit", { path: "/late", method: "POST" });
  await at.post("/groups/night/members", { remove: [bob.userId] });
  decided("eng", null, "deny", { result: "unavailable", status: 503, allow: undefined, deny: undefined });

  const text = "allow:\n  or:\n    - groups: {has: night}\n    - and_not: 1\n";
  const refused = json(await replay({ text, route: "eng" }));
  assert.deepEqual([refused.code, refused.problems.length > 0], ["policy-invalid", true]);

  const edited = "allow:\n  and:\n    - groups: {has: night}\n";
  const then = resultOf(await replay({ text: edited, route: "https://eng.example.com" }));
  assert.deepEqual(
    then.differences.map(({ route, person: who, change, count, already }) => [route, who, change, count, already]),
    [
      ["eng", bob.userId, "gains", 1, 0],
      ["eng", alice.userId, "loses", 4, 0],
    ],
    "bob gains only the request that he made while he was in the group",
  );
  assert.deepEqual([then.replayed, then.cut], [6, null]);
  assert.deepEqual(then.notReplayed, [{ why: "policy did not decide it: unavailable", count: 1 }]);
  assert.equal(then.differences[1]?.example.requestId, "request-1");
  assert.equal(then.names.people[bob.userId], "bob@example.com");
  assert.equal(then.names.routes["eng"], "Engineering");

  const now = resultOf(await replay({ text: edited, route: "eng", facts: "now" }));
  assert.deepEqual(
    now.differences.map(({ person: who, change, count }) => [who, change, count]),
    [[alice.userId, "loses", 4]],
    "now bob is not in the group",
  );

  const fixed = { since: new Date(Date.now() - 60_000).toISOString(), until: new Date().toISOString() };
  const [one, same, other] = [
    resultOf(await replay({ text: edited, route: "eng", ...fixed })),
    resultOf(await replay({ text: edited, route: "eng", ...fixed })),
    resultOf(await replay({ text: edited, route: "eng", ...fixed, facts: "now" })),
  ];
  assert.equal(one.digest, same.digest, "the same question about the same decisions has the same digest");
  assert.notEqual(one.digest, other.digest);
  assert.equal(resultOf(await replay({ text: edited, route: "eng", limit: 2 })).cut, "limit");
  const read = at.accesses.filter(({ command }) => command === "POST /policy/replay");
  assert.ok(read.length > 0, "the read of personal data is in the audit");
});

test("what the record does not hold is counted with its reason, and what the configuration in force decides so already is marked", async (t) => {
  const { person, decided, replay } = await startLabWorld(t);
  const alice = await person("alice");
  decided("eng", alice, "permit");
  decided("eng", alice, "deny"); // as an earlier configuration decided
  decided("eng", alice, "permit", { path: "/a/[redacted]" });
  const device = "allow:\n  and:\n    - groups: {has: eng}\n    - record: {type: hr, exists: true}\n";
  const unknown = resultOf(await replay({ text: device, route: "eng" }));
  assert.deepEqual(unknown.notReplayed, [
    { why: "it depends on facts that the record does not contain: record", count: 3 },
  ]);
  const path = "allow:\n  and:\n    - groups: {has: eng}\n    - http_path: {is: /}\n";
  const paths = resultOf(await replay({ text: path, route: "eng" }));
  assert.deepEqual(
    paths.notReplayed.map(({ why }) => why),
    ["it depends on facts that the record does not contain: http_path"],
  );
  assert.deepEqual(
    paths.differences.map(({ change, count, already }) => [change, count, already]),
    [["gains", 1, 1]],
  );
});

test("one replay runs at a time, ends with its connection, and a limited operator sees only routes of its groups", async (t) => {
  const stuck = { on: false, reads: 0 };
  const world = await startLabWorld(t, {
    operator: (inner) => ({
      ...inner,
      async read(after, options) {
        const { signal } = options;
        if (stuck.on) {
          stuck.reads += 1;
          await new Promise((resolve) => signal?.addEventListener("abort", resolve));
        }
        signal?.throwIfAborted();
        return inner.read(after, options);
      },
    }),
  });
  const { at, person, decided, replay } = world;
  const alice = await person("alice");
  decided("eng", alice, "permit");
  decided("payroll", alice, "permit");
  const text = "allow:\n  and:\n    - groups: {has: none}\n";

  const token = await at.token({ role: "operator", routeGroups: ["tech"] });
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const absent = "allow:\n  and:\n    - email: absent@example.com\n";
  const own = resultOf(await replay({ text: absent, route: "eng" }, headers));
  assert.equal(own.replayed, 1);
  const foreign = await replay({ text: absent, route: "payroll" }, headers);
  assert.equal(foreign.status, 404, "a route of another group does not exist for this caller");
  assert.doesNotMatch(foreign.body, /Payroll/);
  const all = resultOf(await replay({ configHash: world.own.configHash }, headers));
  assert.equal(all.replayed, 1);
  const viewer = { ...headers, authorization: `Bearer ${await at.token({ role: "viewer" })}` };
  assert.equal((await replay({ text, route: "eng" }, viewer)).status, 403);

  stuck.on = true;
  const url = new URL(at.url("/policy/replay"));
  const first = request({
    ...{ host: "127.0.0.1", port: url.port, path: url.pathname, method: "POST" },
    headers: { host: url.host, authorization: `Bearer ${await at.token()}`, "content-type": "application/json" },
  });
  first.on("error", () => undefined);
  first.end(JSON.stringify({ text, route: "eng" }));
  await waitFor("the first to run", () => stuck.reads > 0);
  const second = await replay({ text, route: "eng" });
  assert.deepEqual([second.status, json(second).code, second.headers["retry-after"]], [503, "replay-busy", "5"]);
  assert.match(json(second).error, /another replay runs on this server: wait/);
  stuck.on = false;
  first.destroy();
  await waitFor("the place to be free", async () => {
    const next = await replay({ text, route: "eng" });
    return next.status === 200 && outcomeOf(next).type === "result";
  });
});

test("where the log no longer has the facts of that time, the decisions count as not replayed, and facts of now still answer", async (t) => {
  const truncated = { on: false };
  const { at, person, decided, replay } = await startLabWorld(t, {
    operator: (inner) => ({
      ...inner,
      read: async (after, options) =>
        truncated.on ? { type: "truncated", first: 100 as never } : inner.read(after, options),
    }),
  });
  const alice = await person("alice");
  decided("eng", alice, "permit");
  decided("eng", alice, "permit", { applied: { ...at.world.replica.applied, position: 1 as never } });
  const mixed = resultOf(await replay({ text: "allow:\n  and:\n    - groups: {has: eng}\n", route: "eng" }));
  assert.equal(mixed.replayed, 1);
  assert.match(mixed.notReplayed[0]?.why ?? "", /its history was lost in a failover/, "its link is not the log's");
  truncated.on = true;
  const text = "allow:\n  and:\n    - groups: {has: none}\n";
  const then = resultOf(await replay({ text, route: "eng" }));
  assert.deepEqual([then.replayed, then.differences.length], [0, 0]);
  assert.match(then.notReplayed[0]?.why ?? "", /the log no longer has the facts of that time/);
  const now = resultOf(await replay({ text, route: "eng", facts: "now" }));
  assert.deepEqual([now.replayed, now.differences[0]?.change], [2, "loses"]);
});

test("hostile questions get an error with a remedy: bombs, long texts, deep nesting, unknown keys, wrong times", async (t) => {
  const { at, replay } = await startLabWorld(t);
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${"bcdefghij"
    .split("")
    .map((name, i) => `${name}: &${name} [${new Array(9).fill(`*${"abcdefghi"[i]}`).join(",")}]`)
    .join("\n")}\n`;
  const bombed: CheckedText = json(await at.post("/policy/check", { text: bomb }));
  assert.deepEqual([bombed.ok, bombed.problems.length > 0], [false, true]);
  const deep = json(await at.post("/policy/check", { text: `${"[".repeat(5_000)}${"]".repeat(5_000)}` }));
  assert.equal(deep.ok, false);
  const markup: CheckedText = json(await at.post("/policy/check", { text: "allow:\n  or:\n    - <script>: 1\n" }));
  assert.match(markup.problems[0]?.problem ?? "", /<script>/, "as data; pages escape it");
  const long = await at.post("/policy/check", { text: `# ${"x".repeat(200_000)}` });
  assert.deepEqual([long.status, /at most 131072 characters/.test(long.body)], [400, true]);
  assert.equal((await at.post("/policy/check", { text: "x".repeat(3_000_000) })).status, 413);
  for (const body of [
    { text: "", configHash: "a".repeat(64), route: "eng" },
    { text: "allow: {or: [accept: true]}" },
    { configHash: "xyz" },
    { text: "allow: {or: [accept: true]}", route: "eng", since: "yesterday" },
    { text: "allow: {or: [accept: true]}", route: "eng", since: "2126-01-01T00:00:00Z" },
    { text: "allow: {or: [accept: true]}", route: "eng", limit: 0 },
    { text: "allow: {or: [accept: true]}", route: "eng", more: 1 },
  ]) {
    const answer = await replay(body);
    assert.equal(answer.status, 400, JSON.stringify(body));
    assert.ok(json(answer).error.length > 5);
  }
  assert.equal((await replay({ configHash: "a".repeat(64) })).status, 404);
});

test("a replay tells a limited operator nothing of groups and claims that their routes do not read", async (t) => {
  const { at, person, decided, replay } = await startLabWorld(t);
  const bob = await person("bob"); // in sales
  decided("eng", bob, "deny");
  const token = await at.token({ role: "operator", routeGroups: ["tech"] });
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const asks = (...criteria: readonly string[]): string =>
    `allow:\n  or:\n${criteria.map((each) => `    - ${each}\n`).join("")}`;
  assert.equal((await at.get("/groups/sales", { headers })).status, 404, "the group does not exist for this caller");
  for (const facts of ["now", "then"])
    for (const criterion of [
      "groups: {has: sales}",
      "claim/groups: sales",
      "claim/groups: {has: sales}",
      "claim/family_name: Baker",
    ]) {
      const answer = await replay({ text: asks("groups: {has: eng}", criterion), route: "eng", facts }, headers);
      assert.deepEqual([answer.status, json(answer).code], [403, "out-of-scope"], `${criterion}: ${answer.body}`);
      const whole = await replay({ text: asks(criterion), route: "eng", facts });
      assert.equal(outcomeOf(whole).type, "result", `an operator of all routes may ask for ${criterion}`);
    }
  const own = asks("groups: {has: eng}", "email: bob@example.com");
  assert.equal(resultOf(await replay({ text: own, route: "eng" }, headers)).differences.length, 1);
});
