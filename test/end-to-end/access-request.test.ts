/**
 * Access requests in a real Chromium against a real `cardea dev`: refused, asked, approved, opened, and cut at the end.
 *
 * `SCREENSHOTS=<folder>` saves pictures at three sizes, in light and dark.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core";
import { checkAxe, pictures, sizes } from "../console/browser-support.ts";
import { waitFor } from "../support/wait-for.ts";
import { type Dev, executablePath, pageMsMax, startBrowser, startDev } from "./support.ts";

const options = { skip: executablePath === undefined ? "no Chromium on this machine" : false, timeout: 240_000 };
let browser: Browser;
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

/** Checks a page at three sizes, in light and dark, and saves pictures of it. */
async function look(page: Page, name: string): Promise<void> {
  // The colours are those of every page, so two of the six cover widths and colours.
  const shown = pictures === undefined ? [sizes[0], sizes[2]] : sizes;
  for (const [width, height] of shown)
    for (const colorScheme of pictures === undefined ? [width === 375 ? "light" : "dark"] : ["light", "dark"]) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: colorScheme as "light" | "dark" });
      if (pictures === undefined) await checkAxe(page, `${name} at ${width}, ${colorScheme}`);
      const overflow = await page.evaluate("document.documentElement.scrollWidth > window.innerWidth");
      assert.equal(overflow, false, `${name} at ${width} scrolls sideways`);
      if (pictures !== undefined)
        await page.screenshot({ path: join(pictures, `access-${name}-${width}-${colorScheme}.png`), fullPage: true });
    }
}

async function refused(user: string, more: BrowserContextOptions = {}): Promise<[BrowserContext, Page, string[]]> {
  const context = await browser.newContext({ bypassCSP: true, ...more });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(dev.url("eng", "/?x=1"));
  await page.getByRole("button", { name: new RegExp(user, "i") }).click();
  await page.waitForSelector('[data-page="error"]');
  return [context, page, complaints];
}

const textOf = async (page: Page): Promise<string> => (await page.locator("main").textContent()) ?? "";

type Listed = Readonly<{ id: string; status: string; reason: string; refusal: string; person: { email: string } }>;
async function listed(status = "pending"): Promise<readonly Listed[]> {
  const { code, out, err } = await dev.cardea("requests", "list", "--status", status, "--json");
  assert.equal(code, 0, err);
  return JSON.parse(out).requests;
}

test(
  "bob is refused, asks, and his page opens by itself once approved; at the end the open stream is cut",
  options,
  async (t) => {
    const [context, page, complaints] = await refused("bob");
    t.after(() => context.close());
    const refusal = await page.locator('[data-part="request-id"]').textContent();
    await page.getByRole("link", { name: "Request access" }).click();
    await page.waitForSelector('[data-page="access-request"]');
    await look(page, "form");
    await page.getByLabel("4 hours").check();
    await page.getByLabel("Reason").fill("The deploy of Friday is stuck, and everyone who may look is away.");
    await page.getByRole("button", { name: "Send request" }).click();
    await page.getByRole("heading", { name: "Waiting for admins" }).waitFor();
    await look(page, "waiting");
    const [asked] = await listed();
    assert.ok(asked !== undefined);
    assert.match(asked.reason, /deploy of Friday/);
    assert.deepEqual([asked.refusal, asked.person.email], [refusal, "bob@example.com"]);

    const endsAt = Date.now() + 20_000;
    const until = new Date(endsAt).toISOString();
    const approved = await dev.cardea(
      "requests",
      "approve",
      asked.id,
      "--until",
      until,
      "--wait",
      "--note",
      "until two",
    );
    assert.equal(approved.code, 0, approved.err);
    await page.waitForSelector('[data-clock="connected"]', { timeout: 18_000 });
    assert.equal(new URL(page.url()).pathname + new URL(page.url()).search, "/?x=1", "where bob wanted to go");
    await page.waitForSelector('[data-clock="closed"]', { timeout: 40_000 });
    assert.ok(Date.now() >= endsAt - 2_500, "not before the end");
    assert.ok(Date.now() < endsAt + 5_000, `the stream was cut ${Date.now() - endsAt} ms after the end`);
    await page.goto(dev.url("eng"));
    await page.getByRole("link", { name: "Request access" }).click();
    await page.getByText("Your access has ended.").waitFor();
    assert.match(await textOf(page), /The approver wrote: until two/);
    await look(page, "ended");
    await waitFor("the end in the record", async () =>
      (await listed("over")).some(({ status }) => status === "expired"),
    );
    assert.deepEqual(complaints, []);
  },
);

test("without scripts a person asks, checks again, reads the denial, asks again and withdraws", options, async (t) => {
  const [context, page] = await refused("bob", { javaScriptEnabled: false });
  t.after(() => context.close());
  await page.getByRole("link", { name: "Request access" }).click();
  await page.getByLabel("Reason").fill("Please");
  await page.getByRole("button", { name: /Send request|Ask again/ }).click();
  await page.getByRole("link", { name: "Check again" }).click();
  await page.getByRole("heading", { name: "Waiting for admins" }).waitFor();
  const [asked] = await listed();
  const denied = await dev.cardea("requests", "deny", asked?.id ?? "", "--note", "ask carol first");
  assert.equal(denied.code, 0, denied.err);
  await waitFor("the denial", async () => {
    await page.getByRole("link", { name: "Check again" }).or(page.getByText("was denied")).first().click();
    return (await textOf(page)).includes("ask carol first");
  });
  await page.getByLabel("Reason").fill("Carol said yes");
  await page.getByRole("button", { name: "Ask again" }).click();
  await page.getByRole("button", { name: "Withdraw request" }).click();
  await page.getByText("You withdrew your last request.").waitFor();
  assert.deepEqual(await listed(), []);
});

