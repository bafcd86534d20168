/** The page on which people choose an identity provider, in a real browser. */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { type Browser, chromium } from "playwright-core";
import { findChromium } from "../../support/chromium.ts";
import { startWorld } from "./support.ts";

const executablePath = findChromium();
const options = { skip: executablePath === undefined ? "Chromium is not installed" : false, timeout: 180_000 };
/** A folder for pictures of the page; absent: none are kept. */
const picturesFolder = process.env["CARDEA_TEST_PICTURES"];
let browser: Browser | undefined;

before(async () => {
  if (executablePath === undefined) return;
  const args = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update";
  browser = await chromium.launch({ executablePath, args: args.split(" ") });
});
after(() => browser?.close());

const names = new Map([
  ["demo", { name: "default", title: "Company account" }],
  [
    "down",
    { name: "down", title: "A partner with a very long name that does not fit on one line of a small telephone" },
  ],
]);

test("people choose by keyboard, in every size and colour scheme, without a script", options, async (t) => {
  const idpIds = ["demo", "down"];
  const world = await startWorld(t, {
    settings: {
      defaultIdpIds: idpIds,
      idpIds: new Set(idpIds),
      providerNames: names,
      signInFor: () => ({ idpIds, dependsOn: [] }),
    },
    deps: (deps, { oidc }) => ({
      ...deps,
      providerOf: (idpId) => (idpId === "down" ? { ...oidc, status: () => "down" } : oidc),
    }),
  });
  for (const colorScheme of ["light", "dark"] as const)
    for (const [width, height] of [
      [320, 568],
      [768, 1_024],
      [1_440, 900],
    ] as const) {
      const context = await browser?.newContext({ colorScheme, viewport: { width, height }, javaScriptEnabled: false });
      const page = (await context?.newPage()) ?? assert.fail("no browser");
      const complaints: string[] = [];
      page.on("console", (message) => complaints.push(message.text()));
      await page.goto(world.url("app", "/wanted"));
      assert.equal(await page.title(), "Choose how to sign in");
      const links = page.getByRole("link");
      assert.deepEqual((await links.allInnerTexts()).map((text) => text.split("\n")[0]?.trim()).length, 2);
      const body = await page.locator("main").boundingBox();
      assert.ok(body !== null && body.x >= 0 && body.x + body.width <= width, "it does not scroll sideways");
      for (const link of await links.all()) {
        const box = await link.boundingBox();
        assert.ok(box !== null && box.height >= 44 && box.x + box.width <= width, "a target that a finger hits");
      }
      assert.match((await links.nth(1).textContent()) ?? "", /Not responding right now/);
      if (picturesFolder !== undefined) {
        mkdirSync(picturesFolder, { recursive: true });
        await page.screenshot({ path: `${picturesFolder}/${colorScheme}-${width}.png`, fullPage: true });
      }
      await page.keyboard.press("Tab");
      await page.keyboard.press("Enter");
      await page.getByRole("button", { name: "Sign in as alice" }).click();
      await page.waitForURL(world.url("app", "/wanted"));
      assert.match((await page.textContent("body")) ?? "", /^hello alice/);
      assert.deepEqual(complaints, [], "the content security policy is never violated");
      await context?.close();
    }
});

test("going back leads to the choice again, and a link that is old leads on", options, async (t) => {
  const idpIds = ["demo", "down"];
  const world = await startWorld(t, {
    settings: {
      defaultIdpIds: idpIds,
      idpIds: new Set(idpIds),
      providerNames: names,
      signInFor: () => ({ idpIds, dependsOn: [] }),
    },
    deps: (deps, { oidc }) => ({ ...deps, providerOf: () => oidc }),
  });
  const context = await browser?.newContext();
  const page = (await context?.newPage()) ?? assert.fail("no browser");
  await page.goto(world.url("app", "/wanted"));
  await page.getByRole("link", { name: "Company account" }).click();
  await page.getByRole("button", { name: "Sign in as alice" }).waitFor();
  await page.goBack();
  await page.getByRole("link", { name: "Company account" }).waitFor();
  world.clockMs = 10 * 60_000; // the page lay open
  await page.getByRole("link", { name: "Company account" }).click();
  await page.getByRole("link", { name: "Company account" }).waitFor();
  assert.equal(await page.title(), "Choose how to sign in", "the route starts the sign-in again");
  await context?.close();
});
