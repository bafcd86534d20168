/**
 * The first steps of a new user, in a real Chromium against a real `cardea dev`.
 *
 * Sign in, be revoked from another terminal, see the clock stop, and sign in again; a person without access gets a page
 * that says why. `SCREENSHOTS=<folder>` stores pictures.
 */
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { waitFor } from "../support/wait-for.ts";
import { type Dev, executablePath, pageMsMax, startBrowser, startDev } from "./support.ts";

const options = { skip: executablePath === undefined ? "no Chromium on this machine" : false, timeout: 240_000 };
let browser: Browser;
/** Shared: each test uses a browser of its own, and the last one restarts it. */
let dev: Dev;
const ends: (() => unknown)[] = [];

before(async () => {
  if (executablePath === undefined) return;
  [browser, dev] = await Promise.all([
    startBrowser(),
    startDev({ after: (end) => void (end && ends.push(end as () => unknown)) }),
  ]);
});
after(async () => {
  await browser?.close();
  for (const end of ends) await end();
});

async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env["SCREENSHOTS"];
  if (folder !== undefined) await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}

async function signIn(context: BrowserContext, user: string, host = "app"): Promise<Page> {
  const page = await context.newPage();
  await page.goto(dev.url(host));
  assert.equal(new URL(page.url()).hostname, "idp.localhost");
  await page.getByRole("button", { name: new RegExp(user, "i") }).click();
  return page;
}

const textOf = async (page: Page): Promise<string> => (await page.locator("body").textContent()) ?? "";
const clock = (page: Page, state: string) => page.waitForSelector(`[data-clock="${state}"]`, { timeout: pageMsMax });

test(
  "a revocation from another terminal stops the clock of a signed-in person and requires a new sign-in",
  options,
  async (t) => {
    const context = await browser.newContext();
    t.after(() => context.close());
    const page = await signIn(context, "alice");
    await page.waitForSelector('[data-verdict="verified"]');
    await clock(page, "connected");
    await picture(page, "app-signed-in");
    assert.match(await textOf(page), /alice/i);

    const listed = await dev.cardea("sessions", "list", "--user", "alice", "--status", "active", "--json");
    const sessions: { id: string; email: string }[] = JSON.parse(listed.out);
    assert.equal(sessions.length, 1);

    const revoked = await dev.cardea("sessions", "revoke", sessions[0]?.id ?? "", "--wait");
    assert.equal(revoked.code, 0, revoked.err);
    assert.match(revoked.out, /complete at position \d+/);

    await clock(page, "closed");
    await picture(page, "app-revoked");
    assert.equal(await page.getAttribute('[data-clock="closed"]', "data-code"), "4401");

    await page.goto(dev.url("app"));
    assert.equal(new URL(page.url()).hostname, "idp.localhost", "the next request redirects to sign-in");
    assert.match((await dev.cardea("sessions", "list", "--status", "revoked")).out, /operator/);
  },
);

test(
  "a denied route shows a page that says why, and changes of group membership take effect at once",
  options,
  async (t) => {
    const context = await browser.newContext();
    t.after(() => context.close());
    const page = await signIn(context, "bob", "eng");
    await page.waitForSelector('body[data-page="error"]');
    await picture(page, "eng-refused");
    assert.equal(await page.locator("[data-status]").getAttribute("data-status"), "403");
    const text = await textOf(page);
    assert.match(text, /eng/);
    assert.match(text, /bob/i);

    assert.equal((await dev.cardea("groups", "add", "eng", "bob", "--wait")).code, 0);
    await page.goto(dev.url("eng"));
    await page.waitForSelector('[data-verdict="verified"]');
    await clock(page, "connected");

    const removed = await dev.cardea("groups", "remove", "eng", "bob", "--wait");
    assert.equal(removed.code, 0, removed.err);
    await clock(page, "closed");
    assert.equal(await page.getAttribute('[data-clock="closed"]', "data-code"), "4403");
    await page.goto(dev.url("app"));
    await page.waitForSelector('[data-verdict="verified"]'); // still signed in: only access to eng is gone
  },
);

test("one sign-in serves every route, sign-out ends them all, and the public route needs none", options, async (t) => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const publicPage = await context.newPage();
  await publicPage.goto(dev.url("public"));
  await publicPage.waitForSelector('[data-verdict="public"]');

  const page = await signIn(context, "alice");
  await page.waitForSelector('[data-verdict="verified"]');
  const visited: string[] = [];
  page.on("response", (response) => visited.push(new URL(response.url()).hostname));
  await page.goto(dev.url("eng"));
  await page.waitForSelector('[data-verdict="verified"]');
  assert.ok(!visited.includes("idp.localhost"), "no second visit to the identity provider");

  await page.goto(dev.url("app", "/.pomerium/"));
  await page.waitForSelector('body[data-page="user-info"]');
  await picture(page, "user-info");
  assert.match(await textOf(page), /alice@example\.com/);

  await page.goto(dev.url("app", "/.pomerium/sign_out"));
  await page.waitForSelector('body[data-page="signed-out"]');
  await picture(page, "signed-out");
  for (const host of ["app", "eng"]) {
    await page.goto(dev.url(host));
    assert.equal(new URL(page.url()).hostname, "idp.localhost");
  }
});