test("a hostile caller learns and changes nothing", options, async (t) => {
  const [context, page] = await refused("bob");
  t.after(() => context.close());
  const link = (await page.getByRole("link", { name: "Request access" }).getAttribute("href")) ?? "";
  const proof = new URL(link, dev.url("eng")).searchParams.get("proof") ?? "";
  const route = new URL(link, dev.url("eng")).searchParams.get("route") ?? "";
  const api = "/.pomerium/api/v1/access-requests";
  const wish = { routeId: route, proof, reason: "please", durationMs: 3_600_000 };
  const send = await sender(context);
  const post = (data: object | string, headers: Readonly<Record<string, string>> = {}, path = api) =>
    send("POST", path, {
      body: typeof data === "string" ? data : JSON.stringify(data),
      headers: { "content-type": "application/json", ...headers },
    });
  const [, unknown] = await post({ ...wish, routeId: "no-such-route" });
  for (const wrong of [
    { ...wish, routeId: "app" },
    { ...wish, routeId: "constructor", proof: "a.b" },
  ])
    assert.deepEqual(
      await post(wrong),
      [404, unknown],
      "what exists and cannot be asked for is as what does not exist",
    );
  assert.equal((await post(wish, { "sec-fetch-site": "cross-site" }))[0], 403);
  assert.equal((await post(wish, { origin: "https://evil.example" }))[0], 403);
  assert.equal((await post("route=x", { "content-type": "text/plain" }))[0] >= 400, true);
  assert.equal((await post("[1]"))[0], 400);
  assert.equal((await post({ ...wish, reason: "x".repeat(70_000) }))[0], 413);
  for (const [change, code] of [
    [{ reason: "x".repeat(301) }, "reason-long"],
    [{ reason: " " }, "reason-missing"],
    [{ durationMs: 999 }, "duration"],
    [{ durationMs: "3600000" }, "duration"],
    [{ id: "not-an-id" }, "out-of-date"],
  ] as const)
    assert.match((await post({ ...wish, ...change }))[1], new RegExp(`"${code}"`));
  const form = await send("POST", "/.pomerium/access", {
    body: new URLSearchParams({ route, proof, duration: "3600000", reason: "x", action: "request" }).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "cross-site" },
  });
  assert.equal(form[0], 400, "another site's form");
  assert.deepEqual(await listed(), [], "nothing was recorded");

  // Twice at once, and again under the same id: one request.
  const id = "99999999-9999-4999-8999-999999999999";
  const both = await Promise.all([post({ ...wish, id }), post({ ...wish, id }), post(wish)]);
  assert.deepEqual(
    both.map(([status]) => status),
    [200, 200, 200],
    both.map(([, body]) => body).join(),
  );
  assert.equal((await listed()).length, 1);
  const stranger = await browser.newContext();
  t.after(() => stranger.close());
  assert.equal((await (await sender(stranger))("POST", api, { body: "{}", headers: json }))[0], 401);
  const [asked] = await listed();
  const carols = await stranger.newPage();
  await carols.goto(dev.url("eng"));
  await carols.getByRole("button", { name: /carol/i }).click();
  await carols.waitForSelector('[data-clock="connected"]', { timeout: pageMsMax });
  const asCarol = await sender(stranger);
  const [status, body] = await asCarol("POST", `${api}/${asked?.id}/withdraw`, { body: "{}", headers: json });
  assert.deepEqual([status, /out-of-date/.test(body)], [409, true], "another person's request");
  assert.equal((await asCarol("GET", api))[1], '{"requests":[],"permitted":false}');
  assert.equal(JSON.parse((await send("GET", api))[1]).requests[0].status, "pending");
  assert.equal((await post({}, {}, `${api}/${asked?.id}/withdraw`))[0], 200);
  assert.deepEqual(await listed(), []);
});

const json = { "content-type": "application/json" };

type Send = (
  method: string,
  path: string,
  more?: Readonly<{ body?: string; headers?: Readonly<Record<string, string>> }>,
) => Promise<readonly [status: number, body: string]>;

/** Sends requests to the route's host with the cookies of a browser, which could not send all of them itself. */
async function sender(context: BrowserContext): Promise<Send> {
  const cookies = await context.cookies(dev.url("eng"));
  const cookie = cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
  return async (method, path, { body, headers = {} } = {}) => {
    const sent = request({
      ...{ host: "127.0.0.1", port: dev.port, method, path },
      headers: { host: new URL(dev.url("eng")).host, cookie, accept: "application/json", ...headers },
    });
    sent.end(body);
    const [answer] = (await once(sent, "response")) as [IncomingMessage];
    return [answer.statusCode ?? 0, await text(answer)];
  };
}
