// biome-ignore-all lint/suspicious/noTemplateCurlyInString: header templates look so
/**
 * Logout by a real provider (oidc-provider), over real HTTP: it posts logout tokens when a person ends their session
 * there, and a page of it loads our sign-out address in a frame of a real browser.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { decodeJwt } from "jose";
import { chromium } from "playwright-core";
import { findChromium } from "../../support/chromium.ts";
import type { Visitor } from "../../support/visitor.ts";
import { waitFor } from "../../support/wait-for.ts";
import { echoOf, follow, type Installation, retryUndecided, startInstallation } from "../identity/installation.ts";
import { raiseLevel } from "../scim/scim-client.ts";

const everyone = { allow_any_authenticated_user: true };
const second = { idp_client_id: "second", idp_client_secret: "the client secret of second" };
const parts: Parameters<typeof startInstallation>[1] = ({ url, upstream }) => ({
  routes: [
    {
      ...{ from: url("app"), to: upstream, ...everyone, pass_identity_headers: true },
      set_request_headers: { "X-Id": "${pomerium.id_token}" },
    },
    { from: url("own"), to: upstream, ...everyone, ...second },
  ],
});

const signIn = async (at: Installation, visitor: Visitor, host = "app") =>
  echoOf((await follow(visitor, at.url(host))).end);
const isSignedIn = async (at: Installation, visitor: Visitor, host = "app"): Promise<boolean> =>
  (await retryUndecided(() => visitor.request(at.url(host)))).status === 200;

/** Signs out at the provider itself, on its own page. */
async function endProviderSession(at: Installation, visitor: Visitor): Promise<void> {
  const page = await visitor.request(new URL("/session/end", at.provider.issuer));
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(page.body)?.[1] ?? assert.fail(page.body);
  const form = { xsrf, logout: "yes" };
  const done = await visitor.request(new URL("/session/end/confirm", at.provider.issuer), { form });
  assert.ok(done.status < 400, `${done.status} ${done.body}`);
  assert.deepEqual(at.provider.logoutFailures, []);
}

/** An answer of the upstream that does not end by itself. `closed` resolves when it is cut. */
async function openHeld(at: Installation, visitor: Visitor): Promise<Readonly<{ closed: Promise<unknown> }>> {
  const target = new URL(at.url("app", "/held"));
  const request = get({
    ...{ host: "127.0.0.1", port: at.port, path: target.pathname },
    headers: { host: target.host, cookie: visitor.cookieHeader(target) },
  });
  request.on("error", () => {}); // the cut
  const [response] = (await once(request, "response")) as [IncomingMessage];
  assert.equal(response.statusCode, 200);
  response.on("error", () => {}).resume();
  return { closed: new Promise((resolve) => response.once("close", resolve)) };
}

/** At the level from which logouts are recorded. */
async function start(t: TestContext, names: "sid" | "sub", form: "whole" | "split" = "whole"): Promise<Installation> {
  const at = await startInstallation(t, parts, form, { logoutNames: names });
  await raiseLevel(at);
  return at;
}

for (const form of ["whole", "split"] as const)
  test(`${form}: a logout at the provider ends this browser's sessions with every client, and no other browser's`, async (t) => {
    const at = await start(t, "sid", form);
    const [browser, other] = [at.visitor(), at.visitor()];
    await signIn(at, browser);
    await signIn(at, browser, "own");
    await signIn(at, other);
    const held = await openHeld(at, browser);
    await endProviderSession(at, browser);
    await waitFor("the session on app to end", async () => !(await isSignedIn(at, browser)));
    await waitFor("the session on own to end", async () => !(await isSignedIn(at, browser, "own")));
    await held.closed;
    assert.equal(await isSignedIn(at, other), true);
    await signIn(at, browser);
    assert.equal(await isSignedIn(at, browser), true, "a new sign-in is a new session there");
  });

test("a provider that names only the person ends all their sessions, and other people's continue", async (t) => {
  const at = await start(t, "sub");
  const [browser, other, bob] = [at.visitor(), at.visitor(), at.visitor()];
  await signIn(at, browser);
  await signIn(at, other);
  at.provider.person.name = "bob";
  await signIn(at, bob);
  await endProviderSession(at, browser);
  await waitFor("the session to end", async () => !(await isSignedIn(at, browser)));
  assert.deepEqual([await isSignedIn(at, other), await isSignedIn(at, bob)], [false, true]);
});

test("the sign-out here ends the session before the browser is at the provider, whose own report changes nothing more", async (t) => {
  const at = await start(t, "sid");
  const [browser, other] = [at.visitor(), at.visitor()];
  await signIn(at, browser);
  await signIn(at, other);
  const out = await browser.navigate(at.url("app", "/.pomerium/sign_out"), { until: at.provider.issuer.href });
  const there = out.location ?? assert.fail(`no redirect to the provider, but ${out.url.href}`);
  assert.equal(await isSignedIn(at, browser), false, "before the browser arrives at the provider");
  assert.equal(there.searchParams.get("client_id"), "cardea");
  assert.ok(there.searchParams.has("id_token_hint"));
  await endProviderSession(at, browser);
  assert.equal(await isSignedIn(at, other), true);
});

const executablePath = findChromium();
test("in a real browser, a page of the provider signs out in a frame; a page that does not know the sid cannot", {
  skip: executablePath === undefined ? "Chromium is not installed" : false,
  timeout: 120_000,
}, async (t) => {
  const at = await start(t, "sid");
  const args = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking";
  const browser = await chromium.launch({ executablePath: executablePath ?? "", args: args.split(" ") });
  t.after(() => browser.close());
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(at.url("app"));
  const echo = JSON.parse((await page.textContent("body")) ?? "") as { headers: Record<string, string> };
  const { iss, sid } = decodeJwt(echo.headers["x-id"] ?? "") as { iss: string; sid: string };
  const reload = async (): Promise<string> => (await page.goto(at.url("app")))?.url() ?? "";

  const frameOf = (query: Readonly<Record<string, string>>): string =>
    `${at.url("authenticate", "/.pomerium/sign_out")}?${new URLSearchParams(query)}`;
  const shown = { frame: "" };
  const site = createServer((_req, res) => {
    res.writeHead(200, { "content-type": "text/html" });
    res.end(`<!doctype html><iframe src="${shown.frame.replaceAll("&", "&amp;")}"></iframe>`);
  });
  await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    site.closeAllConnections();
    site.close();
  });
  const visit = async (frame: string): Promise<number> => {
    shown.frame = frame;
    const answered = page.waitForResponse((response) => response.url() === frame);
    await page.goto(`http://127.0.0.1:${(site.address() as AddressInfo).port}/`);
    return (await answered).status();
  };
  assert.equal(await visit(frameOf({ iss, sid: `${sid.slice(0, -1)}${sid.endsWith("A") ? "B" : "A"}` })), 200);
  assert.equal(await visit(frameOf({ iss: "https://evil.example", sid })), 400);
  await visit(at.url("authenticate", "/.pomerium/sign_out"));
  assert.equal(await reload(), at.url("app"));
  assert.match((await page.textContent("body")) ?? "", /x-id/, "still signed in");

  assert.equal(await visit(frameOf({ iss, sid })), 200);
  // The provider's own session continues, so the next request signs in again, with a new session here.
  const cookieBefore = (await context.cookies(at.url("app"))).find(({ name }) => name === "_pomerium")?.value;
  await waitFor("a new session", async () => {
    await reload();
    const cookie = (await context.cookies(at.url("app"))).find(({ name }) => name === "_pomerium")?.value;
    return cookie !== cookieBefore;
  });
});
