/**
 * What an edited policy would have done, in a real Chromium over a real cluster with a paused node: who gains and who
 * loses by the recorded traffic of both proxies, with the groups of each decision's time, and each difference leads to
 * its decision.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Browser, chromium } from "playwright-core";
import { pictures } from "../../console/browser-support.ts";
import { findChromium } from "../../support/chromium.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, type Session, startCluster } from "./cluster.ts";

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

test(
  "an edited policy shows who would have gained and lost access, by what the people were at the time",
  options,
  async () => {
    const [kim, lee] = [await cluster.session("kim", ["eng"]), await cluster.session("lee")];
    const [north, south] = [cluster.proxy(1), cluster.proxy(2)];
    const status = async (proxy: typeof north, session: Session): Promise<number> =>
      (await cluster.get(proxy, "eng", session)).status;
    assert.equal(await status(north, kim), 200);
    assert.equal(await status(south, kim), 200);
    assert.equal(await status(north, lee), 403);
    const change = (body: object) => cluster.operator.post("/groups/night/members", { wait: "all", ...body });
    assert.equal((await change({ add: [lee.userId] })).status, 200);
    assert.equal(await status(south, lee), 403, "in the night shift, which opens nothing yet");
    assert.equal((await change({ remove: [lee.userId] })).status, 200);
    assert.equal(await status(north, lee), 403);
    await waitFor("the records of both proxies", async () => {
      const answer = await cluster.operator.get("/decisions?route=eng&since=0&limit=100");
      const { decisions } = JSON.parse(answer.body) as { decisions?: readonly { record: { userId: string } }[] };
      const of = ({ userId }: Session) => decisions?.filter(({ record }) => record.userId === userId).length ?? 0;
      return of(kim) >= 2 && of(lee) >= 3;
    });

    cluster.front.setTargets([north.ports.address]);
    south.pause();
    try {
      const page = await ((await browser?.newContext({ locale: "en-GB" })) ?? assert.fail("no browser")).newPage();
      await page.goto(`http://${cluster.host("authenticate")}/.pomerium/admin/lab?route=eng`);
      await page.getByRole("button", { name: "Sign in as alice" }).click();
      const editor = page.getByRole("textbox", { name: "Policy as YAML" });
      await editor.waitFor();
      assert.match(await editor.inputValue(), /has: eng/, "the policy in force");
      await editor.fill("allow:\n  and:\n    - groups: {has: night}\n");
      await page.locator('[data-part="check"]').getByText("The policy is valid.").waitFor();
      await page.keyboard.press("Control+Enter");
      await page
        .getByText(/decisions replayed\. People who gain access: 1\. Who lose it: 1\./)
        .waitFor({ timeout: 60_000 });
      const rows = page.locator("#differences tbody tr");
      const found = await rows.evaluateAll((all) =>
        all.map((row) => [row.getAttribute("data-change"), row.querySelector("a.chip")?.getAttribute("title")]),
      );
      assert.deepEqual(found, [
        ["gains", lee.userId],
        ["loses", kim.userId],
      ]);
      assert.equal(await rows.first().locator("td").first().getAttribute("data-count"), "1", "only while in the group");
      if (pictures !== undefined)
        await page.screenshot({ path: join(pictures, "what-if-cluster.png"), fullPage: true });
      await rows.first().locator("a.row").click();
      await page.getByRole("heading", { name: /^Why\?/ }).waitFor();
      assert.match((await page.locator("#lead").textContent()) ?? "", /Denied/);
      await page.goBack();
      await page.locator('[data-part="check"]').getByText("The policy is valid.").waitFor();
      assert.match(await editor.inputValue(), /has: night/, "the draft is still there");

      await page.goto(`http://${cluster.host("authenticate")}/.pomerium/admin/configurations`);
      await page.locator("#nodes").getByText("proxy-2").waitFor();
    } finally {
      south.resume();
    }
  },
);
