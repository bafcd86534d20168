/**
 * The console of a real cluster in a real Chromium, with one proxy paused: a person is revoked by keyboard alone, and
 * the receipt fills in until the paused proxy is fenced, and says the same after a reload.
 *
 * `SCREENSHOTS=<folder>` saves pictures.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Browser, chromium } from "playwright-core";
import { findChromium } from "../../support/chromium.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, startCluster } from "./cluster.ts";

const executablePath = findChromium();
const skip = executablePath === undefined ? "no Chromium on this machine" : false;
const pictures = process.env["SCREENSHOTS"];
let cluster: Cluster;
let browser: Browser;

before(
  async () => {
    if (executablePath === undefined) return;
    cluster = await startCluster({
      timing: "short",
      regions: ["north", "north", "north", "south", "south"],
      settings: { administrators: ["group:admins"] },
    });
    browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--no-first-run"] });
  },
  { timeout: 400_000 },
);
after(async () => {
  await browser?.close();
  await cluster?.stop();
});

test("revoking one person by keyboard: 5 of 6 nodes confirm, and the paused one is fenced", {
  skip,
  timeout: 180_000,
}, async () => {
  const bob = await cluster.session("bob");
  const paused = cluster.proxy(5);
  cluster.front.setTargets([cluster.proxy(1).ports.address]);
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const shoot = async (name: string): Promise<void> => {
    if (pictures !== undefined) await page.screenshot({ path: join(pictures, `${name}.png`) });
  };
  await page.goto(`http://${cluster.host("authenticate")}/.pomerium/admin/people/${bob.userId}`);
  await page.getByRole("button", { name: "Sign in as alice" }).click();
  await page.getByRole("heading", { level: 1 }).waitFor();
  paused.pause();
  try {
    await page.locator("#live[data-state=live]").waitFor();
    await page.keyboard.press("e");
    const dialog = page.getByRole("dialog");
    await dialog.getByText("1 session ends, and what is open on it closes.").waitFor();
    await dialog.getByText("Closed until they sign in again").waitFor();
    await shoot("moment-1-preview");
    // From "Cancel", which has the focus, to the button that makes the change.
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    const figure = page.locator('[data-part="figure"]');
    await waitFor("5 of 6", async () => /5\/6/.test((await figure.textContent()) ?? ""));
    await page.getByText("5 of 6 nodes have confirmed.").waitFor();
    const row = page.locator(`tr[data-node="${paused.name}"]`);
    assert.match((await row.textContent()) ?? "", /Fenced by .* at the latest/);
    await shoot("moment-1-waiting");
    await page.getByText(/In force everywhere in \d+\.\d s: 5 applied, 1 fenced\./).waitFor({ timeout: 30_000 });
    assert.match((await row.textContent()) ?? "", /\d\.\d s · Silent/);
    await shoot("moment-1-fenced");
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/receipts\/command/);
    await page.reload();
    await page.getByText("In force everywhere: 5 applied, 1 fenced.").waitFor({ timeout: 30_000 });
    await page.getByRole("link", { name: "Download signed receipt" }).waitFor();
    const others = await page.locator('tr[data-status="applied"]').allTextContents();
    assert.equal(others.length, 5);
    for (const text of others) assert.match(text, /\d+ ms|\d\.\d s/);
    assert.equal((await cluster.get(cluster.proxy(1), "app", bob)).permitted, false);
  } finally {
    paused.resume();
  }
  assert.equal((await cluster.get(paused, "app", bob)).permitted, false, "also by the proxy that was paused");
  await page.goto(`http://${cluster.host("authenticate")}/.pomerium/admin/receipts`);
  await page.locator("#receipts tbody tr").first().waitFor();
  await shoot("moment-1-receipts");
});
