/** The console's access requests in a real Chromium: an approver without a role sees and decides, and nothing else. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import type { GroupId, UnixMs } from "../../../src/events/index.ts";
import { readsLevel } from "../../../src/events/index.ts";
import { signIn, subjectId } from "../../auth/authenticate/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { startOperatorWorld } from "../api/operator-support.ts";
import { ask, requestRoutes } from "../api/request-support.ts";
import { checkAxe, pictures, sizes } from "../browser-support.ts";
import { consoleUrl, openConsole, options, startBrowser } from "./console-support.ts";

let browser: Browser | undefined;
before(async () => {
  browser = await startBrowser();
});
after(() => browser?.close());

async function look(page: Page, name: string): Promise<void> {
  for (const [width, height] of sizes)
    for (const colorScheme of ["light", "dark"] as const) {
      if (pictures === undefined && (width === 375) !== (colorScheme === "light")) continue;
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme });
      if (width !== 768) await checkAxe(page, `${name} at ${width}, ${colorScheme}`);
      assert.equal(await page.evaluate("document.documentElement.scrollWidth > window.innerWidth"), false, name);
      if (pictures !== undefined)
        await page.screenshot({ path: join(pictures, `requests-${name}-${width}-${colorScheme}.png`), fullPage: true });
    }
  await page.setViewportSize({ width: 1280, height: 900 });
}

test("an approver sees who asks for what, approves until an end with its receipt, and ends it", options, async (t) => {
  const world = await startOperatorWorld(t, { console: {}, routes: requestRoutes() });
  await waitFor("the level", async () => (await world.post("/cluster/finalize", { level: readsLevel })).status === 200);
  const visitor = world.world.visitor();
  await signIn(world.world, visitor, "carol");
  const carol = subjectId(world.world, "carol");
  await ask(world, carol, "payroll", "hr", "Closing the quarter: ticket 4711. The reports of last week are missing.");
  await ask(world, carol, "wiki", "docs");
  const isIn = (): boolean => world.world.replica.projection.groupsOf(carol, Date.now() as UnixMs).has("hr" as GroupId);
  const admin = await openConsole(t, browser, { world });
  await admin.page.getByRole("link", { name: "2 access requests wait" }).click();
  await admin.page.getByText("2 requests wait for a decision.").waitFor();
  const { page, complaints } = await openConsole(t, browser, {
    world,
    path: "/requests",
    person: "bob",
    context: { bypassCSP: true },
  });
  await page.goto(consoleUrl(world));
  assert.equal(new URL(page.url()).pathname, "/.pomerium/admin/requests", "the overview is closed to him");
  await page.getByText("1 request waits for a decision.").waitFor();
  assert.equal(await page.locator("nav a", { hasText: "Sessions" }).count(), 0, "the menu has what he may open");
  assert.deepEqual(complaints, [], "the page asks for nothing that is closed to him");
  assert.equal(await page.locator("#live").count(), 0, "an indicator would never be live");
  await look(page, "list");
  await page.getByRole("link", { name: "Carol Cook" }).click();
  await page.getByText("ticket 4711").waitFor();
  assert.match((await page.locator("#opens").textContent()) ?? "", /Payroll.*Wiki/);
  await look(page, "pending");
  await page.getByRole("button", { name: "Approve…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("For how long").selectOption({ label: "4 hours" });
  await dialog.getByLabel("Note for the person (optional)").fill("Until the close");
  await dialog.getByRole("button", { name: "Approve request" }).click();
  await waitFor("the membership", isIn);
  await dialog.getByText(/Enforced everywhere|In force everywhere/).waitFor();
  await page.goto(page.url());
  await page.getByText("Until the close").waitFor();
  await look(page, "approved");
  await page.getByRole("button", { name: "End now…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "End access" }).click();
  await waitFor("the end", () => !isIn());
  await page.goto(consoleUrl(world, "/requests?status=over"));
  await page.getByText("Ended early").waitFor();
  await page.goto(consoleUrl(world, "/people"));
  assert.equal(await page.locator("table").count(), 0, "people are closed to an approver");
  // The browser's own lines about what is closed to an approver: the live figures of the cluster, and people.
  const others = complaints.filter((line) => !/status of 403/.test(line));
  complaints.splice(0, complaints.length, ...others);
});
