/**
 * Behaviour that only a real browser shows: which cookies it withholds, and what it reports about the origin of a
 * request.
 */
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import { type Browser, chromium, type Page } from "playwright-core";
import { findChromium } from "../../support/chromium.ts";
import { startWorld, type World, type WorldOptions } from "./support.ts";

const executablePath = findChromium();
const options = { skip: executablePath === undefined ? "Chromium is not installed" : false, timeout: 120_000 };
let browser: Browser | undefined;

before(async () => {
  if (executablePath === undefined) return;
  const args = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update";
  browser = await chromium.launch({ executablePath, args: args.split(" ") });
});
after(() => browser?.close());

async function start(t: TestContext, worldOptions: WorldOptions = {}): Promise<{ world: World; page: Page }> {
  const world = await startWorld(t, worldOptions);
  const context = (await browser?.newContext()) ?? assert.fail("no browser");
  t.after(() => context.close());
  return { world, page: await context.newPage() };
}

async function answerForm(page: Page, user: string): Promise<void> {
  await page.getByRole("button", { name: `Sign in as ${user}` }).click();
}

for (const sameSite of ["lax", "strict", "none"] as const) {
  test(
    `with SameSite=${sameSite}, sign-in ends on the requested page, and a second route needs no further form`,
    options,
    async (t) => {
      const { world, page } = await start(t, { cookie: { sameSite } });
      await page.goto(world.url("app", "/wanted?x=1"));
      await answerForm(page, "alice");
      await page.waitForURL(world.url("app", "/wanted?x=1"));
      await page.waitForFunction('document.body.textContent.startsWith("hello alice")');
      await page.goto(world.url("wiki", "/second"));
      await page.waitForFunction('document.body.textContent.startsWith("hello alice")');
      assert.equal(page.url(), world.url("wiki", "/second"));
    },
  );
}

for (const [query, page_] of [
  ["a=1&b=%2F&c=".padEnd(3_000, "x&y=ä "), "/wanted"],
  [
    Array.from({ length: 800 }, (_, i) => `k${i}=v%20${i}`)
      .join("&")
      .slice(0, 8_000),
    "/wanted/%C3%A4",
  ],
] as const)
  test(
    `an address with a query of ${query.length} characters survives sign-in, and all other header lines stay short`,
    options,
    async (t) => {
      const { world, page } = await start(t);
      const wanted = new URL(world.url("app", `${page_}?${query}#part`)).href;
      const lengths: number[] = [];
      page.on("response", (response) => {
        const { href } = new URL(response.url());
        if (href !== wanted.replace("#part", "")) lengths.push(href.length);
        lengths.push(...Object.values(response.headers()).map(({ length }) => length));
      });
      await page.goto(wanted);
      await answerForm(page, "alice");
      await page.waitForURL(wanted);
      await page.waitForFunction('document.body.textContent.startsWith("hello alice")');
      assert.ok(Math.max(...lengths) < 4_096, `a line of ${Math.max(...lengths)} bytes`);
      assert.ok((await page.context().cookies()).every(({ name, value }) => name.length + value.length <= 1_024));
      assert.equal(await page.evaluate("sessionStorage.length"), 0);
    },
  );

test(
  "the page that ends such a sign-in leads only to the address that the tab stored on its own origin",
  options,
  async (t) => {
    const { world, page } = await start(t);
    await page.goto(world.url("app"));
    await answerForm(page, "alice");
    await page.waitForURL(world.url("app"));
    const visit = async (stored: string, query: string): Promise<string> => {
      await page.evaluate(`sessionStorage.setItem("pomerium_address", ${JSON.stringify(stored)})`);
      await page.goto(world.url("app", `/.pomerium/return?${query}`));
      await page.waitForFunction('document.body.textContent.startsWith("hello alice")');
      return page.url();
    };
    const evil = `${world.idpUrl.origin}/evil`;
    assert.equal(await visit(`id-1 ${evil}`, "id=id-1&pomerium_redirect_uri=/near"), world.url("app", "/near"));
    assert.equal(await visit("id-1 javascript:alert(1)", "id=id-1"), world.url("app", "/"));
    const ownAddress = world.url("app", "/far?x=1");
    assert.equal(await visit(`id-1 ${ownAddress}`, "id=id-2&pomerium_redirect_uri=/near"), world.url("app", "/near"));
    assert.equal(await visit(`id-1 ${ownAddress}`, "pomerium_redirect_uri=//evil.example/x"), world.url("app", "/"));
    assert.equal(
      await visit(`id-1 ${ownAddress}`, `id=id-3&pomerium_redirect_uri=${encodeURIComponent(evil)}`),
      world.url("app", "/"),
    );
    assert.equal(await visit(`id-1 ${ownAddress}`, "id=id-1"), ownAddress);
  },
);

