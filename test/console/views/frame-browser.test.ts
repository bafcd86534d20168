/**
 * The frame of the console in a real Chromium: menu, keys, palette, liveness, states, and reading without scripts.
 *
 * `SCREENSHOTS=<folder>` saves pictures at three sizes, in light and dark.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser } from "playwright-core";
import { texts } from "../../../src/console/index.ts";
import { startOperatorWorld } from "../api/operator-support.ts";
import { checkAxe, pictures, pseudoText, sizes } from "../browser-support.ts";
import { consoleUrl, openConsole, options, startBrowser } from "./console-support.ts";

let browser: Browser | undefined;
before(async () => {
  browser = await startBrowser();
});
after(() => browser?.close());

test("an operator signs in, returns to the page, and sees it live", options, async (t) => {
  const { page } = await openConsole(t, browser, { path: "/?from=link" });
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  assert.match(page.url(), /\/\.pomerium\/admin\/\?from=link$/);
  assert.match((await page.locator("#lead").textContent()) ?? "", /Healthy\. The node enforces position \d+/);
  await page.locator('#live[data-state="live"]').waitFor();
  await page.locator('[data-node="node-1"]').waitFor();
});

test("axe finds nothing, and nothing scrolls to the side", options, async (t) => {
  const { page } = await openConsole(t, browser, { context: { bypassCSP: true } });
  await page.locator('#live[data-state="live"]').waitFor();
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    for (const [width, height] of sizes) {
      await page.setViewportSize({ width, height });
      await checkAxe(page, `${width}, ${colorScheme}`);
      if (pictures !== undefined)
        await page.screenshot({ path: join(pictures, `overview-${width}-${colorScheme}.png`), fullPage: true });
    }
    await page.setViewportSize({ width: 320, height: 640 });
    assert.ok(Number(await page.evaluate("document.documentElement.scrollWidth")) <= 320);
  }
});

test("keys go places, list themselves, and rest in fields and when turned off", options, async (t) => {
  const { page, complaints } = await openConsole(t, browser, { path: "/nothing-here" });
  await page.getByRole("heading", { name: "Page not found" }).waitFor();
  assert.ok(complaints.every((each) => each.includes("404")));
  complaints.length = 0;
  await page.locator('#live[data-state="live"]').waitFor();
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.keyboard.press("g");
  await page.keyboard.press("o");
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await page.locator('#live[data-state="live"]').waitFor();

  const time = page.locator("time").first();
  await page.keyboard.press("t");
  assert.match((await time.textContent()) ?? "", /UTC$/);
  await page.keyboard.press("t");
  assert.doesNotMatch((await time.textContent()) ?? "", /UTC$/);

  await page.keyboard.press("?");
  await page.getByLabel("Single-key shortcuts").uncheck();
  await page.getByLabel("Theme").selectOption("dark");
  await page.getByRole("button", { name: "Close" }).click();
  await page.keyboard.press("?");
  assert.equal(await page.getByRole("dialog").count(), 0);
  await page.reload();
  assert.equal(await page.locator("html").getAttribute("data-theme"), "dark", "the server draws the theme");
});

test("the palette finds pages by keyboard and returns the focus", options, async (t) => {
  const { page } = await openConsole(t, browser);
  await page.locator('#live[data-state="live"]').waitFor();
  await page.locator("#open-palette").focus();
  await page.keyboard.press("Control+k");
  const input = page.getByRole("combobox", { name: "Search the console" });
  await input.waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate("document.activeElement.id"), "open-palette");
  await page.keyboard.press("Control+k");
  await input.fill("over");
  await page.getByRole("option", { name: /Overview/ }).waitFor();
  await input.fill("alice");
  await page.getByRole("option", { name: /Alice Archer.*Person/ }).waitFor();
  await input.fill("");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Overview" }).waitFor();
});

test("a connection that breaks is said at once, and the page lives on when it is back", options, async (t) => {
  const { page, complaints } = await openConsole(t, browser);
  await page.locator('#live[data-state="live"]').waitFor();
  await page.route("**/live?*", (route) => route.abort());
  await page.reload();
  await page.locator('#live[data-state="lost"]').waitFor({ timeout: 30_000 });
  assert.equal(await page.locator('#live [data-part="text"]').textContent(), "Live updates paused. Reconnecting…");
  assert.ok(await page.locator("#map").isVisible(), "what was there stays");
  await page.unroute("**/live?*");
  await page.locator('#live[data-state="live"]').waitFor({ timeout: 30_000 });
  await page.keyboard.press(".");
  await page.locator("body[data-paused]").waitFor();
  complaints.length = 0;
});