test(
  "decisions are recorded with their reasons and position, and can be read with `audit tail`",
  options,
  async (t) => {
    const context = await browser.newContext();
    t.after(() => context.close());
    const page = await signIn(context, "bob", "eng");
    await page.waitForSelector('body[data-page="error"]');
    const denied = await waitFor<Record<string, unknown>>("the denial to be recorded", async () => {
      const tail = await dev.cardea("audit", "tail", "--last", "100", "--no-follow", "--json");
      const records: Record<string, unknown>[] = tail.out
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line));
      return records.find((record) => record["result"] === "deny");
    });
    assert.deepEqual(denied["reasons"], ["groups-unauthorized"]);
    assert.equal(denied["status"], 403);
    assert.ok(Number((denied["applied"] as { position: number }).position) > 1);
    assert.ok(!JSON.stringify(denied).includes("bob@"), "records contain ids, not names");
  },
);

test(
  "the first minute: Bob's clock runs, Alice revokes his session, and each step ticks itself off",
  options,
  async (t) => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    t.after(() => context.close());
    const start = await context.newPage();
    const complaints: string[] = [];
    start.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    await start.goto(dev.url("start"));
    const next = async (name: string): Promise<Page> => {
      const opened = context.waitForEvent("page");
      await start.getByRole("link", { name }).click();
      return opened;
    };
    const isDone = (step: number) => start.waitForSelector(`[data-step="${step}"][data-done]`);

    const app = await next("Open the app as Bob");
    await clock(app, "connected");
    assert.match(await textOf(app), /Hello, Bob Baker/);
    await isDone(1);
    const operators = await next("Open the console as Alice");
    await operators.waitForSelector("body.console");
    assert.match(operators.url(), /authenticate\.localhost:\d+\/\.pomerium\/admin\//);
    await isDone(2);
    await app.reload();
    assert.match(await textOf(app), /Hello, Bob Baker/, "in the app's tab you stay Bob");
    await clock(app, "connected");
    await picture(start, "start");
    await operators.getByRole("heading", { name: "Bob Baker" }).waitFor();
    await operators.getByRole("button", { name: "Revoke sessions…" }).click();
    const dialog = operators.getByRole("dialog");
    await dialog.getByRole("button", { name: "Revoke all sessions of Bob Baker" }).click();
    await dialog.getByText(/Enforced everywhere/).waitFor();
    await picture(operators, "start-receipt");
    await clock(app, "closed");
    assert.equal(await app.getAttribute('[data-clock="closed"]', "data-code"), "4401");
    await isDone(3);
    await start.getByText(/^Bob's connection was cut at /).waitFor();

    // A visitor who leaves is not one who was cut off, and the guide can be taken again.
    await clock(await next("Open the app as Bob"), "connected");
    await start.getByText("Bob's clock is running.").waitFor();
    await app.close();
    assert.equal(await start.locator("[data-step='3'][data-done]").count(), 0);

    await start.keyboard.press("Escape");
    assert.equal(await start.evaluate("document.activeElement.textContent"), "Show the guide");
    await start.reload();
    assert.ok(await start.locator("#steps").isHidden(), "remembered in the browser");
    await start.getByRole("button", { name: "Show the guide" }).press("Enter");
    await start.getByText("Bob uses an app").waitFor();
    assert.deepEqual(complaints, []);

    const form = await context.newPage();
    const elsewhere = await form.goto(`${dev.url("idp", "/demo/as")}?user=alice&to=https://evil.example/`);
    assert.equal(elsewhere?.status(), 400, "a link of the guide leads to this installation alone");
    await form.goto(dev.url("eng", "/.pomerium/sign_in?pomerium_account=another"));
    await form.waitForSelector("[data-page=demo-sign-in]"); // each link counts for one sign-in
  },
);

test("a port in use is reported in one line, and no process is left running", options, async () => {
  const second = await dev.cardea("dev", "--port", String(dev.port));
  assert.equal(second.code, 3);
  assert.match(second.err, /port \d+ is in use; stop the program that uses it, or choose another port with --port/);
});

test("sessions survive a restart, and only the owner can read the secrets", options, async (t) => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await signIn(context, "carol");
  await page.waitForSelector('[data-verdict="verified"]');
  await dev.restart();
  await page.goto(dev.url("app"));
  await page.waitForSelector('[data-verdict="verified"]');
  for (const file of ["secrets.json", "operator.json"]) {
    assert.equal(statSync(join(dev.dataDir, file)).mode & 0o777, 0o600, file);
  }
});
