/**
 * The pages in a real Chromium: sign-in without scripts, the demo app's clock, an error page.
 *
 * `SCREENSHOTS=<folder>` saves pictures of them in light, dark and narrow.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { pageHeaders, type RenderedPage } from "../../src/auth/index.ts";
import { startDemoApp, startDemoProvider } from "../../src/dev/index.ts";
import { parseUnixMs } from "../../src/events/index.ts";
import { findChromium } from "../support/chromium.ts";
import { freePort } from "../support/free-port.ts";
import { anyReader, renderPage } from "../support/pages.ts";

const executablePath = findChromium();
const options = { skip: executablePath === undefined ? "no Chromium on this machine" : false, timeout: 120_000 };
let browser: Browser | undefined;

before(async () => {
  if (executablePath === undefined) return;
  const args =
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";
  browser = await chromium.launch({ executablePath, args: args.split(" ") });
});
after(() => browser?.close());

/** Fails the test if the page reports an error: a blocked script, a refused style, an exception. */
async function open(t: TestContext, context: BrowserContextOptions = {}): Promise<Page> {
  const opened = (await browser?.newContext(context)) ?? assert.fail("no browser");
  t.after(() => opened.close());
  const page = await opened.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  t.after(() => assert.deepEqual(complaints, []));
  return page;
}

async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env["SCREENSHOTS"];
  if (folder === undefined) return;
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: join(folder, `${name}-${colorScheme}.png`), fullPage: true });
  }
  const size = page.viewportSize();
  await page.setViewportSize({ width: 375, height: 700 });
  await page.screenshot({ path: join(folder, `${name}-narrow.png`), fullPage: true });
  if (size !== null) await page.setViewportSize(size);
}

