/**
 * From a refusal to its reason, in a real Chromium over a real cluster with a paused node. A person is refused and
 * copies the request id. An operator pastes it and sees the rule, the facts, the events that set them, and what would
 * be decided now. The operator adds the person, who is let in.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { pictures } from "../../console/browser-support.ts";
import { findChromium } from "../../support/chromium.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, startCluster } from "./cluster.ts";

const executablePath = findChromium();
const options = { skip: executablePath === undefined ? "no Chromium on this machine" : false, timeout: 240_000 };
let cluster: Cluster;
let browser: Browser | undefined;

before(
  async () => {
    if (executablePath === undefined) return;
    const settings = { administrators: ["email:alice@example.com"] };
    cluster = await startCluster({ timing: "short", regions: ["north", "south"], settings });
    const args = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking".split(" ");
    browser = await chromium.launch({ executablePath, args });
  },
  { timeout: 400_000 },
);
after(async () => {
  await browser?.close();
  await cluster?.stop();
});

async function openAs(person: string, url: string): Promise<{ page: Page; context: BrowserContext }> {
  const context = (await browser?.newContext({ locale: "en-GB" })) ?? assert.fail("no browser");
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const page = await context.newPage();
  await page.goto(url);
  await page.getByRole("button", { name: `Sign in as ${person}` }).click();
  return { page, context };
}

test("a refused person's request id leads to the rule, the facts and their events in two clicks", options, async () => {
  const eng = `http://${cluster.host("eng")}/`;
  const bob = await openAs("bob", `${eng}reports`);
  await bob.page.getByRole("heading", { name: /^You don't have access to/ }).waitFor();
  const [user] = JSON.parse((await cluster.operator.get("/users/bob")).body).users;
  for (const change of ["add", "remove"])
    assert.equal(
      (await cluster.operator.post("/groups/eng/members", { [change]: [user.id], reason: "a project" })).status,
      200,
    );
  cluster.front.setTargets([cluster.proxy(1).ports.address]);
  cluster.proxy(2).pause();
  try {
    const console = `http://${cluster.host("authenticate")}/.pomerium/admin`;
    const alice = await openAs("alice", `${console}/decisions`);
    await alice.page.getByRole("heading", { name: "Decisions" }).waitFor();

    await waitFor("a refusal that knows of the removal", async () => {
      await bob.page.goto(`${eng}reports`);
      return (await bob.page.locator("[data-status]").first().getAttribute("data-status")) === "403";
    });
    await bob.page.locator("button.copy").first().click();
    const id = await bob.page.evaluate<string>("navigator.clipboard.readText()");
    assert.match(id, /^[0-9a-f-]{36}$/);
    await alice.page.locator("#decisions").getByText("/reports").first().waitFor();
    await alice.page.getByPlaceholder("Request ID").fill(id);
    await alice.page.getByPlaceholder("Request ID").press("Enter");
    await alice.page.getByRole("heading", { name: `Why? ${id.slice(0, 8)}` }).waitFor();

    const lead = (await alice.page.locator("#lead").textContent()) ?? "";
    assert.match(lead, /^Denied: .* is in no group that has access\./);
    assert.match(lead, /removed from the group by operator: a project/);
    assert.match((await alice.page.locator("pre.policy").textContent()) ?? "", /groups:\s*\d+\s*has: eng/);
    await alice.page.getByText("The same result follows from the facts").waitFor();
    assert.match((await alice.page.locator('[data-part="now"]').textContent()) ?? "", /denied/);
    if (pictures !== undefined)
      await alice.page.screenshot({ path: join(pictures, "why-cluster.png"), fullPage: true });
    await alice.page
      .locator("section[aria-labelledby=facts] tbody tr", { hasText: "eng" })
      .getByRole("link")
      .last()
      .click();
    await alice.page.getByRole("heading", { name: "One change" }).waitFor();
    assert.match((await alice.page.locator("#lead").textContent()) ?? "", /removed .* from eng: a project/);

    await alice.page.keyboard.press("Control+k");
    await alice.page.getByRole("combobox").fill(id);
    await alice.page.getByRole("combobox").press("Enter");
    await alice.page.getByRole("heading", { name: `Why? ${id.slice(0, 8)}` }).waitFor();

    assert.equal((await cluster.operator.post("/groups/eng/members", { add: [user.id] })).status, 200);
    await waitFor("the explanation to permit now", async () => {
      await alice.page.goto(`${console}/decisions/${id}`);
      return /permitted/.test((await alice.page.locator('[data-part="now"]').textContent()) ?? "");
    });
    await waitFor("the person to be let in", async () => (await bob.page.goto(`${eng}reports`))?.status() === 200);
    await alice.context.close();
  } finally {
    cluster.proxy(2).resume();
  }
  await bob.context.close();
});