test("a page whose node falls behind or loses its lease says so, and changes wait", options, async (t) => {
  let isFresh = true;
  const worldOptions = { console: {}, deps: { fresh: () => isFresh } };
  const { world, page } = await openConsole(t, browser, {
    worldOptions,
    path: "/sessions",
    context: { bypassCSP: true },
  });
  await page.locator('#live[data-state="live"]').waitFor();
  const bar = page.locator("#standing");
  assert.equal(await bar.count(), 0);
  let behind: ReturnType<typeof world.world.replica.behind> = { events: 1_038, ms: 61_000 };
  Object.assign(world.world.replica, { behind: () => behind });
  await page.getByText(/You're seeing \d\d:\d\d:\d\d, 1,038 events behind\./).waitFor();
  await page.reload();
  await page.getByText(/You're seeing \d\d:\d\d:\d\d, 1,038 events behind\./).waitFor();
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    for (const [width, height] of sizes) {
      await page.setViewportSize({ width, height });
      await checkAxe(page, `behind, ${width}, ${colorScheme}`);
      if (pictures !== undefined)
        await page.screenshot({ path: join(pictures, `behind-${width}-${colorScheme}.png`), fullPage: true });
    }
  }
  behind = null;
  await bar.waitFor({ state: "detached" });

  await page.locator("tbody tr a.row").first().click();
  const act = page.locator("button[data-act]:visible").first();
  await act.waitFor();
  assert.equal(await act.getAttribute("aria-disabled"), null);
  isFresh = false;
  await page.getByText(/This node can't confirm what it shows/).waitFor();
  assert.equal(await act.getAttribute("aria-disabled"), "true");
  await act.click({ force: true });
  assert.equal(await page.getByRole("dialog").count(), 0, "no change is begun");
  await checkAxe(page, "unconfirmed");
  isFresh = true;
  await bar.waitFor({ state: "detached" });
  await act.click();
  await page.getByRole("dialog").waitFor();
  isFresh = false;
  await bar.waitFor();
  await page.locator("dialog form .actions button").last().click();
  await page
    .locator("dialog [role=status]")
    .getByText(/This node can't confirm/)
    .waitFor();
});

test("longer words from right to left leave no word uncovered and nothing to the side", options, async (t) => {
  const worldOptions = { console: { texts: [pseudoText(texts[0])] as const } };
  const { page } = await openConsole(t, browser, { worldOptions, context: { bypassCSP: true } });
  await page.locator('#live[data-state="live"]').waitFor();
  const uncovered = await page.evaluate(`(() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
      const text = node.textContent.trim();
      const isName = node.parentElement.closest("bdi, code, kbd, .brand, .tile .pill, #latest a, time, small, dd") !== null;
      if (/\\p{L}{3}/u.test(text) && !text.includes("⟦") && !isName) found.push(text);
    }
    return found;
  })()`);
  assert.deepEqual(uncovered, []);
  for (const [width, height] of [...sizes, [320, 640]] as const) {
    await page.setViewportSize({ width, height });
    assert.ok(Number(await page.evaluate("document.documentElement.scrollWidth")) <= width, String(width));
  }
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, "overview-pseudo.png"), fullPage: true });
});

test("without scripts the page reads the same", options, async (t) => {
  const { page } = await openConsole(t, browser, { context: { javaScriptEnabled: false } });
  assert.match((await page.locator("#lead").textContent()) ?? "", /Healthy/);
  await page.getByRole("link", { name: "Overview" }).click();
  await page.waitForURL(/\/admin\/$/);
  assert.equal(await page.locator("#open-palette").isVisible(), false);
});

test("a person who is no operator gets a page that says so, and another way to sign in", options, async (t) => {
  const { page, world, complaints } = await openConsole(t, browser, { person: "bob" });
  await page.getByRole("heading", { name: "You don't have access to the console" }).waitFor();
  assert.equal(await page.locator("nav").count(), 0);
  assert.equal(await page.getByRole("link", { name: "Switch account" }).count(), 1);
  assert.ok(world.accesses.some(({ command, code }) => command === "GET console" && code === "403"));
  await page.goto(consoleUrl(world, "/nothing-here"));
  assert.equal(await page.locator("[data-status]").getAttribute("data-status"), "403");
  assert.equal(complaints.filter((each) => each.includes("403")).length, 2);
  complaints.length = 0;
});

test("a reader who is limited to some routes gets a home and a menu that work", options, async (t) => {
  const world = await startOperatorWorld(t, { console: {} });
  world.roles.viewers.push({ who: "email:bob@example.com", routeGroups: ["hr"] });
  const opened = await openConsole(t, browser, { world, person: "bob", context: { bypassCSP: true } });
  const { page, complaints } = opened;
  await page.getByText("Your role is limited to these groups of routes").waitFor();
  await checkAxe(page, "home of a limited role");
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, "limited-home.png"), fullPage: true });
  await page.goto(consoleUrl(world, "/sessions"));
  await page.getByRole("heading", { name: "This page isn't confined to your routes" }).waitFor();
  assert.ok(complaints.every((each) => each.includes("403")));
  complaints.length = 0;
  await page.setViewportSize({ width: 375, height: 800 });
  await checkAxe(page, "a page outside the limit");
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, "limited-page.png"), fullPage: true });
  await page.locator("section[data-limited]").getByRole("link", { name: "Decisions" }).click();
  await page.getByRole("heading", { name: "Decisions" }).waitFor();
  assert.equal(await page.locator(".problem").count(), 0);
});
