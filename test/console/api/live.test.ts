/** `GET /live`, `/counts` and `/search`, and pages: what each caller gets, and when a stream ends. */
import assert from "node:assert/strict";
import { request } from "node:http";
import { type TestContext, test } from "node:test";
import { type ClusterView, healthOf } from "../../../src/console/api/live/health.ts";
import { createLiveHub } from "../../../src/console/api/live/live-hub.ts";
import { type Html, html } from "../../../src/console/index.ts";
import type { View } from "../../../src/console/views/view.ts";
import { signIn } from "../../auth/authenticate/support.ts";
import { compiled, route, source } from "../../auth/authorize/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { json, type OperatorWorld, startOperatorWorld } from "./operator-support.ts";

type Events = Readonly<{ seen: Readonly<{ event: string; data: unknown }>[]; isOver: () => boolean; status: number }>;

async function watch(
  t: TestContext,
  world: OperatorWorld,
  path: string,
  headers: Readonly<Record<string, string>>,
): Promise<Events> {
  const url = new URL(world.url(path));
  const { promise, resolve, reject } = Promise.withResolvers<Events>();
  const sent = request({
    host: "127.0.0.1",
    port: url.port,
    path: `${url.pathname}${url.search}`,
    headers: { host: url.host, ...headers },
  });
  sent.once("response", (response) => {
    const seen: { event: string; data: unknown }[] = [];
    let over = false;
    let text = "";
    response.setEncoding("utf8");
    response.on("data", (chunk: string) => {
      text += chunk;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const [, event = "", data = ""] = /^event: (.*)\ndata: (.*)$/.exec(text.slice(0, end)) ?? [];
        seen.push({ event, data: JSON.parse(data) });
        text = text.slice(end + 2);
      }
    });
    response.on("error", () => undefined);
    response.once("close", () => {
      over = true;
    });
    resolve({ seen, isOver: () => over, status: response.statusCode ?? 0 });
  });
  sent.once("error", reject);
  sent.end();
  t.after(() => sent.destroy());
  return promise;
}

const bearer = async (world: OperatorWorld, parts = {}): Promise<Record<string, string>> => ({
  authorization: `Bearer ${await world.token(parts)}`,
});

test("a stream has the state, the counts and a sign of life, and what changes follows", async (t) => {
  const world = await startOperatorWorld(t);
  const { seen } = await watch(t, world, "/live?topics=status,counts", await bearer(world));
  const last = (event: string) =>
    seen.findLast((each) => each.event === event)?.data as Record<string, unknown> | undefined;
  await waitFor(
    "the first events",
    () => last("alive") !== undefined && last("status") !== undefined && last("counts")?.["sessions"] === 0,
  );
  assert.match(JSON.stringify(last("status")), /"rule":"healthyOne"/);
  await signIn(world.world, world.world.visitor(), "bob");
  await waitFor("the count of sessions", () => last("counts")?.["sessions"] === 1 && last("counts")?.["people"] === 1);
  assert.deepEqual(json(await world.get("/counts")).sessions, 1);
});

test("a stream ends with the token, and one that is limited to some routes has only the sign of life", async (t) => {
  const world = await startOperatorWorld(t);
  const short = await watch(t, world, "/live?topics=status", await bearer(world, { ttlS: 2 }));
  const limited = await watch(
    t,
    world,
    "/live?topics=status,counts",
    await bearer(world, { role: "viewer", routeGroups: ["shop"] }),
  );
  assert.equal(limited.status, 200);
  await waitFor("a sign of life", () => limited.seen.length > 0);
  await waitFor("the end of the token", () => short.isOver());
  assert.deepEqual([...new Set(limited.seen.map(({ event }) => event))], ["alive"]);
  assert.equal((await world.get("/live?topics=everything")).status, 400);
});

test("a hub makes a topic once for all, gives the newest to the slow, and cuts off who reads no events", () => {
  let started = 0;
  let publish: ((data: object) => void) | undefined;
  let stopped = 0;
  const source = (kind: "state" | "event") => ({
    kind,
    unconfined: true,
    run(say: (data: object) => void, signal: AbortSignal) {
      started += 1;
      publish = say;
      signal.addEventListener("abort", () => {
        stopped += 1;
      });
    },
  });
  const hub = createLiveHub({ status: source("state") });
  const [first, second] = [hub.watch(["status"]), hub.watch(["status"])];
  assert.ok(first !== null && second !== null);
  publish?.({ n: 1 });
  publish?.({ n: 2 });
  publish?.({ n: 2 });
  assert.equal(first.take(), 'event: status\ndata: {"n":2}\n\n');
  assert.equal(first.take(), "");
  const late = hub.watch(["status"]);
  assert.equal(late?.take(), 'event: status\ndata: {"n":2}\n\n');
  for (const watcher of [first, second, late]) watcher?.end();
  assert.deepEqual([started, stopped, hub.watchers], [1, 1, 0]);

  const events = createLiveHub({ change: source("event") });
  const slow = events.watch(["change"]);
  for (let i = 0; i < 300; i++) publish?.({ text: "x".repeat(1_000) });
  assert.equal(slow?.isCutOff(), true);
  const many = Array.from({ length: 200 }, () => events.watch([]));
  assert.equal(many.at(-1), null, "the number of streams is bounded");
});

