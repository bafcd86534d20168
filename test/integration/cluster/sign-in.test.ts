/**
 * Sign-in and groups on a real cluster of separate processes: people sign in with the demo provider through a proxy's
 * gateway and continue on any node. Group changes by an operator or by the provider take effect on every node.
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

/** A browser whose requests go to proxy number `n`; those to the provider go to its own port. */
function browserAt(n: (step: number, url: URL) => number): Browser {
  return startBrowser((url, step) =>
    url.hostname === "idp.localhost" ? Number(url.port) : cluster.proxy(n(step, url)).ports.address,
  );
}

const urlOf = (route: string): string => `http://${cluster.host(route)}/`;
const cookieName = (): string => cluster.config.cookie.name;

async function signIn(user: string, route = "app"): Promise<{ browser: Browser; cookie: string }> {
  const browser = browserAt(() => 1);
  const arrival = await browser.navigate(urlOf(route), { user });
  assert.ok(arrival.status === 200 || arrival.status === 403, `${arrival.status} at ${arrival.url}`);
  return { browser, cookie: cookieAt(browser, route) };
}

/** Opens another route in a browser that is signed in. @returns its session cookie there */
async function openRoute(browser: Browser, route: string): Promise<string> {
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

/** Asserts one redirect round: no request repeats, except the page itself, requested first and shown last. */
function assertOneRound({ steps, permitted, status }: Navigation): void {
  const requests = steps.map(({ method, url }) => `${method} ${url.host}${url.pathname}`);
  assert.equal(status, 200, requests.join(" → "));
  assert.equal(permitted, true);
  const twice = requests.filter((request, i) => requests.indexOf(request) !== i);
  assert.deepEqual(twice, [requests[0]], requests.join(" → "));
  assert.equal(requests.at(-1), requests[0]);
}

const hostsOf = (steps: readonly Step[]): string[] => [...new Set(steps.map(({ url }) => url.hostname))];

test("a person signs in through a proxy's gateway in one round of redirects, and every node permits them", async () => {
  const browser = browserAt(() => 1);
  const arrival = await browser.navigate(urlOf("app"), { user: "alice" });
  assertOneRound(arrival);
  assert.deepEqual(hostsOf(arrival.steps), ["app.localhost", "authenticate.localhost", "idp.localhost"]);
  assert.match(arrival.body, /x-pomerium-jwt-assertion/, "the upstream receives the identity assertion");
  for (const n of [1, 2]) assert.equal((await ask(at(n, "app", cookieAt(browser, "app")))).permitted, true);

  const second = await browser.navigate(urlOf("strict"));
  assertOneRound(second);
  assert.ok(!hostsOf(second.steps).includes("idp.localhost"), "one sign-in serves every route");
});

test("a session signed out on one node is refused on every other", async () => {
  const { browser, cookie } = await signIn("alice");
  const socket = await openSocket(at(2, "app", cookie));
  const signedOut = await browser.navigate(`${urlOf("app")}.pomerium/sign_out`);
  assert.equal(signedOut.status, 200, `${signedOut.url}`);
  assert.ok(hostsOf(signedOut.steps).includes("authenticate.localhost"));
  assert.equal((await socket.closed).code, 4401);
  for (const n of [1, 2])
    await waitFor(`proxy ${n} to refuse the session`, async () => !(await ask(at(n, "app", cookie))).permitted);
});

/**
 * Requests a page of proxy 2 with a session whose creation it has not applied. Retries, since a grant may trigger a
 * read in time.
 */
async function requestFromLaggingNode(): Promise<void> {
  await waitFor("a request to a node that lags", async () => {
    const session = await cluster.session("alice");
    const applied = await cluster.proxy(2).metric("cardea_replica_applied");
    const reply = await cluster.get(cluster.proxy(2), "app", session);
    assert.deepEqual([reply.status, reply.permitted], [200, true], "no redirect to sign-in");
    return applied < session.link.position;
  });
}

test("a sign-in that continues on a node whose fan-out is 3 s late takes one round of redirects", async () => {
  cluster.relays.nats.delay(3_000);
  try {
    // The first node leads to the provider; the other one receives the callback and what follows.
    let passed = false;
    const browser = browserAt((_step, url) => {
      passed ||= url.pathname === "/oauth2/callback";
      return passed ? 2 : 1;
    });
    assertOneRound(await browser.navigate(urlOf("app"), { user: "bob" }));
    // The whole sign-in on one node, and the next request on the other.
    const { cookie } = await signIn("carol");
    const reply = await ask({
      ...at(2, "app", cookie),
      headers: { accept: "text/html", "sec-fetch-mode": "navigate" },
    });
    assert.deepEqual([reply.status, reply.permitted], [200, true]);
    await requestFromLaggingNode();
  } finally {
    cluster.relays.nats.delay(0);
  }
});

test("a sign-in that continues on a node without NATS takes one round of redirects", async () => {
  cluster.relays.nats.cut();
  try {
    const browser = browserAt((step) => (step === 0 ? 1 : 2));
    assertOneRound(await browser.navigate(urlOf("app"), { user: "bob" }));
    for (let i = 0; i < 10; i++) {
      const reply = await cluster.get(cluster.proxy(2), "app", await cluster.session("alice"));
      assert.deepEqual([reply.status, reply.permitted], [200, true]);
    }
  } finally {
    cluster.relays.nats.restore();
  }
});

test("a node that is cut off answers 503 to a session it does not know, and does not redirect to sign-in", async () => {
  const { relays } = cluster;
  const knownSession = await cluster.session("alice");
  assert.equal((await cluster.get(cluster.proxy(2), "app", knownSession)).permitted, true);
  for (const relay of [relays.nats, ...relays.brokers]) relay.freeze();
  try {
    const unknownSession = await cluster.session("alice");
    const answer = await cluster.getOnce(cluster.proxy(2), "app", unknownSession);
    assert.equal(answer.status, 503);
    assert.ok(answer.headers["retry-after"] !== undefined);
    assert.equal(
      (await cluster.get(cluster.proxy(2), "app", knownSession)).permitted,
      true,
      "a session that the node knows is served",
    );
  } finally {
    for (const relay of [relays.nats, ...relays.brokers]) relay.thaw();
  }
  await cluster.proxy(2).ready();
});

test("when an operator adds a person to a group and removes them, every node follows at once and cuts only that route's sockets", async () => {
  const { browser, cookie } = await signIn("bob", "eng");
  const appCookie = await openRoute(browser, "app");
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
    assert.equal(socket.isOpen(), true, "a socket of another route stays open");
    socket.close();
  }
});

