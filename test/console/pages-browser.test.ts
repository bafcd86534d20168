/**
 * The pages in a real Chromium: axe, no scroll to the side, no refused style or script, local time, copying.
 *
 * `SCREENSHOTS=<folder>` saves pictures at three sizes, in light and dark.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import Fastify from "fastify";
import { type Browser, type BrowserContextOptions, type Page as BrowserPage, chromium } from "playwright-core";
import { createPictureStore, registerAssets, texts } from "../../src/console/index.ts";
import { findChromium } from "../support/chromium.ts";
import { pageRenderer, pathsOf, sourceAssets } from "../support/pages.ts";
import { checkAxe, pictures, pseudoText, sizes } from "./browser-support.ts";
import { pages } from "./page-fixtures.ts";

const executablePath = findChromium();
const options = { skip: executablePath === undefined ? "no Chromium on this machine" : false, timeout: 180_000 };
let browser: Browser | undefined;
let origin = "";
let stop: (() => Promise<unknown>) | undefined;

const svg =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><rect width="10" height="10" rx="2" fill="#c33"/></svg>';
const logo = `data:image/svg+xml,${encodeURIComponent(svg)}`;

before(async () => {
  if (executablePath === undefined) return;
  const args = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update";
  browser = await chromium.launch({ executablePath, args: args.split(" ") });
  const assets = sourceAssets();
  const plain = pageRenderer({}, undefined, pathsOf(assets));
  const branded = pageRenderer(
    {
      organizationName: "Acme",
      logoUrl: logo,
      light: { primary: "#7a1f5c", secondary: "#23588f" },
      dark: { primary: "#e79cc9", secondary: "#93c1f2" },
      firstParagraph: "Acme's network is for staff. Ask the help desk if you are new.",
      support: { label: "the help desk", url: "mailto:help@example.com" },
    },
    undefined,
    pathsOf(assets),
  );
  const app = Fastify({ logger: false });
  registerAssets(
    app,
    assets,
    createPictureStore([], { fetchPicture: () => Promise.reject(new Error("none")), now: () => 0, onFailed() {} }),
  );
  const pseudo = pageRenderer({}, pseudoText(texts[0]), pathsOf(assets));
  // A page that waits loads itself again.
  for (const path of ["/favicon.ico", "/.pomerium/"]) app.get(path, (_request, reply) => reply.code(204).send());
  app.get("/:look/:name", (request, reply) => {
    const { look, name } = request.params as Readonly<{ look: string; name: string }>;
    const page = pages.get(name) ?? assert.fail(name);
    const render = { branded, pseudo, plain }[look] ?? assert.fail(look);
    const { html, headers } = render(page, { host: request.headers.host ?? null, language: "en" });
    return reply.headers(headers).send(html);
  });
  await app.listen({ host: "127.0.0.1", port: 0 });
  const address = app.server.address();
  assert.ok(typeof address === "object" && address !== null);
  origin = `http://app.localhost:${address.port}`;
  stop = () => app.close();
});
after(async () => {
  await browser?.close();
  await stop?.();
});

async function open(t: TestContext, context: BrowserContextOptions = {}): Promise<BrowserPage> {
  const opened =
    (await browser?.newContext({ timezoneId: "Europe/Berlin", locale: "en-GB", ...context })) ?? assert.fail();
  t.after(() => opened.close());
  const page = await opened.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  t.after(() => assert.deepEqual(complaints, []));
  return page;
}

const looked = [
  "denied",
  "unauthenticated",
  "no-route",
  "lease",
  "provider-refused",
  "account",
  "account-on-route",
  "account-waiting",
  "sign-out",
  "sign-out-all",
  "choose-provider",
  "sign-in-loop",
];

test("axe finds nothing on the pages, in light and dark", options, async (t) => {
  const page = await open(t, { bypassCSP: true });
  for (const name of looked) {
    await page.goto(`${origin}/plain/${name}`);
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      await checkAxe(page, `${name}, ${colorScheme}`);
    }
  }
  await page.goto(`${origin}/branded/denied`);
  await checkAxe(page, "branded");
  await page.emulateMedia({ forcedColors: "active" });
  await checkAxe(page, "forced colors");
});

test(
  "no page scrolls to the side at 320 pixels, in a language with longer words and right to left, and every one has a heading and one primary action at most",
  options,
  async (t) => {
    const page = await open(t, { viewport: { width: 320, height: 640 } });
    for (const name of pages.keys()) {
      await page.goto(`${origin}/pseudo/${name}`);
      const width = await page.evaluate("document.documentElement.scrollWidth");
      assert.ok(Number(width) <= 320, `${name}: ${width}`);
      assert.equal(await page.locator("h1").count(), 1, name);
      assert.ok((await page.locator(".button.first, button.first").count()) <= 1, name);
    }
  },
);

test("times show in the reader's zone with UTC beside them, and in UTC without scripts", options, async (t) => {
  const page = await open(t);
  await page.goto(`${origin}/plain/denied`);
  await page.getByText("15:02:11 (14:02:11 UTC)").waitFor();
  const plain = await open(t, { javaScriptEnabled: false });
  await plain.goto(`${origin}/plain/denied`);
  await plain.getByText("25 November 2026 at 14:02:11 UTC").waitFor();
  assert.equal(await plain.getByRole("button", { name: "Copy" }).count(), 0);
});

test("the request id is copied by a button, which says so", options, async (t) => {
  const page = await open(t, { permissions: ["clipboard-read", "clipboard-write"] });
  await page.goto(`${origin}/plain/denied`);
  await page.getByRole("button", { name: "Copy" }).click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await page.evaluate("navigator.clipboard.readText()"), "776a36a9-c802-4c1e-9f0e-5f5c0e3c8a51");
});

test("the pages look as they should", { ...options, skip: options.skip || pictures === undefined }, async (t) => {
  const page = await open(t);
  for (const name of [...looked, "account-anonymous", "signed-out", "upstream-timeout"])
    for (const look of name === "denied" || name === "account" ? ["plain", "branded"] : ["plain"]) {
      await page.goto(`${origin}/${look}/${name}`);
      for (const [width, height] of sizes)
        for (const colorScheme of ["light", "dark"] as const) {
          await page.setViewportSize({ width, height });
          await page.emulateMedia({ colorScheme });
          await page.screenshot({ path: join(pictures ?? "", `${look}-${name}-${width}-${colorScheme}.png`) });
        }
    }
});
