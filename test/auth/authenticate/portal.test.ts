/** `/.pomerium/routes`: what a person may reach, and which refused routes they may know of. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createRouteCatalog, type RouteCatalog } from "../../../src/auth/index.ts";
import type { RouteConfig } from "../../../src/config/index.ts";
import { describeRoute } from "../../../src/console/index.ts";
import { compiled, route, source } from "../authorize/support.ts";
import { signIn, startWorld, type World } from "./support.ts";

const portal = "/.pomerium/routes";
const list = "/.pomerium/api/v1/routes";
const eng = source({ allow: { and: [{ groups: { has: "eng" } }] } });
const at = (host: string) => ({ host, from: new URL(`https://${host}`) });
const tunnel = (kind: "tcp" | "udp", host: string, port: number): Partial<RouteConfig> => ({
  tunnel: { kind, targets: [{ host, port }], behindProxy: false },
  ...at(host),
});
const any = { allowAnyAuthenticatedUser: true } as const;
const routes = [
  route({ id: "wiki", name: "Wiki", description: "How we work", owner: "Docs team", ...any, ...at("wiki.example") }),
  route({ id: "ci", name: "CI", policy: eng, ...at("ci.example") }),
  route({ id: "payroll", name: "Payroll", policy: eng, owner: "the payroll team", discoverable: true }),
  route({
    id: "denied",
    name: "Not for sales",
    discoverable: true,
    policy: source({ allow: { and: [{ authenticated_user: true }] }, deny: { or: [{ groups: { has: "sales" } }] } }),
  }),
  route({ id: "db", name: "Database", ...any, ...tunnel("tcp", "db.example", 5_432) }),
  route({ id: "host", name: "Build host", ...any, ...tunnel("tcp", "build.example", 22) }),
  route({ id: "dns", name: "Names", ...any, ...tunnel("udp", "dns.example", 53) }),
  route({
    id: "kube",
    name: "Cluster",
    ...any,
    ...at("kube.example"),
    kubernetes: { token: "t", tokenFile: null },
  } as Partial<RouteConfig> & Readonly<{ id: string }>),
];

function start(
  t: TestContext,
  {
    catalog = createRouteCatalog({ routes, policies: compiled(...routes) }),
    ...deps
  }: Partial<World["deps"]> & Readonly<{ catalog?: RouteCatalog }> = {},
): Promise<World> {
  return startWorld(t, { deps: (plain) => ({ ...plain, describeRoute, ...deps, routes: catalog }) });
}

async function visitorOf(world: World, user: string): Promise<ReturnType<World["visitor"]>> {
  const visitor = world.visitor();
  await signIn(world, visitor, user);
  return visitor;
}

/** The tiles of a section: the ids of its routes. */
function tiles(page: string, part: string): readonly string[] {
  const section = new RegExp(`<section data-part="${part}">(.*?)</section>`, "s").exec(page)?.[1] ?? "";
  return [...section.matchAll(/<li data-id="([^"]*)"/g)].map(([, id = ""]) => id);
}

test("a person sees the routes that the whole policy permits, by name, and of the others the discoverable ones", async (t) => {
  const world = await start(t);
  const alice = await (await visitorOf(world, "alice")).request(world.url("app", portal));
  assert.equal(alice.status, 200);
  assert.equal(alice.headers["cache-control"], "no-store");
  assert.deepEqual(tiles(alice.body, "web"), ["ci", "denied", "payroll", "wiki"]);
  assert.deepEqual(tiles(alice.body, "terminal"), ["host", "kube", "db", "dns"]);
  assert.deepEqual(tiles(alice.body, "refused"), []);
  assert.ok(alice.body.includes("Owner: Docs team"));

  const bob = await (await visitorOf(world, "bob")).request(world.url("app", portal));
  assert.deepEqual(tiles(bob.body, "web"), ["wiki"]);
  assert.deepEqual(tiles(bob.body, "refused"), ["denied", "payroll"], "the deny side counts too");
  assert.ok(bob.body.includes("Only members of eng have access."));
  assert.ok(bob.body.includes("Ask the payroll team for access."));
  assert.doesNotMatch(bob.body, /ci\.example/, "a route that is not discoverable does not exist for him");

  const { body } = await (await visitorOf(world, "bob")).request(world.url("app", `${list}?show=refused`));
  assert.deepEqual(
    (JSON.parse(body) as { routes: { id: string; explain: string[] }[] }).routes.map(({ id, explain }) => [
      id,
      explain,
    ]),
    [
      ["denied", ["Access needs a sign-in.", "Blocked: group sales."]],
      ["payroll", ["Only members of eng have access."]],
    ],
    "programs get sentences",
  );
});

test("routes for a terminal come with the command to copy", async (t) => {
  const world = await start(t);
  const { body } = await (await visitorOf(world, "alice")).request(world.url("app", portal));
  const port = `:${world.port}`;
  for (const command of [
    `cardea tcp db.example:5432 --proxy-url https://db.example${port}`,
    `cardea udp dns.example:53 --proxy-url https://dns.example${port}`,
    `ssh -o ProxyCommand=&quot;cardea ssh-proxy %h %p --proxy-url https://build.example${port}&quot; build.example`,
    `kubectl config set-cluster kube.example${port} --server=https://kube.example${port} &amp;&amp; kubectl config set-credentials`,
  ])
    assert.ok(body.includes(`data-copy="${command}`), command);
});

