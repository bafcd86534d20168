/**
 * Sign-in and groups on a real cluster, every service a process of its own: people sign in with the demo provider
 * through a proxy's gateway and land on any node; what an operator or the provider says of their groups counts
 * everywhere at once.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { type Browser, type Navigation, type Step, startBrowser } from "./browser.ts";
import { sendUntilDecided as ask, openSocket } from "./client.ts";
import { type Cluster, startCluster } from "./cluster.ts";

let cluster: Cluster;

before(
  async () => {
    cluster = await startCluster({ timing: "default", regions: ["north", "south"], relayed: "proxy-2" });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

/** A browser whose steps land on the proxy that `n` names; the provider is where it says it is. */
function browserAt(n: (step: number, url: URL) => number): Browser {
  return startBrowser((url, step) =>
    url.hostname === "idp.localhost" ? Number(url.port) : cluster.proxy(n(step, url)).ports.address,
  );
}

const urlOf = (route: string): string => `http://${cluster.host(route)}/`;
const cookieName = (): string => cluster.config.cookie.name;

async function person(user: string, route = "app"): Promise<{ browser: Browser; cookie: string }> {
  const browser = browserAt(() => 1);
  const arrival = await browser.navigate(urlOf(route), { user });
  assert.ok(arrival.status === 200 || arrival.status === 403, `${arrival.status} at ${arrival.url}`);
  return { browser, cookie: cookieAt(browser, route) };
}

/** Also on a second host of somebody who is signed in. */
async function visit(browser: Browser, route: string): Promise<string> {
  await browser.navigate(urlOf(route));
  return cookieAt(browser, route);
}

function cookieAt(browser: Browser, route: string): string {
  const value = browser.cookie(`${route}.localhost`, cookieName());
  assert.ok(value !== undefined);
  return `${cookieName()}=${value}`;
}

const at = (n: number, route: string, cookie: string) => ({
  port: cluster.proxy(n).ports.address,
  host: cluster.host(route),
  cookie,
});

/** Once round: no place twice, but for the page itself, which is asked for at the start and shown at the end. */
function assertOneRound({ steps, permitted, status }: Navigation): void {
  const places = steps.map(({ method, url }) => `${method} ${url.host}${url.pathname}`);
  assert.equal(status, 200, places.join(" → "));
  assert.equal(permitted, true);
  const twice = places.filter((place, i) => places.indexOf(place) !== i);
  assert.deepEqual(twice, [places[0]], places.join(" → "));
  assert.equal(places.at(-1), places[0]);
}

const hostsOf = (steps: readonly Step[]): string[] => [...new Set(steps.map(({ url }) => url.hostname))];

test("a person signs in through a proxy's gateway to authenticate, in one round, and every node permits them", async () => {
  const browser = browserAt(() => 1);
  const arrival = await browser.navigate(urlOf("app"), { user: "alice" });
  assertOneRound(arrival);
  assert.deepEqual(hostsOf(arrival.steps), ["app.localhost", "authenticate.localhost", "idp.localhost"]);
  assert.match(arrival.body, /x-pomerium-jwt-assertion/, "the upstream is told who asks");
  for (const n of [1, 2]) assert.equal((await ask(at(n, "app", cookieAt(browser, "app")))).permitted, true);

  const second = await browser.navigate(urlOf("strict"));
  assertOneRound(second);
  assert.ok(!hostsOf(second.steps).includes("idp.localhost"), "one sign-in serves every route");
});

test("signed out on one node, refused on every other", async () => {
  const { browser, cookie } = await person("alice");
  const socket = await openSocket(at(2, "app", cookie));
  const left = await browser.navigate(`${urlOf("app")}.pomerium/sign_out`);
  assert.equal(left.status, 200, `${left.url}`);
  assert.ok(hostsOf(left.steps).includes("authenticate.localhost"));
  assert.equal((await socket.closed).code, 4401);
  for (const n of [1, 2])
    await waitFor(`proxy ${n} to have heard of it`, async () => !(await ask(at(n, "app", cookie))).permitted);
});

/**
 * A session that proxy 2 has not heard of yet when it is asked: tried until the node is seen to be behind, since a
 * grant may tell it sooner.
 */
async function landBehind(): Promise<void> {
  await waitFor("to land on a node that is behind", async () => {
    const session = await cluster.session("alice");
    const applied = await cluster.proxy(2).metric("cardea_replica_applied");
    const landed = await cluster.get(cluster.proxy(2), "app", session);
    assert.deepEqual([landed.status, landed.permitted], [200, true], "no redirect to sign-in");
    return applied < session.link.position;
  });
}

test("signing in on one node and landing on another whose fan-out is 3 s late is one round, and no loop", async () => {
  cluster.relays.nats.delay(3_000);
  try {
    // As far as the provider on one node, and from its answer on at the other.
    let passed = false;
    const browser = browserAt((_step, url) => {
      passed ||= url.pathname === "/oauth2/callback";
      return passed ? 2 : 1;
    });
    assertOneRound(await browser.navigate(urlOf("app"), { user: "bob" }));
    // All of it on one node, and the next request on the other.
    const { cookie } = await person("carol");
    const landed = await ask({
      ...at(2, "app", cookie),
      headers: { accept: "text/html", "sec-fetch-mode": "navigate" },
    });
    assert.deepEqual([landed.status, landed.permitted], [200, true]);
    await landBehind();
  } finally {
    cluster.relays.nats.delay(0);
  }
});