test("two tabs that start sign-in in a fresh browser both reach their page", options, async (t) => {
  const { world, page } = await start(t);
  const other = await page.context().newPage();
  await Promise.all([page.goto(world.url("app", "/one")), other.goto(world.url("app", "/two"))]);
  for (const [tab, path] of [
    [page, "/one"],
    [other, "/two"],
  ] as const) {
    await answerForm(tab, "bob");
    await tab.waitForLoadState();
    if (tab.url().startsWith(world.idpUrl.href)) await answerForm(tab, "bob"); // the other tab replaced its cookie
    await tab.waitForURL(world.url("app", path));
    assert.match((await tab.textContent("body")) ?? "", /^hello bob/);
  }
});

test("the button signs out; a link on another site leads to a confirmation page", options, async (t) => {
  const { world, page } = await start(t);
  await page.goto(world.url("app"));
  await answerForm(page, "alice");
  await page.waitForURL(world.url("app"));

  const evil = await page.context().newPage();
  await evil.goto(`${world.idpUrl.origin}/`); // another site
  await evil.evaluate(`location.href = ${JSON.stringify(world.url("app", "/.pomerium/sign_out"))}`);
  await evil.waitForSelector("[data-page=sign-out-confirm]");
  await page.reload();
  assert.match((await page.textContent("body")) ?? "", /^hello alice/);

  await evil.getByRole("button", { name: "Sign out" }).click();
  await evil.waitForSelector("[data-page=signed-out]");
  await page.reload();
  await page.waitForSelector("[data-page=demo-sign-in]");
});

test("a link on the application's own page signs out at once", options, async (t) => {
  const { world, page } = await start(t);
  await page.goto(world.url("app"));
  await answerForm(page, "alice");
  await page.waitForURL(world.url("app"));
  await page.evaluate('location.href = "/.pomerium/sign_out"');
  await page.waitForSelector("[data-page=signed-out]");
  const [session] = [...world.replica.projection.sessions()];
  assert.equal(world.replica.projection.sessionStatus(session?.sessionId ?? assert.fail()).status, "revoked");
});

test("a user without access may sign in with another account", options, async (t) => {
  const { world, page } = await start(t);
  await page.goto(world.url("app", "/.pomerium/"));
  await page.getByRole("link", { name: "Sign in" }).click();
  await answerForm(page, "bob");
  await page.waitForSelector("[data-page=user-info]");
  await page.getByRole("link", { name: "Switch account" }).click();
  await answerForm(page, "alice");
  await page.waitForSelector("[data-page=user-info]");
  assert.match((await page.textContent("main")) ?? "", /alice@example\.com/);
});

test(
  "without scripts a person ends another session, and then every one, and reads that each server has done it",
  options,
  async (t) => {
    const { world, page } = await start(t);
    await page.goto(world.url("app"));
    await answerForm(page, "alice");
    await page.waitForURL(world.url("app"));
    const context = await browser?.newContext({ javaScriptEnabled: false });
    t.after(() => context?.close());
    const other = (await context?.newPage()) ?? assert.fail();
    await other.goto(world.url("app", "/.pomerium/"));
    await other.getByRole("link", { name: "Sign in" }).click();
    await answerForm(other, "alice");
    await other.getByRole("link", { name: "All my sessions" }).click();
    assert.equal(new URL(other.url()).hostname, "authenticate.localhost");
    assert.equal(await other.locator("[data-part=sessions] li").count(), 2);
    await other.getByRole("button", { name: "Sign out", exact: true }).click();
    await other.getByText("You signed out of a session. Ended on every server at").waitFor();
    await page.reload();
    await page.waitForSelector("[data-page=demo-sign-in]");

    await other.getByRole("link", { name: "Sign out everywhere…" }).click();
    await other.getByText("This ends your session, and closes what's open. You have no other.").waitFor();
    await other.getByRole("button", { name: "Sign out everywhere" }).click();
    await other.waitForSelector("[data-page=signed-out] [data-ended=everywhere]");
    assert.deepEqual(
      [...world.replica.projection.sessions()].filter(
        ({ sessionId }) => world.replica.projection.sessionStatus(sessionId).status === "active",
      ),
      [],
    );
  },
);