test("a search finds words in any order, and a list for programs is one page of it", async (t) => {
  const world = await start(t);
  const visitor = await visitorOf(world, "alice");
  const found = await visitor.request(world.url("app", `${portal}?q=work+WIKI`));
  assert.deepEqual(tiles(found.body, "web"), ["wiki"]);
  const nothing = await visitor.request(world.url("app", `${portal}?q=%3Cscript%3E`));
  assert.ok(nothing.body.includes("Nothing matches “&lt;script&gt;”."));
  const ids = async (query: string): Promise<readonly [readonly string[], string | null]> => {
    const { body } = await visitor.request(world.url("app", `${list}?${query}`));
    const { routes: page, next } = JSON.parse(body) as { routes: { id: string }[]; next: string | null };
    return [page.map(({ id }) => id), next];
  };
  assert.deepEqual(await ids("limit=3"), [["host", "ci", "kube"], "kube"]);
  assert.deepEqual(await ids("limit=3&after=kube"), [["db", "dns", "denied"], "denied"]);
  assert.deepEqual(await ids("limit=3&after=denied"), [["payroll", "wiki"], null]);
  assert.deepEqual(await ids("id=wiki&id=payroll&id=none"), [["payroll", "wiki"], null]);
  assert.deepEqual(await ids("show=refused"), [[], null]);
  for (const odd of ["limit=0", "limit=-1", "limit=1e9", "limit=x", `after=${"x".repeat(5_000)}`])
    assert.equal((await ids(odd))[0].length, 8, odd);
});

test("an id in a search gives away nothing that the person may not know", async (t) => {
  const world = await start(t);
  const visitor = await visitorOf(world, "bob");
  for (const query of ["id=ci", "id=ci&show=refused", "q=ci&show=refused"])
    assert.deepEqual(JSON.parse((await visitor.request(world.url("app", `${list}?${query}`))).body), {
      routes: [],
      next: null,
    });
});

test("a cursor does not tell where a hidden route stands", async (t) => {
  const world = await start(t);
  const visitor = await visitorOf(world, "bob");
  const page = async (query: string): Promise<string> =>
    (await visitor.request(world.url("app", `${list}?${query}`))).body;
  assert.equal(await page("after=ci"), await page("after=no-such-route"));
  assert.equal(await page("after=payroll"), await page("after=no-such-route"), "it is in the list of refused routes");
  assert.notEqual(await page("after=payroll&show=refused"), await page("after=no-such-route&show=refused"));
});

test("without a session the portal leads to sign-in, and after a revocation too", async (t) => {
  const world = await start(t);
  const visitor = world.visitor();
  const first = await visitor.request(world.url("app", portal));
  assert.deepEqual([first.status, first.location?.pathname], [302, "/.pomerium/sign_in"]);
  await signIn(world, visitor, "alice");
  assert.equal((await visitor.request(world.url("app", portal))).status, 200);
  const [session] = [...world.replica.projection.sessions()];
  await world.submit({ type: "revokeSession", sessionId: session?.sessionId ?? assert.fail(), reason: "operator" });
  assert.equal((await visitor.request(world.url("app", portal))).status, 302);
  assert.equal((await visitor.request(world.url("app", portal), { method: "POST" })).status, 405);
});

test("a search of 10,000 routes lets other work run in between, and pages do not repeat or skip", async (t) => {
  const many = Array.from({ length: 10_000 }, (_, i) =>
    route({ id: `r${i}`, name: `App ${String(i).padStart(5, "0")}`, ...(i % 100 === 0 ? any : { policy: eng }) }),
  );
  let slices = 0;
  let clock = 0;
  const world = await start(t, { catalog: createRouteCatalog({ routes: many, policies: compiled(...many) }) });
  const visitor = await visitorOf(world, "bob");
  const { sleep, clock: real } = world.deps;
  Object.assign(world.deps, {
    sleep: (ms: number) => {
      slices += ms === 0 ? 1 : 0;
      return sleep(ms);
    },
    // Each decision takes as long as a slow machine would need.
    clock: {
      ...real,
      monotonic: () => {
        clock += 0.02;
        return real.monotonic() + clock;
      },
    },
  });
  const ids: string[] = [];
  let after = "";
  for (let pages = 0; pages < 10; pages++) {
    const { body } = await visitor.request(world.url("app", `${list}?limit=30${after}`));
    const { routes: page, next } = JSON.parse(body) as { routes: { id: string }[]; next: string | null };
    ids.push(...page.map(({ id }) => id));
    if (next === null) break;
    after = `&after=${next}`;
  }
  assert.deepEqual(
    ids,
    Array.from({ length: 100 }, (_, i) => `r${i * 100}`),
  );
  assert.ok(slices > 30, String(slices));
});

test("searches of one session at once are bounded, and others still get theirs", async (t) => {
  const waiting: (() => void)[] = [];
  const world = await start(t);
  const [bob, alice] = [await visitorOf(world, "bob"), await visitorOf(world, "alice")];
  const { clock } = world.deps;
  let now = 0;
  Object.assign(world.deps, {
    sleep: () => new Promise<void>((resolve) => waiting.push(resolve)),
    clock: {
      ...clock,
      monotonic: () => {
        now += 10;
        return clock.monotonic() + now;
      },
    },
  });
  const asked = Array.from({ length: 4 }, () => bob.request(world.url("app", list)));
  const busy = await Promise.race(asked);
  assert.equal(busy.status, 503);
  assert.equal(busy.headers["retry-after"], "1");
  const other = alice.request(world.url("app", list));
  const releasing = setInterval(() => {
    for (const resolve of waiting.splice(0)) resolve();
  }, 5);
  t.after(() => clearInterval(releasing));
  assert.equal((await other).status, 200);
  const statuses = (await Promise.all(asked)).map(({ status }) => status).sort();
  assert.deepEqual(statuses, [200, 200, 503, 503]);
});
