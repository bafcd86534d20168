/**
 * A sign-in that succeeds but is not recognised on the route's host ends on an explanatory page after three returns.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Browser, chromium } from "playwright-core";
import { findChromium } from "../../support/chromium.ts";
import type { Visitor, VisitorResponse } from "../../support/visitor.ts";
import { waitFor } from "../../support/wait-for.ts";
import { signIn, startWorld, type World } from "./support.ts";

/** Follows redirects one by one. @returns the last response and how often the callback was reached */
async function follow(
  visitor: Visitor,
  start: string | URL,
): Promise<Readonly<{ answer: VisitorResponse; returns: number }>> {
  let returns = 0;
  for (let next: string | URL = start, hop = 0; hop < 40; hop++) {
    const answer = await visitor.request(next);
    if (answer.location === null) return { answer, returns };
    if (answer.url.pathname === "/.pomerium/callback/") returns++;
    next = answer.location;
  }
  throw new Error("an endless loop");
}

/** Runs the loop as a browser sees it after signing in at the authenticate host. */
async function runLoop(world: World, path: string, cookie?: string) {
  const visitor = world.visitor();
  const form = await visitor.navigate(world.url("app", path));
  if (cookie !== undefined) visitor.keep(new URL(world.url("app")), cookie);
  const back = await visitor.request(form.url, { form: { user: "alice", password: "x" } });
  return { visitor, ...(await follow(visitor, back.location ?? assert.fail(back.body))) };
}

for (const path of ["/wanted?x=1", "/.pomerium/user"]) {
  test(`a cookie that the browser refuses because of its domain ends on a page that explains it (${path})`, async (t) => {
    const world = await startWorld(t, { cookie: { domain: "other.localhost" } });
    const { visitor, answer, returns } = await runLoop(world, path);
    assert.equal(returns, 3);
    assert.equal(answer.status, 401);
    assert.match(answer.body, /data-page="sign-in-loop"/);
    assert.match(answer.body, /set for other\.localhost, which\s+doesn(?:'|&#39;)t cover app\.localhost/);
    assert.match(answer.body, /Cookies are blocked/);
    assert.match(answer.body, /A clock is wrong/);
    const again = /href="([^"]+)"[^>]*>Try again/.exec(answer.body)?.[1]?.replaceAll("&amp;", "&") ?? assert.fail();
    const retried = await follow(visitor, new URL(again, answer.url));
    assert.deepEqual([retried.returns, retried.answer.status], [3, 401]);
    assert.equal([...world.replica.projection.sessions()].length, 1, "the loop creates no sessions");
  });
}

test("for a cookie that the host rejects, the page names clocks and keys, not blocked cookies", async (t) => {
  const world = await startWorld(t, { cookie: { domain: "other.localhost" } });
  const { answer, returns } = await runLoop(world, "/", "_pomerium=of-another-site; Path=/");
  assert.equal(returns, 3);
  assert.match(answer.body, /A clock is wrong/);
  assert.match(answer.body, /shared_secret/);
  assert.doesNotMatch(answer.body, /Cookies are blocked/);
});

test("repeated sign-in and sign-out does not count as a loop", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  for (let time = 0; time < 5; time++) {
    assert.equal((await signIn(world, visitor, "alice")).status, 200);
    assert.equal((await visitor.navigate(world.url("app", "/.pomerium/sign_out"))).status, 200);
  }
});

test("repeated revocation does not count as a loop", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  for (let time = 0; time < 5; time++) {
    assert.equal((await signIn(world, visitor, "alice")).status, 200);
    for (const { sessionId } of world.replica.projection.sessions()) {
      await world.submit({ type: "revokeSession", sessionId, reason: "operator" });
      await waitFor(
        "the node to apply the revocation",
        () => world.replica.projection.sessionStatus(sessionId).status === "revoked",
      );
    }
  }
});

test("returns of different tabs are not added up", async (t) => {
  const world = await startWorld(t);
  const visitor = world.visitor();
  const forms: VisitorResponse[] = [];
  for (let tab = 0; tab < 8; tab++) forms.push(await visitor.navigate(world.url("app", `/${tab}`)));
  for (const [tab, form] of forms.entries()) {
    const end = await visitor.navigate(form.url, { form: { user: "alice", password: "x" } });
    assert.deepEqual([end.status, end.url.href], [200, world.url("app", `/${tab}`)]);
  }
});

const executablePath = findChromium();
const options = { skip: executablePath === undefined ? "Chromium is not installed" : false, timeout: 120_000 };

test("a real browser that refuses the cookie stops at the page, which fits every viewport", options, async (t) => {
  const world = await startWorld(t, { cookie: { domain: "other.localhost" } });
  const args = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
  const browser: Browser = await chromium.launch({ executablePath: executablePath ?? "", args });
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(world.url("app", "/wanted"));
  await page.getByRole("button", { name: "Sign in as alice" }).click();
  await page.waitForSelector("[data-page=sign-in-loop]");
  assert.equal(page.url(), world.url("app", "/wanted"));
  const folder = process.env["SCREENSHOTS"];
  for (const width of [375, 768, 1280]) {
    await page.setViewportSize({ width, height: 800 });
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      assert.equal(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), true, `${width}`);
      if (folder !== undefined)
        await page.screenshot({ path: `${folder}/loop-${width}-${colorScheme}.png`, fullPage: true });
    }
  }
  await page.getByRole("link", { name: "Try again" }).click();
  await page.waitForSelector("[data-page=sign-in-loop]");
});