const shop = route({
  id: "shop-1",
  from: new URL("https://shop.example.com"),
  host: "shop.example.com",
  policy: source({ allow: { and: [{ groups: { has: "eng" } }] } }),
});
const policies = compiled(shop);
const policy = policies.get(shop.id) ?? assert.fail();

test("a search finds people, groups, routes and ids, and nothing outside the caller's rights", async (t) => {
  const world = await startOperatorWorld(t, {
    routes: [{ id: "shop-1", from: "https://shop.example.com/", policy, routeGroups: ["shop"] }],
  });
  await signIn(world.world, world.world.visitor(), "bob");
  const [session] = [...world.world.replica.projection.sessions()];
  const find = async (q: string, headers?: Record<string, string>): Promise<string[]> => {
    const answer = await world.get(`/search?${new URLSearchParams({ q })}`, headers === undefined ? {} : { headers });
    return json(answer).hits.map(({ kind, href }: { kind: string; href: string }) => `${kind} ${href.split("/")[3]}`);
  };
  assert.deepEqual(await find("BOB@"), ["person people"]);
  assert.deepEqual(await find("shop.ex"), ["route access?route=shop-1"]);
  assert.deepEqual(await find("no such thing"), []);
  assert.deepEqual(await find(session?.sessionId ?? ""), ["session sessions", "request decisions"]);
  assert.deepEqual(await find("2"), ["change changes"]);
  assert.deepEqual(await find("999999"), []);
  const limited = await bearer(world, { role: "viewer", routeGroups: ["other"] });
  assert.deepEqual(await find("shop.ex", limited), []);
  assert.deepEqual(await find("BOB@", limited), []);
  assert.deepEqual(await find(session?.sessionId ?? "", limited), ["request decisions"]);
  assert.deepEqual(await find(""), []);
  assert.equal((await world.get(`/search?q=${"x".repeat(300)}`)).status, 400);
});

const openView: View = {
  id: "open",
  path: "/open",
  menu: null,
  scoped: true,
  role: "operator",
  async render({ call }) {
    const answer = await call("GET /users");
    const content: Html = html`<p>${answer.type === "answered" ? "listed" : answer.status}</p>`;
    return { title: "Open", lead: "", command: null, content };
  },
};

test("a page needs its role, asks with the reader's rights, and each refusal and read is recorded", async (t) => {
  const world = await startOperatorWorld(t, { console: { views: [openView] } });
  const page = (path: string, headers: Record<string, string>) =>
    world.visitor.request(world.world.url("authenticate", `/.pomerium/admin${path}`), { headers });
  const full = await page("/open", await bearer(world));
  assert.equal(full.status, 200);
  assert.match(full.body, /<p>listed<\/p>/);
  assert.match(
    String(full.headers["content-security-policy"]),
    /script-src 'self';.*frame-ancestors 'none';.*trusted-types 'none'/,
  );
  assert.equal(full.headers["cache-control"], "no-store");
  assert.doesNotMatch(full.body, /<style|style=|<script(?![^>]* src=)| on[a-z]+=/);
  assert.ok(world.accesses.some(({ command }) => command === "GET /users"));
  const low = await page("/open", await bearer(world, { role: "viewer" }));
  assert.equal(low.status, 403);
  assert.match(low.body, /needs the role operator/);
  assert.doesNotMatch(low.body, /listed/);
  const limited = await page("/open", await bearer(world, { role: "operator", routeGroups: ["shop"] }));
  assert.match(limited.body, /<p>403<\/p>/);
  assert.equal((await page("/open", { authorization: "Bearer nonsense" })).status, 401);
  assert.equal((await page("/nowhere", await bearer(world))).status, 404);
  assert.equal(
    (await page("/api/v1/nowhere", await bearer(world))).headers["content-type"]?.toString().includes("json"),
    true,
  );
  const anonymous = await world.visitor.request(world.world.url("authenticate", "/.pomerium/admin/open?x=1"));
  assert.equal(anonymous.status, 302);
  assert.equal(
    anonymous.location?.searchParams.get("pomerium_redirect_uri"),
    world.world.url("authenticate", "/.pomerium/admin/open?x=1"),
  );
});