async function serve(t: TestContext, answer: (url: URL) => string | RenderedPage): Promise<number> {
  const server = createServer((request, response) => {
    if (request.url === "/favicon.ico") return void response.writeHead(204).end();
    const made = answer(new URL(request.url ?? "/", "http://test.invalid"));
    const { html, headers } = typeof made === "string" ? { html: made, headers: pageHeaders } : made;
    response.writeHead(200, headers).end(html);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no address");
  return address.port;
}

test("a person signs in without scripts: by a button, by the keyboard, and as another person", options, async (t) => {
  const clientPort = await serve(t, (url) => `<p id="code">${url.searchParams.has("code") ? "code" : "no code"}</p>`);
  const callback = `http://authenticate.localhost:${clientPort}/oauth2/callback`;
  const port = await freePort();
  const issuer = new URL(`http://idp.localhost:${port}`);
  const provider = await startDemoProvider({
    issuer,
    listen: { host: "127.0.0.1", port },
    clientId: "cardea",
    clientSecret: "a secret of the test",
    redirectUris: [callback],
    postLogoutRedirectUris: [],
  });
  t.after(() => provider.close());
  const begin = new URL("/auth", issuer);
  begin.search = new URLSearchParams({
    client_id: "cardea",
    redirect_uri: callback,
    response_type: "code",
    scope: "openid profile email",
    code_challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    code_challenge_method: "S256",
    state: "s",
  }).toString();

  const page = await open(t, { javaScriptEnabled: false });
  await page.goto(begin.href);
  await picture(page, "sign-in");
  await page.getByRole("button", { name: "Sign in as alice" }).click();
  assert.equal(await page.locator("#code").textContent(), "code");

  await page.goto(begin.href);
  await page.getByText("signed in here now").waitFor();
  await page.getByLabel("User name").fill("bob");
  await page.getByLabel("Password").fill("anything");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#code").textContent(), "code");

  await page.goto(`${begin.href}&login_hint=carol`);
  assert.equal(await page.getByLabel("User name").inputValue(), "carol");
  await page.getByRole("button", { name: "Cancel" }).click();
  assert.equal(await page.locator("#code").textContent(), "no code");
});

test("an unknown name is announced to screen readers", options, async (t) => {
  const clientPort = await serve(t, () => "");
  const callback = `http://authenticate.localhost:${clientPort}/oauth2/callback`;
  const port = await freePort();
  const provider = await startDemoProvider({
    issuer: new URL(`http://idp.localhost:${port}`),
    listen: { host: "127.0.0.1", port },
    clientId: "cardea",
    clientSecret: "a secret of the test",
    redirectUris: [callback],
    postLogoutRedirectUris: [],
  });
  t.after(() => provider.close());
  const context = (await browser?.newContext({ javaScriptEnabled: false })) ?? assert.fail("no browser");
  t.after(() => context.close());
  const page = await context.newPage();
  const query = new URLSearchParams({
    client_id: "cardea",
    redirect_uri: callback,
    response_type: "code",
    scope: "openid",
    code_challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    code_challenge_method: "S256",
  });
  await page.goto(`http://idp.localhost:${port}/auth?${query}`);
  await page.getByLabel("User name").fill("mallory");
  await page.keyboard.press("Enter");
  assert.match((await page.getByRole("alert").textContent()) ?? "", /mallory/);
  await picture(page, "sign-in-unknown");
});

test("the app shows the user and a ticking clock, and reports a cut", options, async (t) => {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const jwk = { ...(await exportJWK(publicKey)), kid: "k1", alg: "ES256" };
  const keysPort = await serve(t, () => JSON.stringify({ keys: [jwk] }));
  const app = await startDemoApp({
    listen: { host: "127.0.0.1", port: 0 },
    jwksUrl: new URL(`http://app.localhost:${keysPort}/.well-known/pomerium/jwks.json`),
    links: [
      { name: "Engineers only", url: "http://eng.localhost:8080/" },
      { name: "Public", url: "http://public.localhost:8080/" },
    ],
  });
  t.after(() => app.close());
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: "app.localhost",
    aud: "app.localhost",
    sub: "alice",
    email: "alice@example.com",
    groups: ["eng", "admins"],
    name: "Alice Archer",
    iat: now,
    exp: now + 300,
  };
  const assertion = await new SignJWT(claims).setProtectedHeader({ alg: "ES256", kid: "k1" }).sign(privateKey);
  const page = await open(t, {
    extraHTTPHeaders: { "X-Pomerium-Jwt-Assertion": assertion, "X-Request-Id": "0f3c9d52" },
  });
  let cut: (() => Promise<void>) | undefined;
  await page.routeWebSocket("**/clock", (socket) => {
    socket.connectToServer();
    cut = () => socket.close({ code: 4401, reason: "session revoked" });
  });
  await page.goto(`http://app.localhost:${app.url.port}/`);
  await page.locator('[data-verdict="verified"]').waitFor();
  await page.getByRole("heading", { name: "Hello, Alice Archer" }).waitFor();
  await page.locator('[data-clock="connected"]').waitFor();
  await page.locator('[data-ticks="2"]').waitFor();
  await picture(page, "app");
  await cut?.();
  await page.locator('[data-clock="closed"]').waitFor();
  assert.match(
    (await page.getByRole("status").textContent()) ?? "",
    /^Your session ended\. Sign in again\. \(close code 4401: session revoked\)/,
  );
  await picture(page, "app-cut");
  await page.getByRole("button", { name: "Connect again" }).click();
  await page.locator('[data-clock="connected"]').waitFor();
});

test("the app handles a public visitor and a forged assertion", options, async (t) => {
  const app = await startDemoApp({
    listen: { host: "127.0.0.1", port: 0 },
    jwksUrl: new URL("http://app.localhost:1/jwks.json"),
  });
  t.after(() => app.close());
  const page = await open(t, { javaScriptEnabled: false });
  await page.goto(app.url.href);
  await page.locator('[data-verdict="absent"]').waitFor();
  await picture(page, "app-public");
  await page.setExtraHTTPHeaders({ "X-Pomerium-Jwt-Assertion": "rubbish" });
  await page.goto(app.url.href);
  await page.locator('[data-verdict="refused"]').waitFor();
  await picture(page, "app-refused");
});

test("a browser renders an error page correctly, whatever its text", options, async (t) => {
  const attack = `"><img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
  const port = await serve(t, () =>
    renderPage(
      {
        type: "error",
        status: 403,
        condition: "denied",
        title: "Access denied",
        description: "Not on a page.",
        app: `Payroll ${attack}`,
        owner: `the payroll team ${attack}`,
        reasons: ["groups-unauthorized", attack],
        requestId: attack,
        at: parseUnixMs(Date.now()),
        explain: {
          allow: [
            { operator: "or", requirements: [{ type: "groups", operators: [{ operator: "has", operand: attack }] }] },
          ],
          deny: [],
        },
        user: { name: `Bob ${attack}`, email: "bob@example.com" },
        host: "eng.localhost",
        signInUrl: "/.pomerium/sign_in",
        signOutUrl: "/.pomerium/sign_out",
      },
      { ...anyReader, host: null },
    ),
  );
  const page = await open(t);
  await page.goto(`http://eng.localhost:${port}/`);
  assert.equal(await page.title(), `You don't have access to Payroll ${attack} (403)`);
  assert.equal(await page.locator("img, script").count(), 0);
  // Heading, owner, name, sentence, request id, its button, reason.
  assert.equal(await page.locator("main").getByText(attack).count(), 6);
  await page.getByRole("link", { name: "Switch account" }).waitFor();
  await picture(page, "error-attacked");
});
