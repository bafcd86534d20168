/**
 * The configuration views and the policy lab in a real Chromium: checks while typing, tests, and what an edited policy
 * would have done on the traffic of the last days.
 *
 * `SCREENSHOTS=<folder>` saves pictures at three sizes, in light and dark.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { texts } from "../../../src/console/index.ts";
import type { UnixMs } from "../../../src/events/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { announceConfiguration, type LabWorld, startLabWorld } from "../api/lab-support.ts";
import { checkAxe, pictures, pseudoText, sizes } from "../browser-support.ts";
import { consoleUrl, openConsole, options, startBrowser } from "./console-support.ts";

let browser: Browser | undefined;
before(async () => {
  browser = await startBrowser();
});
after(() => browser?.close());

const dayMs = 86_400_000;

/** A week of requests: alice is in eng, bob is not. */
async function withTraffic(lab: LabWorld): Promise<void> {
  const [alice, bob] = [await lab.person("alice"), await lab.person("bob")];
  for (let day = 6; day >= 0; day -= 1) {
    const at = (Date.now() - day * dayMs - 60_000) as UnixMs;
    lab.decided("eng", alice, "permit", { at, path: `/report/${day}` });
    lab.decided("eng", bob, "deny", { at, path: "/wiki/<b>markup</b>?", requestId: `bob-${day}` });
    lab.decided("eng", null, "deny", { at, result: "signin", status: 302, reasons: ["user-unauthenticated"] });
  }
  lab.decided("eng", bob, "deny", { result: "unavailable", status: 503, allow: undefined, deny: undefined });
}

async function checkLooks(page: Page, name: string, all = pictures !== undefined): Promise<void> {
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    for (const [width, height] of all ? sizes : [sizes[colorScheme === "light" ? 0 : 2]]) {
      await page.setViewportSize({ width, height });
      await checkAxe(page, `${name}, ${width}, ${colorScheme}`);
      if (pictures !== undefined)
        await page.screenshot({ path: join(pictures, `${name}-${width}-${colorScheme}.png`), fullPage: true });
    }
  }
  await page.setViewportSize({ width: 320, height: 640 });
  const width = Number(await page.evaluate("document.documentElement.scrollWidth"));
  assert.ok(width <= 320, `${name} scrolls to the side: ${width}`);
  await page.setViewportSize({ width: 1280, height: 900 });
}

