/** Authorize log: one line per decision in Pomerium's format, and what a line never contains. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { AuthorizeLogField, RouteConfig } from "../../../src/config/index.ts";
import { compileAuthorizeLine } from "../../../src/proxy/observe/authorize-line.ts";
import { groupChanged, type Rig, routeTo, signedIn, startRig, startUpstream } from "../support.ts";

const cleanUps: (() => Promise<unknown>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

const policy = (ppl: object): Partial<RouteConfig> => ({
  allowAnyAuthenticatedUser: false,
  policy: { ppl, location: { file: "cardea.yaml", line: 1, column: 1 } },
});

type Line = Readonly<Record<string, unknown>>;

async function start(
  fields: readonly AuthorizeLogField[],
  parts: Partial<RouteConfig> = {},
): Promise<Readonly<{ rig: Rig; lines: Line[]; texts: string[] }>> {
  const upstream = await startUpstream();
  const [texts, lines]: [string[], Line[]] = [[], []];
  const lineOf = compileAuthorizeLine(fields);
  const rig = await startRig(
    [
      routeTo(upstream.port, {
        host: "eng.localhost",
        jwtGroupsFilter: ["sales"],
        ...parts,
        ...policy({
          allow: { and: [{ groups: { has: "eng" } }] },
          deny: { or: [{ email: { is: "user2@example.com" } }] },
        }),
      }),
    ],
    {
      recordDurably: () => Promise.resolve(),
      deps: {
        authorizeLog(facts) {
          texts.push(lineOf(facts));
          lines.push(JSON.parse(texts.at(-1) ?? "") as Line);
        },
      },
    },
  );
  await rig.apply(signedIn(1), signedIn(2), signedIn(3), groupChanged({ added: [1, 2] }));
  cleanUps.push(upstream.close, () => rig.close());
  return { rig, lines, texts };
}

const session = ["request-id", "method", "path", "host", "ip", "session-id", "user", "email", "route-id"] as const;

test("a permit of a strict route has its line, too", async () => {
  const { rig, lines } = await start(session, { audit: "strict" });
  assert.equal((await rig.request({ host: "eng.localhost", session: 1 })).status, 200);
  assert.deepEqual(
    lines.map(({ allow, user }) => ({ allow, user })),
    [{ allow: true, user: "subject-1" }],
  );
});

test("a decision is one line, with the results and reasons of allow and deny", async () => {
  const { rig, lines } = await start(session);
  const host = "eng.localhost";
  await rig.request({ host, session: 1, path: "/a?secret=1" });
  await rig.request({ host, session: 2 });
  await rig.request({ host, session: 3 });
  await rig.request({ host });
  await rig.request({ host: "elsewhere.localhost" });
  const [permitted, denied, notAllowed, anonymous, elsewhere] = lines;
  assert.equal(lines.length, 5);
  const { user, email, path, method } = permitted ?? {};
  assert.deepEqual(
    { user, email, path, method, host: permitted?.["host"], service: permitted?.["service"] },
    { user: "subject-1", email: "user1@example.com", path: "/a", method: "GET", host, service: "authorize" },
  );
  assert.equal(permitted?.["message"], "authorize check");
  const sides = (line: Line | undefined): Line =>
    Object.fromEntries(Object.entries(line ?? {}).filter(([key]) => /^(?:allow|deny)/.test(key)));
  assert.deepEqual(sides(permitted), {
    allow: true,
    "allow-why-true": ["groups-ok"],
    deny: false,
    "deny-why-false": ["email-unauthorized"],
  });
  assert.deepEqual(sides(denied), {
    allow: true,
    "allow-why-true": ["groups-ok"],
    deny: true,
    "deny-why-true": ["email-ok"],
  });
  assert.deepEqual(sides(notAllowed), {
    allow: false,
    "allow-why-false": ["groups-unauthorized"],
    deny: false,
    "deny-why-false": ["email-unauthorized"],
  });
  assert.deepEqual(sides(anonymous), {
    allow: false,
    "allow-why-false": ["user-unauthenticated"],
    deny: false,
    "deny-why-false": ["user-unauthenticated"],
  });
  assert.deepEqual(sides(elsewhere), {
    allow: false,
    "allow-why-false": [],
    deny: true,
    "deny-why-true": ["route-not-found"],
  });
  assert.equal(anonymous?.["allow"], false);
  assert.equal(anonymous?.["user"], "");
  assert.equal("session-id" in (anonymous ?? {}), false);
});

test("no line contains a credential, whatever fields are configured, nor a session handle in the query", async () => {
  const { rig, texts } = await start([
    "query",
    "headers",
    "headers.Authorization",
    "headers.Cookie",
    "headers.X-Team",
    "id-token-claims",
  ]);
  await rig.request({
    host: "eng.localhost",
    session: 1,
    path: "/?a=1&pomerium_session=s1",
    headers: { authorization: "Bearer hidden", "x-api-key": "hidden", "x-team": 'a"b' },
  });
  assert.equal(texts.length, 1);
  assert.doesNotMatch(texts[0] ?? "", /hidden|=s1|_pomerium/);
  const line = JSON.parse(texts[0] ?? "") as Line;
  assert.equal(line["query"], "a=1");
  assert.equal(line["headers.X-Team"], 'a"b');
});

test("groups omitted from the assertion are counted, and a malformed request has no line", async () => {
  const { rig, lines } = await start(["removed-groups-count"]);
  await rig.request({ host: "eng.localhost", session: 1 });
  assert.equal(lines[0]?.["removed-groups-count"], 1);
  await rig.request({ host: "eng.localhost", session: 1, path: "/a%2fb" });
  assert.equal(lines.length, 1);
});