test("a group that the provider adds or removes takes effect on every node with the next refresh", async () => {
  const { cookie } = await signIn("carol", "eng");
  for (const n of [1, 2]) assert.equal((await ask(at(n, "eng", cookie))).permitted, true, "carol is in eng");
  const sockets = await Promise.all([1, 2].map((n) => openSocket(at(n, "eng", cookie))));
  const untilEveryNodeAnswers = (what: string, wanted: number): Promise<boolean> =>
    waitFor(
      what,
      async () => {
        const answers = await Promise.all([1, 2].map((n) => ask(at(n, "eng", cookie))));
        return answers.every(({ status }) => status === wanted);
      },
      { withinMs: 30_000 },
    );

  await setGroups("carol", ["sales"]);
  await untilEveryNodeAnswers("the refresh to take the group away on every node", 403);
  for (const socket of sockets) assert.equal((await socket.closed).code, 4403);
  await setGroups("carol", ["sales", "eng"]);
  await untilEveryNodeAnswers("the refresh to bring the group back on every node", 200);

  const removed = await cluster.cardea("groups", "remove", "eng", "carol", "--wait");
  assert.equal(removed.code, 0, removed.err);
  const before = await refreshes();
  await waitFor("two more refreshes", async () => (await refreshes()) >= before + 2, { withinMs: 30_000 });
  for (const n of [1, 2])
    assert.equal((await ask(at(n, "eng", cookie))).status, 403, "a refresh does not undo an operator's removal");
  assert.equal((await cluster.cardea("groups", "add", "eng", "carol", "--wait")).code, 0);
  for (const n of [1, 2])
    assert.equal((await ask(at(n, "eng", cookie))).permitted, true, "an operator undoes the removal");
});

/** Sets a person's groups through the control listener of the demo provider. */
async function setGroups(user: string, groups: readonly string[]): Promise<void> {
  const url = new URL(`/demo/users/${user}/groups`, cluster.provider.controlUrl ?? "");
  const answer = await fetch(url, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(groups),
  });
  assert.equal(answer.status, 200);
}

/** The number of refreshes so far: counts the values of `refreshedAt` that the operator API has shown for carol. */
const refreshTimes = new Set<string>();
async function refreshes(): Promise<number> {
  const { body } = await cluster.operator.get("/sessions?user=carol");
  const { sessions } = JSON.parse(body) as { sessions: { refreshedAt: string | null }[] };
  for (const { refreshedAt } of sessions) if (refreshedAt !== null) refreshTimes.add(refreshedAt);
  return refreshTimes.size;
}
