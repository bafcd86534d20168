/** The report page in a real browser, from a file: whole without network and scripts, readable at every width. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "playwright-core";
import { renderRunReport } from "../../../src/cli/drill/report/report-page.ts";
import type { RunRecord } from "../../../src/cli/drill/run-record.ts";
import { executablePath, startBrowser } from "../../end-to-end/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { createRecord, emptyRecord } from "./run-records.ts";

const folder = new TemporaryFolder("run-report");
let browser: Browser | undefined;
after(async () => {
  await browser?.close();
  folder.remove();
});
const withBrowser = { skip: executablePath === undefined ? "no Chromium on this machine" : false, timeout: 300_000 };

async function open(record: RunRecord, options: { width: number; colorScheme: "light" | "dark" }): Promise<Page> {
  browser ??= await startBrowser();
  const path = join(folder.path, `${record.name}-${record.durationMs}.html`);
  writeFileSync(path, renderRunReport(record));
  const page = await browser.newPage({
    viewport: { width: options.width, height: 900 },
    colorScheme: options.colorScheme,
  });
  await page.goto(pathToFileURL(path).href);
  return page;
}

test(
  "the page asks for nothing, runs nothing, and its own policy allows its whole style sheet",
  withBrowser,
  async () => {
    browser ??= await startBrowser();
    const context = await browser.newContext({ viewport: { width: 1_440, height: 900 } });
    const page = await context.newPage();
    const requests: string[] = [];
    const complaints: string[] = [];
    page.on("request", (request) => requests.push(request.url()));
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    const path = join(folder.path, "policy.html");
    writeFileSync(path, renderRunReport(createRecord()));
    await page.goto(pathToFileURL(path).href);
    assert.deepEqual(
      requests.filter((url) => !url.startsWith("data:")),
      [pathToFileURL(path).href],
    );
    assert.deepEqual(complaints, []);
    assert.equal(await page.locator("script").count(), 0);
    assert.equal(await page.locator("[style]").count(), 0, "the policy forbids style attributes");
    assert.equal(await page.evaluate(`getComputedStyle(document.querySelector("main")).borderRadius`), "14px");
    await context.close();
  },
);

for (const width of [360, 800, 1_440])
  for (const colorScheme of ["light", "dark"] as const)
    test(
      `at ${width} pixels in ${colorScheme} nothing is wider than the page, and every text is large enough`,
      withBrowser,
      async () => {
        const page = await open(createRecord(), { width, colorScheme });
        const wider = Number(await page.evaluate("document.documentElement.scrollWidth - window.innerWidth"));
        assert.ok(wider <= 0, `the page is ${wider} pixels wider than the window`);
        const small = await page.evaluate(
          `[...document.querySelectorAll("svg text")].filter((one) => Number.parseFloat(getComputedStyle(one).fontSize) < 10).length`,
        );
        assert.equal(small, 0);
        const plots = await page
          .locator("svg.plot")
          .evaluateAll((all) => all.map((one) => one.getBoundingClientRect().width));
        assert.ok(plots.length >= 7);
        for (const plot of plots) assert.ok(plot > 250 && plot <= width, `a plot is ${plot} pixels wide`);
        await page.close();
      },
    );

test("every chart has a name, a description, and a table of its figures", withBrowser, async () => {
  const page = await open(createRecord(), { width: 1_440, colorScheme: "light" });
  const charts: readonly Readonly<{ role: string; labels: readonly string[] }>[] = await page.evaluate(`
    [...document.querySelectorAll("svg.plot")].map((svg) => ({
      role: svg.getAttribute("role"),
      labels: svg.getAttribute("aria-labelledby").split(" ").map((id) => document.getElementById(id)?.textContent ?? ""),
    }))
  `);
  for (const { role, labels } of charts) {
    assert.equal(role, "img");
    assert.equal(labels.length, 2);
    for (const label of labels) assert.ok(label.length > 1, "a chart has no summary");
  }
  assert.equal(await page.locator("table caption").count(), await page.locator("table").count());
  const text = (await page.locator("main").textContent()) ?? "";
  for (const expected of ["Broken", "24.8 s", "≤ 20.0 s", "proxy-ap-2", "Requests by region"])
    assert.ok(text.includes(expected), `the page lacks ${expected}`);
  await page.close();
});

test(
  "a reader without a mouse reaches every section, opens what is closed, and scrolls every wide table",
  withBrowser,
  async () => {
    const page = await open(createRecord(), { width: 360, colorScheme: "light" });
    const focusable = await page.locator("a[href], summary, [tabindex='0']").count();
    const reached = new Set<string>();
    for (let i = 0; i < focusable + 2; i++) {
      await page.keyboard.press("Tab");
      reached.add(String(await page.evaluate("document.activeElement.outerHTML.slice(0, 120)")));
    }
    assert.ok([...reached].some((html) => html.includes("#promises")));
    assert.ok([...reached].some((html) => html.startsWith("<summary")));
    assert.ok([...reached].some((html) => html.includes('class="scroll"')));
    await page.locator("summary").first().focus();
    await page.keyboard.press("Enter");
    assert.equal(await page.locator("details").first().getAttribute("open"), "");
    await page.close();
  },
);

test("text of a run is shown as text, whatever it contains", () => {
  const hostile = '<script>alert(1)</script>"><img src=x onerror=alert(1)>';
  const record = createRecord();
  const html = renderRunReport({
    ...record,
    name: hostile,
    purpose: hostile,
    summary: hostile,
    command: hostile,
    version: hostile,
    facts: [{ name: hostile, value: hostile }],
    faults: record.faults.map((fault) => ({
      ...fault,
      name: hostile,
      target: hostile,
      region: hostile,
      text: hostile,
    })),
    traffic: record.traffic.map((series) => ({ ...series, region: hostile, source: hostile })),
    notes: [{ atMs: 1, text: hostile }],
    evidence: [{ title: hostile, atMs: null, lines: [hostile] }],
    nodes: record.nodes.map((node) => ({ ...node, node: hostile, region: hostile, role: hostile })),
    receipts: record.receipts.map((receipt) => ({ ...receipt, what: hostile, region: hostile })),
  });
  assert.ok(!html.includes("<script"));
  assert.ok(!html.includes("<img"));
});

test("a run without any observation has a page that says so", () => {
  const html = renderRunReport(emptyRecord);
  for (const sentence of [
    "No promise could be measured",
    "No request was counted",
    "Nothing was revoked",
    "No node was observed",
    "Stopped early",
  ])
    assert.ok(html.includes(sentence), sentence);
  assert.ok(!/NaN|undefined|Infinity/.test(html));
});

test("no page has a figure that is not a number", () => {
  assert.doesNotMatch(renderRunReport(createRecord()), /NaN|undefined|Infinity/);
  assert.doesNotMatch(renderRunReport(createRecord({ seconds: 3_600, scale: 30 })), /NaN|undefined|Infinity/);
});

test("a day of faults over many nodes makes a page of two megabytes at most", () => {
  const record = createRecord({ seconds: 86_400, scale: 200 });
  const long = "x".repeat(100_000);
  const many: RunRecord = {
    ...record,
    nodes: Array.from({ length: 300 }, (_, i) => ({
      node: `proxy-${i}`,
      region: `region-${i % 40}`,
      role: "proxy",
      samples: record.nodes[0]?.samples ?? [],
    })),
    traffic: Array.from({ length: 40 }, (_, i) => ({
      region: `region-${i}`,
      source: "clients",
      seconds: record.traffic[0]?.seconds ?? [],
    })),
    notes: Array.from({ length: 10_000 }, (_, i) => ({ atMs: i, text: long })),
    evidence: Array.from({ length: 1_000 }, () => ({
      title: long,
      atMs: 0,
      lines: Array.from({ length: 1_000 }, () => long),
    })),
    facts: Array.from({ length: 1_000 }, () => ({ name: long, value: long })),
    verdicts: Array.from({ length: 1_000 }, () => ({
      promise: long,
      result: "held" as const,
      bound: null,
      measured: null,
      text: long,
    })),
  };
  const bytes = Buffer.byteLength(renderRunReport(many));
  assert.ok(bytes <= 2 * 1024 * 1024, `${bytes} bytes`);
});
