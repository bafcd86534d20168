/**
 * The routes portal in a real Chromium: after a real sign-in, with its own scripts and policy.
 *
 * `SCREENSHOTS=<folder>` saves pictures at three sizes, in light and dark.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { createRouteCatalog } from "../../src/auth/index.ts";
import type { RouteConfig } from "../../src/config/index.ts";
import { createPictureStore, registerAssets } from "../../src/console/index.ts";
import { startWorld, type World } from "../auth/authenticate/support.ts";
import { compiled, route, source } from "../auth/authorize/support.ts";
import { findChromium } from "../support/chromium.ts";
import { pageRenderer, pathsOf, sourceAssets } from "../support/pages.ts";
import { checkAxe, pictures, sizes } from "./browser-support.ts";

const executablePath = findChromium();
const options = { skip: executablePath === undefined ? "no Chromium on this machine" : false, timeout: 120_000 };
let browser: Browser | undefined;

before(async () => {
  if (executablePath === undefined) return;
  const args = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update";
  browser = await chromium.launch({ executablePath, args: args.split(" ") });
});
after(() => browser?.close());

const any = { allowAnyAuthenticatedUser: true } as const;
const eng = source({ allow: { and: [{ groups: { has: "eng" } }] } });
const web = (name: string, parts: Partial<RouteConfig> = {}): RouteConfig => {
  const host = `${name.toLowerCase()}.example.com`;
  return route({ id: name.toLowerCase(), name, host, from: new URL(`https://${host}`), ...any, ...parts });
};
const closed = { allowAnyAuthenticatedUser: false, policy: eng, discoverable: true } as const;
const svg = (colour: string): string =>
  `data:image/svg+xml,${encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><circle cx="5" cy="5" r="4" fill="${colour}"/></svg>`)}`;
const few = [
  web("Grafana", { description: "Dashboards and alerts", logoUrl: svg("#e8702a"), owner: "Observability" }),
  web("Wiki", { description: "How we work, and why. Everything that is written down is written down here." }),
  web("CI", { description: "Builds", logoUrl: svg("#2a6ee8") }),
  web("Mail"),
  web("Payroll", { ...closed, description: "Salaries and expenses", owner: "the payroll team" }),
  web("Warehouse", { ...closed, description: "Stock" }),
  route({
    id: "db",
    name: "Production database",
    description: "PostgreSQL, read-only replica",
    ...any,
    from: new URL("https://db.example.com"),
    host: "db.example.com",
    tunnel: { kind: "tcp", targets: [{ host: "db.example.com", port: 5_432 }], behindProxy: false },
  }),
  route({
    id: "build",
    name: "Build host",
    ...any,
    from: new URL("https://build.example.com"),
    host: "build.example.com",
    tunnel: { kind: "tcp", targets: [{ host: "build.example.com", port: 22 }], behindProxy: false },
  }),
];
const many = Array.from({ length: 10_000 }, (_, i) =>
  web(`App-${String(i).padStart(5, "0")}`, i === 9_876 ? { logoUrl: svg("#e8702a") } : {}),
);

async function start(
  t: TestContext,
  { routes = few, context = {} }: Readonly<{ routes?: readonly RouteConfig[]; context?: BrowserContextOptions }> = {},
): Promise<Readonly<{ world: World; page: Page }>> {
  const assets = sourceAssets();
  const store = createPictureStore([], {
    fetchPicture: () => Promise.reject(new Error("there are none")),
    now: () => 0,
    onFailed() {},
  });
  const world = await startWorld(t, {
    deps: (deps) => ({
      ...deps,
      render: pageRenderer({ organizationName: "Acme" }, undefined, pathsOf(assets)),
      pictureUrl: (url) => (url === "" ? null : url),
      routes: createRouteCatalog({ routes, policies: compiled(...routes) }),
    }),
    routeHostPlugins: [(app) => registerAssets(app, assets, store)],
  });
  const opened = (await browser?.newContext({ locale: "en-GB", ...context })) ?? assert.fail("no browser");
  t.after(() => opened.close());
  const page = await opened.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" && !message.location().url.endsWith("/favicon.ico")) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  t.after(() => assert.deepEqual(complaints, []));
  await page.goto(world.url("app", "/.pomerium/routes"));
  await page.getByRole("button", { name: "Sign in as bob" }).click();
  await page.getByRole("heading", { name: "My apps" }).waitFor();
  return { world, page };
}

test("a person finds, opens, pins and copies by mouse and keyboard, and pins outlast a reload", options, async (t) => {
  const { page } = await start(t, { context: { permissions: ["clipboard-read", "clipboard-write"] } });
  await page.keyboard.press("/");
  await page.keyboard.type("dash");
  await page.getByText("1 app", { exact: true }).waitFor({ state: "attached" });
  assert.deepEqual(await page.locator("#results li:visible b").allInnerTexts(), ["Grafana"]);
  await page.keyboard.press("ArrowDown");
  assert.equal(
    await page.evaluate("document.activeElement.href"),
    "https://grafana.example.com/".replace(".com/", `.com:${new URL(page.url()).port}/`),
  );
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#results li:visible").count(), 8);

  await page.locator('#results [data-id="wiki"] button.pin').click();
  await page.locator('#pinned [data-id="wiki"]').waitFor();
  await page.reload();
  await page.locator('#pinned [data-id="wiki"]').waitFor();
  assert.equal(await page.locator('#results [data-id="wiki"] button.pin').getAttribute("aria-pressed"), "true");
  await page.locator('#pinned [data-id="wiki"] button.pin').click();
  await page.locator("#pinned").waitFor({ state: "hidden" });

  await page.locator('#results [data-id="build"] button.copy').click();
  const copied = await page.evaluate("navigator.clipboard.readText()");
  assert.match(String(copied), /^ssh -o ProxyCommand="cardea ssh-proxy %h %p .*" build\.example\.com$/);

  await page.getByRole("link", { name: "List" }).click();
  await page.reload();
  assert.ok(await page.locator("main.list").count(), "the view is kept in this browser");
});

test("axe finds nothing in tiles and list, in light and dark, and nothing scrolls to the side", options, async (t) => {
  const { page } = await start(t, { context: { bypassCSP: true } });
  for (const view of ["tiles", "list"])
    for (const colorScheme of ["light", "dark"] as const) {
      await page.setViewportSize({ width: 1280, height: 900 });
      await page.goto(`${page.url().split("?", 1)[0]}?view=${view}`);
      await page.emulateMedia({ colorScheme });
      await checkAxe(page, `${view}, ${colorScheme}`);
      await page.setViewportSize({ width: 320, height: 640 });
      assert.ok(Number(await page.evaluate("document.documentElement.scrollWidth")) <= 320, view);
    }
});

test(
  "of 10,000 apps, typing asks the server, and a pinned one that is on no page is still shown",
  options,
  async (t) => {
    const { page } = await start(t, { routes: many });
    assert.equal(await page.locator("#results li").count(), 40);
    await page.getByRole("searchbox").fill("09876");
    await page.locator('#results [data-id="app-09876"]').waitFor();
    assert.equal(await page.locator("#results li").count(), 1);
    await page.waitForFunction("document.querySelector('#results img')?.naturalWidth > 0");
    await page.locator('#results [data-id="app-09876"] button.pin').click();
    await page.reload();
    await page.locator('#pinned [data-id="app-09876"]').waitFor();
    await page.getByRole("link", { name: "More apps" }).click();
    await page.locator('#results [data-id="app-00040"]').waitFor();
  },
);

test("without scripts the search is a form, and the apps are links", options, async (t) => {
  const { page } = await start(t, { context: { javaScriptEnabled: false } });
  await page.getByRole("searchbox").fill("wiki");
  await page.getByRole("button", { name: "Search" }).click();
  await page.waitForURL(/q=wiki/);
  assert.deepEqual(await page.locator("#results li b").allInnerTexts(), ["Wiki"]);
  assert.equal(await page.locator("button.pin:visible").count(), 0);
});

test("the portal looks as it should", { ...options, skip: options.skip || pictures === undefined }, async (t) => {
  const { page } = await start(t);
  await page.locator('#results [data-id="grafana"] button.pin').click();
  for (const view of ["tiles", "list"]) {
    await page.goto(`${page.url().split("?", 1)[0]}?view=${view}`);
    await page.locator('#pinned [data-id="grafana"]').waitFor();
    for (const [width, height] of sizes)
      for (const colorScheme of ["light", "dark"] as const) {
        await page.setViewportSize({ width, height });
        await page.emulateMedia({ colorScheme });
        await page.screenshot({
          path: join(pictures ?? "", `portal-${view}-${width}-${colorScheme}.png`),
          fullPage: true,
        });
      }
  }
});