test("landing on a node that has no NATS at all is one round as well", async () => {
  cluster.relays.nats.cut();
  try {
    const browser = browserAt((step) => (step === 0 ? 1 : 2));
    assertOneRound(await browser.navigate(urlOf("app"), { user: "bob" }));
    for (let i = 0; i < 10; i++) {
      const landed = await cluster.get(cluster.proxy(2), "app", await cluster.session("alice"));
      assert.deepEqual([landed.status, landed.permitted], [200, true]);
    }
  } finally {
    cluster.relays.nats.restore();
  }
});

test("a node that can reach nobody answers 503 to a session it has not heard of, and never a redirect to sign-in", async () => {
  const { relays } = cluster;
  const known = await cluster.session("alice");
  assert.equal((await cluster.get(cluster.proxy(2), "app", known)).permitted, true);
  for (const relay of [relays.nats, ...relays.brokers]) relay.freeze();
  try {
    const unheard = await cluster.session("alice");
    const answer = await cluster.getOnce(cluster.proxy(2), "app", unheard);
    assert.equal(answer.status, 503);
    assert.ok(answer.headers["retry-after"] !== undefined);
    assert.equal((await cluster.get(cluster.proxy(2), "app", known)).permitted, true, "what it knows it serves");
  } finally {
    for (const relay of [relays.nats, ...relays.brokers]) relay.thaw();
  }
  await cluster.proxy(2).ready();
});

test("an operator puts somebody into a group and takes them out: every node decides so at once, and cuts that route's sockets only", async () => {
  const { browser, cookie } = await person("bob", "eng");
  const appCookie = await visit(browser, "app");
  for (const n of [1, 2]) assert.equal((await ask(at(n, "eng", cookie))).status, 403);

  const added = await cluster.cardea("groups", "add", "eng", "bob", "--wait");
  assert.equal(added.code, 0, added.err);
  for (const n of [1, 2]) assert.equal((await ask(at(n, "eng", cookie))).permitted, true);

  const onEng = await Promise.all([1, 2].map((n) => openSocket(at(n, "eng", cookie))));
  const onApp = await Promise.all([1, 2].map((n) => openSocket(at(n, "app", appCookie))));
  const removed = await cluster.cardea("groups", "remove", "eng", "bob", "--wait", "--json");
  assert.equal(removed.code, 0, removed.err);
  const { receipt } = JSON.parse(removed.out.trim().split("\n").at(-1) ?? "") as {
    receipt: { nodes: { node: string; status: string }[] };
  };
  assert.deepEqual(
    receipt.nodes.map(({ node, status }) => `${node} ${status}`),
    ["authenticate applied", "proxy-1 applied", "proxy-2 applied"],
  );
  for (const n of [1, 2]) assert.equal((await ask(at(n, "eng", cookie))).status, 403);
  for (const socket of onEng) assert.deepEqual(await socket.closed, { code: 4403, reason: "no longer permitted" });
  for (const socket of onApp) {
    const ticks = socket.ticks();
    await waitFor("ticks", () => socket.ticks() > ticks + 2);
    assert.equal(socket.isOpen(), true, "the right to another route is not touched");
    socket.close();
  }
});

test("a group that the provider names counts on every node after the next refresh, and no longer when it names it no more", async () => {
  const { cookie } = await person("carol", "eng");
  for (const n of [1, 2]) assert.equal((await ask(at(n, "eng", cookie))).permitted, true, "carol is in eng");
  const sockets = await Promise.all([1, 2].map((n) => openSocket(at(n, "eng", cookie))));
  const everywhere = (what: string, wanted: number): Promise<boolean> =>
    waitFor(
      what,
      async () => {
        const answers = await Promise.all([1, 2].map((n) => ask(at(n, "eng", cookie))));
        return answers.every(({ status }) => status === wanted);
      },
      { withinMs: 30_000 },
    );

  await setGroups("carol", ["sales"]);
  await everywhere("the refresh to take the group away on every node", 403);
  for (const socket of sockets) assert.equal((await socket.closed).code, 4403);
  await setGroups("carol", ["sales", "eng"]);
  await everywhere("the refresh to bring the group back on every node", 200);

  const removed = await cluster.cardea("groups", "remove", "eng", "carol", "--wait");
  assert.equal(removed.code, 0, removed.err);
  const before = await refreshes();
  await waitFor("two more refreshes", async () => (await refreshes()) >= before + 2, { withinMs: 30_000 });
  for (const n of [1, 2])
    assert.equal((await ask(at(n, "eng", cookie))).status, 403, "an operator's removal is not lifted");
  assert.equal((await cluster.cardea("groups", "add", "eng", "carol", "--wait")).code, 0);
  for (const n of [1, 2]) assert.equal((await ask(at(n, "eng", cookie))).permitted, true, "but by an operator");
});

/** By the demo provider's own control listener, as from a terminal. */
async function setGroups(user: string, groups: readonly string[]): Promise<void> {
  const url = new URL(`/demo/users/${user}/groups`, cluster.provider.controlUrl ?? "");
  const answer = await fetch(url, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(groups),
  });
  assert.equal(answer.status, 200);
}

/** How many refreshes the log has seen: the newest `refreshedAt` that the operator API shows for carol counts them. */
const seen = new Set<string>();
async function refreshes(): Promise<number> {
  const { body } = await cluster.operator.get("/sessions?user=carol");
  const { sessions } = JSON.parse(body) as { sessions: { refreshedAt: string | null }[] };
  for (const { refreshedAt } of sessions) if (refreshedAt !== null) seen.add(refreshedAt);
  return seen.size;
}
