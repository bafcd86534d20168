/** Idle lifetimes of sessions, with a real provider. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { SessionView, UserView } from "../../../src/console/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { echoOf, follow, startInstallation } from "./installation.ts";
import { readOperatorApi } from "./operator.ts";

const everyone = { allow_any_authenticated_user: true };
const idleMs = 10_000;

test("a session in use stays, an idle one leads to a new sign-in, and other routes keep the session", async (t) => {
  const at = await startInstallation(t, ({ url, upstream }) => ({
    routes: [
      { from: url("app"), to: upstream, ...everyone },
      { from: url("strict"), to: upstream, ...everyone, session_idle_lifetime: `${idleMs / 1_000}s` },
    ],
  }));
  const visitor = at.visitor();
  const cookieOf = (host: string): string => visitor.cookieHeader(new URL(at.url(host)));
  const sessions = async (status = "active") =>
    (await readOperatorApi<{ sessions: SessionView[] }>(at, `/sessions?status=${status}`)).sessions;
  echoOf((await follow(visitor, at.url("app"))).end);
  const first = await follow(visitor, at.url("strict"));
  echoOf(first.end);
  assert.ok(!first.hops.some(({ hostname }) => hostname === "idp.localhost"), "the session of the other route serves");
  const [atApp, atStrict] = [cookieOf("app"), cookieOf("strict")];

  for (const until = Date.now() + 1.5 * idleMs; Date.now() < until; await sleep(400))
    assert.equal((await visitor.request(at.url("strict"))).status, 200);
  await waitFor("the log to know the use", async () => {
    const [only] = await sessions();
    return (
      only !== undefined && only.lastSeenAt !== null && Date.parse(only.lastSeenAt) > Date.parse(only.issuedAt ?? "")
    );
  });
  const [used] = await sessions();
  assert.equal(used?.idleAt, null, "the idle lifetime of a route alone ends no session");
  assert.equal(used?.lastSeenBy, "this-node");

  await sleep(idleMs + 500);
  const api = await visitor.request(at.url("strict"), {
    headers: { accept: "application/json", "sec-fetch-mode": "cors" },
  });
  assert.equal(api.status, 401);
  assert.equal((await visitor.request(at.url("app"))).status, 200, "it is used again, on the other route");
  const again = await follow(visitor, at.url("strict"));
  echoOf(again.end);
  assert.ok(
    again.hops.some(({ hostname }) => hostname === "idp.localhost"),
    "the provider was asked again, although the session was just used",
  );
  assert.notEqual(cookieOf("strict"), atStrict);
  assert.equal(cookieOf("app"), atApp);
  assert.equal((await visitor.request(at.url("app"))).status, 200);
  assert.equal((await sessions()).length, 2, "the new sign-in is a session of its own");
});

test("a global idle lifetime ends a session everywhere, operators see when, and a reload changes it at once", async (t) => {
  const at = await startInstallation(t, ({ url, upstream }) => ({
    session_idle_lifetime: "10s",
    routes: [{ from: url("app"), to: upstream, ...everyone }],
  }));
  const visitor = at.visitor();
  echoOf((await follow(visitor, at.url("app"))).end);
  const cookie = visitor.cookieHeader(new URL(at.url("app")));
  const { sessions } = await readOperatorApi<{ sessions: SessionView[] }>(at, "/sessions");
  const [own] = sessions;
  assert.ok(own?.idleAt !== null && own?.lastSeenAt !== null && own !== undefined);
  assert.equal(Date.parse(own.idleAt) - Date.parse(own.lastSeenAt), idleMs);
  const { users } = await readOperatorApi<{ users: UserView[] }>(at, "/users");
  assert.equal(users[0]?.lastSession?.id, own.id);
  await sleep(idleMs + 500);
  const [ended] = (await readOperatorApi<{ sessions: SessionView[] }>(at, "/sessions?status=all")).sessions;
  assert.deepEqual([ended?.status, ended?.reason], ["expired", "idle"]);
  assert.equal((await visitor.request(at.url("app"))).status, 302);
  assert.equal((await visitor.request(at.url("authenticate", "/.pomerium/api/v1/routes"))).status !== 200, true);
  const signOut = await visitor.request(at.url("authenticate", "/.pomerium/sign_out"));
  assert.equal(signOut.status, 200, "an idle session can still be signed out, so it is not only forgotten here");
  assert.match(signOut.body, /alice/);
  const again = await follow(visitor, at.url("app"));
  echoOf(again.end);
  assert.ok(again.hops.some(({ hostname }) => hostname === "idp.localhost"));
  assert.notEqual(visitor.cookieHeader(new URL(at.url("app"))), cookie);
  await at.activate({ session_idle_lifetime: "1h" });
  await sleep(idleMs + 500);
  assert.equal((await visitor.request(at.url("app"))).status, 200);
});

test("use of a session at one proxy counts at another, as soon as the leader knows it, and idle is idle on both", async (t) => {
  const at = await startInstallation(
    t,
    ({ url, upstream }) => ({
      routes: [{ from: url("strict"), to: upstream, ...everyone, session_idle_lifetime: "16s" }],
    }),
    "split",
    { otherProxy: true },
  );
  const visitor = at.visitor();
  echoOf((await follow(visitor, at.url("strict"))).end);
  const { host } = new URL(at.url("strict"));
  const statusAt = async (port: number): Promise<number> => {
    const headers = { host, cookie: visitor.cookieHeader(new URL(at.url("strict"))), accept: "application/json" };
    const sent = request({ host: "127.0.0.1", port, headers }).end();
    const [answer] = (await once(sent, "response")) as [IncomingMessage];
    answer.resume();
    return answer.statusCode ?? 0;
  };
  for (const until = Date.now() + 24_000; Date.now() < until; await sleep(400))
    assert.equal(await statusAt(at.port), 200);
  assert.equal(await statusAt(at.sparePort), 200, "it never saw the session in its idle lifetime");
  await sleep(17_000);
  for (const port of [at.port, at.sparePort]) assert.equal(await statusAt(port), 401);
});
