/** The console in a real Chromium, over the operator API of the sign-in tests and with its own scripts and policy. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { findChromium } from "../../support/chromium.ts";
import { type OperatorWorld, startOperatorWorld } from "../api/operator-support.ts";

const executablePath = findChromium();
export const options = { skip: executablePath === undefined ? "no Chromium on this machine" : false, timeout: 120_000 };

export async function startBrowser(): Promise<Browser | undefined> {
  if (executablePath === undefined) return undefined;
  const args = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update";
  return chromium.launch({ executablePath, args: args.split(" ") });
}

export const consoleUrl = (world: OperatorWorld, path = "/"): string =>
  world.world.url("authenticate", `/.pomerium/admin${path}`);

export type OpenConsole = Readonly<{ world: OperatorWorld; page: Page; complaints: string[] }>;

/** Signs in as a person of the demo provider; `alice` is an administrator. Complaints of the browser fail the test. */
export async function openConsole(
  t: TestContext,
  browser: Browser | undefined,
  {
    world: given,
    worldOptions = {},
    context = {},
    path = "/",
    person = "alice",
  }: Readonly<{
    world?: OperatorWorld;
    worldOptions?: Parameters<typeof startOperatorWorld>[1];
    context?: BrowserContextOptions;
    path?: string;
    person?: string;
  }> = {},
): Promise<OpenConsole> {
  const world = given ?? (await startOperatorWorld(t, { console: {}, ...worldOptions }));
  const opened = (await browser?.newContext({ locale: "en-GB", ...context })) ?? assert.fail("no browser");
  t.after(() => opened.close());
  const page = await opened.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => {
    const { url } = message.location();
    // The world of a test may end before its page.
    if (message.type() === "error" && !/\/favicon\.ico$|\/(?:live|decisions)\?/.test(url))
      complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  t.after(() => assert.deepEqual(complaints, []));
  await page.goto(consoleUrl(world, path));
  await page.getByRole("button", { name: `Sign in as ${person}` }).click();
  await page.waitForURL(/\/\.pomerium\//);
  return { world, page, complaints };
}