test("a page of a node that has lost its lease says that it cannot confirm what it shows", async (t) => {
  const world = await startOperatorWorld(t, { console: { views: [openView], fresh: () => false } });
  const headers = await bearer(world);
  const page = await world.visitor.request(world.world.url("authenticate", "/.pomerium/admin/open"), { headers });
  assert.match(page.body, /data-stale>This node can&#39;t confirm what it shows/);
});

test("a page and a stream of a node that is behind say what is seen and how many events it lacks", async (t) => {
  const world = await startOperatorWorld(t, { console: { views: [openView] } });
  let behind: ReturnType<typeof world.world.replica.behind> = null;
  Object.assign(world.world.replica, { behind: () => behind });
  const headers = await bearer(world);
  const page = async () =>
    (await world.visitor.request(world.world.url("authenticate", "/.pomerium/admin/open"), { headers })).body;
  const { seen } = await watch(t, world, "/live?topics=", headers);
  const last = () => (seen.at(-1)?.data as { standing?: Record<string, unknown> } | undefined)?.standing;
  await waitFor("the first sign of life", () => last()?.["type"] === "current");
  behind = { events: 38, ms: 1_900 };
  assert.doesNotMatch(await page(), /data-stale/, "as far as any event on its way");
  behind = { events: 1, ms: 2_100 };
  assert.match(await page(), /data-stale>You&#39;re seeing \d\d:\d\d:\d\d UTC, 1 event behind\./);
  behind = { events: 1_038, ms: 61_000 };
  assert.match(
    await page(),
    /data-standing="behind"[\s\S]*data-stale>You&#39;re seeing [\d:]{8} UTC, 1,038 events behind\./,
  );
  await waitFor("the delay", () => last()?.["type"] === "behind" && last()?.["events"] === 1_038);
  const seenAgoMs = Date.now() - Date.parse(String(last()?.["seenAt"]));
  assert.ok(seenAgoMs >= 61_000 && seenAgoMs < 66_000, String(seenAgoMs));
  assert.equal(json(await world.get("/counts")).standing.type, "behind");
  behind = null;
  await waitFor("the end of the delay", () => last()?.["type"] === "current");
});

test("a page of another site can neither load nor frame the console with the operator's session", async (t) => {
  const world = await startOperatorWorld(t, { console: { views: [openView] } });
  const visitor = world.world.visitor();
  await signIn(world.world, visitor, "alice");
  const get = (headers: Record<string, string>) =>
    visitor.request(world.world.url("authenticate", "/.pomerium/admin/open"), { headers });
  const typed = { "sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
  assert.equal((await get(typed)).status, 200);
  assert.equal((await get({ ...typed, "sec-fetch-site": "cross-site" })).status, 200, "a link in a chat leads here");
  for (const dest of ["iframe", "embed", "script", "image", "empty"])
    assert.equal((await get({ ...typed, "sec-fetch-site": "cross-site", "sec-fetch-dest": dest })).status, 403, dest);
});

test("the state never claims more than the brokers say: silence is unknown, and the position is that of the slowest", async (t) => {
  const broken = { on: false };
  const world = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      status: (options) => (broken.on ? Promise.reject(new Error("no broker answers")) : inner.status(options)),
    }),
  });
  const { seen } = await watch(t, world, "/live?topics=status", await bearer(world));
  const last = (): string => JSON.stringify(seen.findLast(({ event }) => event === "status")?.data ?? {});
  await waitFor("the state", () => last().includes('"rule":"healthyOne"'));
  broken.on = true;
  await waitFor("that it is unknown", () => last().includes('"rule":"unanswered"'));
  assert.match(last(), /"node":"node-1".*"kind":"waiting","position":null,"lag":null,"leaseMs":null/);
  broken.on = false;
  await waitFor("the state again", () => last().includes('"rule":"healthyOne"'));

  const node = (name: string, lag: number | null): ClusterView["nodes"][number] =>
    ({ node: name, lag, configHash: null, fencedInMs: 4_000, digestMismatch: false }) as never;
  const leader = { brokerId: "b", epoch: 1, head: { position: 500 } };
  const health = (...lags: readonly (number | null)[]): unknown => {
    const { kind, rule, values } = healthOf({ leader, nodes: lags.map((lag, i) => node(`n${i}`, lag)) });
    return [kind, rule, ...values];
  };
  assert.deepEqual(health(0, 20), ["good", "healthy", 2, 480]);
  assert.deepEqual(health(3), ["good", "healthyOne", 497]);
  assert.deepEqual(health(0, null), ["waiting", "unreported", "n1"]);
});
