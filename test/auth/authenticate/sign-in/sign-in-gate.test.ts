/** Sign-in gate: when sign-ins start, and what each way of starting one answers while none can be recorded. */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { createSignInGate } from "../../../../src/auth/index.ts";
import { signIn, startWorld } from "../support.ts";

const limitMs = 8_000;

function aGate() {
  const leader = { silentMs: 0 };
  const lines: string[] = [];
  let refused = 0;
  const gate = createSignInGate({
    leaderSilentMs: () => leader.silentMs,
    limitMs: () => limitMs,
    onRefused() {
      refused += 1;
    },
    log: {
      info: (_, message) => void lines.push(`info ${message}`),
      warn: (_, message) => void lines.push(`warn ${message}`),
    },
  });
  return { gate, leader, lines, refused: () => refused };
}

describe("the sign-in gate", () => {
  test("is open up to the limit and closed beyond it, and counts what it refuses", () => {
    const { gate, leader, refused } = aGate();
    leader.silentMs = limitMs;
    assert.equal(gate.isOpen(), true);
    leader.silentMs = limitMs + 1;
    assert.deepEqual([gate.isOpen(), gate.isOpen(), refused()], [false, false, 2]);
    leader.silentMs = 20;
    assert.deepEqual([gate.isOpen(), refused()], [true, 2]);
  });

  test("is closed before the first answer of a leader", () => {
    const { gate, leader } = aGate();
    leader.silentMs = Number.POSITIVE_INFINITY;
    assert.equal(gate.isOpen(), false);
  });

  test("writes one line when it closes and one when it opens again", () => {
    const { gate, leader, lines } = aGate();
    for (const silentMs of [0, 9_000, 10_000, 11_000, 100, 200]) {
      leader.silentMs = silentMs;
      gate.isOpen();
    }
    assert.equal(lines.length, 2, lines.join("\n"));
    assert.match(lines[0] ?? "", /^warn no leader answers/);
    assert.match(lines[1] ?? "", /^info a leader answers again/);
  });
});

/** A world in which no leader answers, until it does. */
async function startClosed(t: TestContext) {
  const gate = { open: false };
  const world = await startWorld(t, { deps: (deps) => ({ ...deps, signIns: { isOpen: () => gate.open } }) });
  return { world, gate };
}

const login = `/.pomerium/api/v1/login?pomerium_redirect_uri=${encodeURIComponent("http://127.0.0.1:4711/done")}`;

describe("while no session can be recorded", () => {
  for (const [way, host, path] of [
    ["a sign-in that a person asks for", "app", "/.pomerium/sign_in"],
    ["an endpoint that requires a session", "app", "/.pomerium/user"],
    ["a command line's sign-in on a route's host", "app", login],
    ["a command line's sign-in on the authenticate host", "authenticate", login],
  ] as const)
    test(`${way} is refused at once: 503, when to retry, and no redirect`, async (t) => {
      const { world } = await startClosed(t);
      const browser = { accept: "text/html", "sec-fetch-mode": "navigate" };
      const page = await world.visitor().request(world.url(host, path), { headers: browser });
      assert.deepEqual([page.status, page.headers["retry-after"], page.location], [503, "5", null]);
      assert.match(page.body, /You can(?:'|&#39;)t sign in right now/);
      assert.equal(page.headers["cache-control"], "no-store");
      const json = { accept: "application/json", "sec-fetch-mode": "navigate" };
      const program = await world.visitor().request(world.url(host, path), { headers: json });
      if (path === "/.pomerium/user") return assert.equal(program.status, 401, "a program is never redirected");
      assert.equal(program.status, 503);
      assert.deepEqual(Object.keys(JSON.parse(program.body)), ["Status", "description", "RequestID"]);
    });

  test("the authenticate host does not send a person to the identity provider", async (t) => {
    const { world, gate } = await startClosed(t);
    const visitor = world.visitor();
    gate.open = true;
    const { location } = await visitor.request(world.url("app", "/.pomerium/sign_in"));
    gate.open = false;
    const page = await visitor.request(location ?? assert.fail());
    assert.deepEqual([page.status, page.location, page.url.hostname], [503, null, "authenticate.localhost"]);
    assert.ok(page.body.includes(`href="${world.url("app", "/.pomerium/")}"`), "the way back to the wanted page");
  });

  test("a person who is signed in continues on another host with that sign-in", async (t) => {
    const { world, gate } = await startClosed(t);
    const visitor = world.visitor();
    gate.open = true;
    await signIn(world, visitor, "alice");
    gate.open = false;
    const wanted = world.url("wiki", "/page");
    const path = `/.pomerium/sign_in?pomerium_redirect_uri=${encodeURIComponent(wanted)}`;
    const refused = await visitor.request(world.url("wiki", path));
    assert.equal(refused.status, 503);
    const existing = /href="([^"]+)"[^>]*>Use existing sign-in/.exec(refused.body)?.[1]?.replaceAll("&amp;", "&");
    const end = await visitor.navigate(new URL(existing ?? assert.fail(refused.body), refused.url));
    assert.deepEqual([end.status, end.url.href], [200, wanted], end.body);
    assert.match(end.body, /^hello alice/);
  });

  test("a person without a sign-in who tries to continue with one is not sent to the identity provider, even from a host that could record it", async (t) => {
    const { world, gate } = await startClosed(t);
    gate.open = true; // the authenticate host reaches the leader, the proxy that the person came from does not
    const end = await world.visitor().navigate(world.url("app", "/.pomerium/sign_in?pomerium_account=existing"));
    assert.deepEqual([end.status, end.url.hostname], [503, "authenticate.localhost"]);
  });

  test("a signed-in person's open sessions keep working", async (t) => {
    const { world, gate } = await startClosed(t);
    const visitor = world.visitor();
    gate.open = true;
    await signIn(world, visitor, "alice");
    gate.open = false;
    assert.match((await visitor.request(world.url("app", "/again"))).body, /^hello alice/);
    assert.equal((await visitor.request(world.url("app", "/.pomerium/user"))).status, 200);
  });
});