test(
  "an edited policy is checked by line, tested, and replayed on the decisions of the last days; the draft stays",
  options,
  async (t) => {
    const lab = await startLabWorld(t, { console: {} });
    await withTraffic(lab);
    const context = { bypassCSP: true, permissions: ["clipboard-read", "clipboard-write"] };
    const { page } = await openConsole(t, browser, { world: lab.at, path: "/lab?route=eng", context });
    const part = (name: string) => page.locator(`[data-part="${name}"]`);
    await part("check").getByText("The policy is valid.").waitFor();
    const editor = page.getByRole("textbox", { name: "Policy as YAML" });
    assert.match(await editor.inputValue(), /groups:\n\s+has: eng/);
    assert.match((await page.locator("#lead").textContent()) ?? "", /on Engineering\?/);

    await editor.fill("allow:\n  or:\n    - grups: sales\n");
    await part("check").getByText("can't be deployed: 1 problem").waitFor();
    assert.equal(await page.locator(".gutter b.bad").textContent(), "3");
    await part("problems").getByRole("button", { name: "Line 3" }).click();
    assert.equal(await page.evaluate("document.activeElement.id + document.activeElement.selectionStart"), "policy19");
    if (pictures !== undefined) await checkLooks(page, "lab-problem");

    await editor.fill("allow:\n  and:\n    - groups: {has: sales}\n");
    await part("check").getByText("The policy is valid.").waitFor();
    await part("says").getByText("sales").first().waitFor();

    await page.getByRole("heading", { name: "Tests" }).click();
    await page.getByRole("button", { name: "Run tests" }).click();
    await part("tests").getByText("1 of 2 as expected.").waitFor();
    await part("tests").getByText("expected permit, got deny").waitFor();

    await editor.focus();
    await page.keyboard.press("Control+Enter");
    await part("progress")
      .getByText(/21 decisions replayed\. People who gain access: 1\. Who lose it: 1\./)
      .waitFor();
    const rows = page.locator("#differences tbody tr");
    assert.deepEqual(
      await rows.evaluateAll((all) =>
        all.map((row) => [row.getAttribute("data-change"), row.firstElementChild?.getAttribute("data-count")]),
      ),
      [
        ["gains", "7"],
        ["loses", "7"],
      ],
    );
    const first = rows.first().locator("a.row");
    assert.equal(await first.getAttribute("href"), "/.pomerium/admin/decisions/bob-6");
    assert.equal(await first.textContent(), "GET eng.example.com/wiki/<b>markup</b>?", "as text, never as markup");
    assert.equal(await rows.first().locator("a.chip").textContent(), "bob@example.com");
    await page.getByText("Not replayed: 1").click();
    await part("not-replayed").getByText("policy did not decide it: unavailable").waitFor();
    await page.getByRole("button", { name: "Copy summary" }).click();
    const summary = String(await page.evaluate("navigator.clipboard.readText()"));
    assert.match(summary, /### What-if: the edited policy of route `Engineering`/);
    assert.match(summary, /\*\*People who gain access: 1\. Who lose it: 1\.\*\*/);
    assert.doesNotMatch(summary, /bob@example/, "people are named by id");
    await page.getByRole("button", { name: "Copy as shadow_policy" }).click();
    assert.match(
      String(await page.evaluate("navigator.clipboard.readText()")),
      /^shadow_policy:\n {2}allow:\n {4}and:/,
    );
    await checkLooks(page, "lab", true);

    await page.getByRole("combobox", { name: "Facts" }).selectOption("now");
    await page.getByRole("button", { name: "Replay" }).click();
    await part("progress")
      .getByText(/decisions replayed/)
      .waitFor();

    await page.reload();
    await part("check").getByText("The policy is valid.").waitFor();
    assert.match(await editor.inputValue(), /has: sales/, "the draft is kept in this browser");
    await page.getByRole("button", { name: "Start again from the base" }).click();
    await page.getByRole("button", { name: "Discard the draft" }).click();
    await waitFor("the base", async () => /has: eng/.test(await editor.inputValue()));
  },
);

test(
  "configurations are listed with what runs where, shown without secrets, and compared; without scripts the same is read",
  options,
  async (t) => {
    const lab = await startLabWorld(t, { console: { texts: [texts[0]] } });
    await lab.person("bob");
    const { at, own } = lab;
    const text = JSON.stringify({ routes: [], cookie: { secret: "hmac-sha256:x" }, long: "x".repeat(300) });
    const other = await announceConfiguration(at.world, "node-2", text);
    const context = { bypassCSP: true };
    const { page } = await openConsole(t, browser, { world: at, path: "/configurations", context });
    const row = page.locator(`#history tr[data-id="${other}"]`);
    await row.waitFor();
    await checkLooks(page, "configurations");
    await page.goto(consoleUrl(at, `/configurations/${other}/diff/${own.configHash}`));
    await page.getByRole("heading", { name: /compared/ }).waitFor();
    await page.locator("#effect").getByText("Payroll").waitFor();
    assert.equal(await page.locator(".diff").getByText("hmac-sha256").count(), 0);
    await page.locator(".diff").getByText("routes[eng]", { exact: true }).waitFor();
    await checkLooks(page, "configuration-diff");
    await page.goto(consoleUrl(at, `/configurations/${own.configHash.slice(0, 12)}`));
    await page.locator("pre.text").getByText('"routes"').waitFor();
    await checkLooks(page, "configuration");
    const missing = await at.visitor.request(consoleUrl(at, `/configurations/${"0".repeat(64)}`), {
      headers: { authorization: `Bearer ${await at.token()}` },
    });
    assert.deepEqual([missing.status, missing.body.includes("no node runs such a configuration")], [404, true]);

    const plain = await openConsole(t, browser, {
      world: at,
      path: "/lab?route=eng",
      context: { javaScriptEnabled: false },
    });
    await plain.page.getByText("The lab needs scripts.").waitFor();
    assert.match(await plain.page.locator("#policy").inputValue(), /has: eng/);
    await plain.page.goto(consoleUrl(at, `/configurations?a=${other}&b=${own.configHash}`));
    await plain.page.locator(".notice a").click();
    await plain.page.getByRole("heading", { name: /compared/ }).waitFor();
    const strange = await plain.page.goto(consoleUrl(at, "/lab?route=%3Cscript%3E"));
    assert.equal(strange?.status(), 200);
    await plain.page.locator('.problem[role="alert"]').getByText("<script>").waitFor();

    const role = await at.token({ role: "viewer" });
    const answer = await at.visitor.request(consoleUrl(at, "/lab?route=eng"), {
      headers: { authorization: `Bearer ${role}` },
    });
    assert.match(answer.body, /A replay needs the role operator/);
    assert.doesNotMatch(answer.body, /replay-form/);
    assert.ok(answer.body.length < 40_000);
  },
);

test("with a longer language, right to left, the lab holds together", options, async (t) => {
  const lab = await startLabWorld(t, { console: { texts: [pseudoText(texts[0])] } });
  const { page } = await openConsole(t, browser, {
    world: lab.at,
    path: "/lab?route=eng",
    context: { bypassCSP: true },
  });
  await page.locator('[data-part="check"] .pill.good').waitFor();
  assert.doesNotMatch(
    (await page.locator("main").allTextContents()).join(" ").replaceAll(/⟦[^⟧]*⟧?/g, ""),
    /policy is valid|Replay/,
  );
  await page.setViewportSize({ width: 320, height: 640 });
  assert.ok(Number(await page.evaluate("document.documentElement.scrollWidth")) <= 320);
  await page.setViewportSize({ width: 1280, height: 900 });
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, "lab-pseudo.png"), fullPage: true });
});
