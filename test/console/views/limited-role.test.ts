/** The pages of a reader whose role is limited to groups of routes: the menu works, and all else says why not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compilePolicies } from "../../../src/auth/index.ts";
import { consoleViews } from "../../../src/console/views/register-console.ts";
import { signIn } from "../../auth/authenticate/support.ts";
import { base, parse } from "../../config/support.ts";
import { startOperatorWorld } from "../api/operator-support.ts";

async function start(t: Parameters<typeof startOperatorWorld>[0]) {
  const route = (name: string, group: string, groups: string): string =>
    `  - {id: ${name}, from: "https://${name}.example.com", to: "http://127.0.0.1:1", route_groups: [${groups}], policy: [{allow: {and: [{groups: {has: ${group}}}]}}]}`;
  const parsed = parse(`${base}routes:\n${route("payroll", "hr-people", "hr")}\n${route("crm", "sales", "sales")}\n`);
  const { routes } = parsed.ok ? parsed.config : assert.fail(JSON.stringify(parsed.problems));
  const compiled = compilePolicies(routes);
  assert.ok(compiled.ok);
  const at = await startOperatorWorld(t, {
    console: {},
    routes: routes.flatMap(({ id, from, routeGroups }) => {
      const policy = compiled.policies.get(id);
      return policy === undefined ? [] : [{ id, from: from.href, policy, routeGroups }];
    }),
  });
  await signIn(at.world, at.world.visitor(), "bob");
  for (const group of ["hr-people", "sales"]) await at.post(`/groups/${group}/members`, { add: ["bob"] });
  const open = async (path: string, token: Parameters<typeof at.token>[0]) => {
    const authorization = `Bearer ${await at.token(token)}`;
    const url = at.world.url("authenticate", `/.pomerium/admin${path}`);
    return at.visitor.request(url, { headers: { authorization, accept: "text/html" } });
  };
  return { at, open };
}

const limited = { role: "operator", routeGroups: ["hr"] } as const;
const menuIn = (body: string): string[] => [...body.matchAll(/ data-view="([\w-]+)"/g)].map(([, id = ""]) => id);

test("every entry of a limited reader's menu works, and all other pages say what the reader can see", async (t) => {
  const { open } = await start(t);
  const home = await open("/", limited);
  assert.equal(home.status, 200);
  assert.match(home.body, /Your role is limited to these groups of routes: .*hr/);
  const menu = menuIn(home.body);
  assert.deepEqual(menu.toSorted(), ["access", "decisions", "groups", "held", "lab", "overview", "requests"]);
  for (const view of consoleViews.filter((each) => each.menu !== null)) {
    const { status, body } = await open(view.path, limited);
    assert.deepEqual(menuIn(body), menu, `${view.id}: the same menu everywhere`);
    assert.equal(status, menu.includes(view.id) ? 200 : 403, view.id);
    const whole = await open(view.path, { role: "administrator" });
    const isRaw = body.includes('class="problem"') && !whole.body.includes('class="problem"');
    assert.ok(!isRaw && !body.includes('data-status="403"'), `${view.id} has a raw error`);
    assert.equal(body.includes("data-limited"), !menu.includes(view.id) || view.id === "overview", view.id);
    if (!menu.includes(view.id)) assert.ok(!body.includes("bob@"), `${view.id} names a person`);
  }
  for (const path of ["/people/bob", "/sessions/x", "/changes/1", "/configurations/a/diff/b"])
    assert.equal((await open(path, limited)).status, 403, path);
  assert.equal((await open("/no-such-page", limited)).status, 404);
  for (const list of ["/held", "/requests", "/sessions"]) {
    const gone = await open(`${list}/00000000-0000-4000-8000-000000000000`, { role: "administrator" });
    assert.equal(gone.status, 404, list);
    assert.ok(gone.body.includes(`href="/.pomerium/admin${list}">`), `${list}: no way back to the list`);
  }
});

test("a limited operator changes members of a group of their routes, without acts that would be refused", async (t) => {
  const { open } = await start(t);
  const actsIn = (body: string): string[] =>
    [...body.matchAll(/&quot;path&quot;:&quot;([^&]+)&quot;/g)].map(([, path = ""]) => path);
  const list = await open("/groups", limited);
  assert.ok(list.body.includes("hr-people") && !list.body.includes("sales"));
  const group = await open("/groups/hr-people", limited);
  assert.ok(group.body.includes("bob@"));
  assert.deepEqual([...new Set(actsIn(group.body))], ["/groups/hr-people/members"]);
  assert.ok(!group.body.includes("&quot;preview&quot;"), "the preview is not confined to some routes");
  const closed = group.body.match(/href="[^"]*\/admin\/(?:people|changes)[^"]*"/g);
  assert.deepEqual(closed, null, "no link to a page that is closed");
  assert.equal((await open("/groups/sales", limited)).status, 404);
  const whole = await open("/groups/hr-people", { role: "administrator" });
  assert.ok(actsIn(whole.body).includes("/groups/hr-people/remove") && whole.body.includes("&quot;preview&quot;"));
  const own = await open("/groups/hr-people", { role: "administrator", routeGroups: ["hr"] });
  assert.ok(!actsIn(own.body).includes("/groups/hr-people/remove"), "deleting a group is not confined to routes");
});
