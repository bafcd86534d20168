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

/** Texts outside the page. What a region of its own scrolls is not. */
const cutOff = `[...document.querySelectorAll("h1, h2, p, dt, dd, summary, figcaption, svg text, li, .stack td")]
  .filter((one) => {
    const { left, right, width } = one.getBoundingClientRect();
    return width > 0 && getComputedStyle(one).position !== "absolute" && (left < -0.5 || right > innerWidth + 0.5);
  })
  .map((one) => one.textContent.slice(0, 60))`;

type Contrasts = Readonly<{ texts: number; marks: number; faint: readonly string[] }>;

/**
 * Contrast by WCAG 2.2: 4.5 for text, 3 for marks. What is drawn in a plot has to stand out from the page and from the
 * band of a fault.
 */
const contrasts = `(() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const over = (top, below) => {
    const mix = (x, y) => x * top.a + y * (1 - top.a);
    return { r: mix(top.r, below.r), g: mix(top.g, below.g), b: mix(top.b, below.b), a: 1 };
  };
  const luminance = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ratio = (a, b) => {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light + 0.05) / (dark + 0.05);
  };
  const groundOf = (element) => {
    const layers = [];
    for (let one = element; one !== null; one = one.parentElement) {
      const color = parse(getComputedStyle(one).backgroundColor);
      if (color.a > 0) layers.push(color);
      if (color.a === 1) break;
    }
    return layers.reduceRight((below, top) => over(top, below), { r: 255, g: 255, b: 255, a: 1 });
  };
  const card = groundOf(document.querySelector("main"));
  const band = over(parse(getComputedStyle(document.querySelector(".bands rect")).fill), card);
  const faint = [];
  const check = (color, opacity, grounds, least, what) => {
    for (const ground of grounds) {
      const found = ratio(over({ ...color, a: color.a * opacity }, ground), ground);
      if (found < least) faint.push(what + ": " + found.toFixed(2));
    }
  };
  let [texts, marks] = [0, 0];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const element = node.parentElement;
    if (node.data.trim() === "" || !element.checkVisibility() || element.closest("title, desc") !== null) continue;
    texts += 1;
    const { color, fill, stroke } = getComputedStyle(element);
    const what = "text " + element.tagName + "." + (element.getAttribute("class") ?? "") + " " + node.data.trim().slice(0, 30);
    if (element.closest("svg") === null) check(parse(color), 1, [groundOf(element)], 4.5, what);
    else if (element.matches(".number")) check(parse(fill), 1, [parse(stroke)], 4.5, what);
    else check(parse(fill), 1, [card, band], 4.5, what);
  }
  const drawn = ".permitted, .error, .lane, .outline, path.head, path.node, rect.fault, rect.receipt, .m-circle, .m-square, .m-triangle";
  for (const element of document.querySelectorAll("svg.plot :is(" + drawn + ")")) {
    marks += 1;
    const { fill, stroke, opacity } = getComputedStyle(element);
    check(parse(fill === "none" ? stroke : fill), Number(opacity), [card, band], 3, "mark " + element.getAttribute("class"));
  }
  return { texts, marks, faint: [...new Set(faint)] };
})()`;

// One color scheme: the other changes custom properties for colors alone, which the next test measures.
for (const width of [360, 400, 800, 1_400])
  test(`at ${width} pixels nothing is wider than the page, and every text is large enough`, withBrowser, async () => {
    const page = await open(createRecord(), { width, colorScheme: "light" });
    for (const state of ["closed", "open"]) {
      const wider = Number(await page.evaluate("document.documentElement.scrollWidth - window.innerWidth"));
      assert.ok(wider <= 0, `${state}: the page is ${wider} pixels wider than the window`);
      assert.deepEqual(await page.evaluate(cutOff), [], `${state}: cut off at an edge`);
      await page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true");
    }
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
  });

for (const colorScheme of ["light", "dark"] as const)
  test(`in ${colorScheme} every text and every mark stands out from what is behind it`, withBrowser, async () => {
    const page = await open(createRecord(), { width: 1_400, colorScheme });
    await page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true");
    const { texts, marks, faint }: Contrasts = await page.evaluate(contrasts);
    assert.ok(texts > 300 && marks > 150, `${texts} texts and ${marks} marks were checked`);
    assert.deepEqual(faint, []);
    await page.close();
  });

test("the labels of a scale are beside the plot, so no mark covers them", withBrowser, async () => {
  for (const width of [400, 1_400]) {
    const page = await open(createRecord(), { width, colorScheme: "light" });
    const inside: readonly string[] = await page.evaluate(`
      [...document.querySelectorAll("text.tick[text-anchor=end]")]
        .filter((one) => one.getBoundingClientRect().right > one.closest("svg.plot").getBoundingClientRect().left)
        .map((one) => one.textContent)`);
    assert.deepEqual(inside, []);
    assert.ok((await page.locator("text.tick[text-anchor=end]").count()) >= 10);
    await page.close();
  }
});

test("the row of a table that scrolls sideways keeps its name in sight", withBrowser, async () => {
  const page = await open(createRecord(), { width: 400, colorScheme: "light" });
  const left = Number(
    await page.evaluate(`(() => {
      const region = [...document.querySelectorAll("div.scroll")].find((one) => one.scrollWidth > one.clientWidth + 40);
      region.scrollLeft = 10_000;
      const name = region.querySelector("tbody th").getBoundingClientRect();
      return name.left - region.getBoundingClientRect().left;
    })()`),
  );
  assert.equal(left, 0);
  await page.close();
});

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

test("what a run never measured has neither a mark nor a row, and hides nothing that it did measure", () => {
  const record = createRecord({ seconds: 600, scale: 30 });
  const slow = { ...record.revocations[0], atMs: 300_000, acknowledgedMs: 90_000, completeMs: 91_000 };
  const revocations = [...record.revocations, slow].map((one) => ({
    atMs: one.atMs ?? 0,
    what: one.what ?? "",
    region: one.region ?? "",
    acknowledgedMs: one.acknowledgedMs ?? null,
    enforcedMs: null,
    completeMs: one.completeMs ?? 1_000,
  }));
  const html = renderRunReport({ ...record, revocations });
  assert.ok(!html.includes('class="m-triangle"') && !html.includes(">last node refuses<"));
  assert.match(html, /acknowledged after 90\.0 s/, "the slowest of its point is drawn");
  assert.match(renderRunReport(record), /class="m-triangle"/);
  assert.match(renderRunReport(record), />last node refuses</);
});

test("complete receipts are drawn beside incomplete ones of the same point in time", () => {
  const record = createRecord({ seconds: 600, scale: 30 });
  const html = renderRunReport({
    ...record,
    receipts: record.receipts.map((one, i) => ({ ...one, status: i % 2 === 0 ? "complete" : "incomplete" })),
  });
  const drawn = (tone: string): number => html.split(`class="receipt ${tone}"`).length - 1;
  assert.ok(drawn("good") >= 200 && drawn("warn") >= 200, `${drawn("good")} complete, ${drawn("warn")} incomplete`);
});

test("a column without any value is left out, and a value that is missing is a dash", () => {
  const record = createRecord();
  const page = (text: string): string =>
    renderRunReport({ ...record, verdicts: record.verdicts.map((one) => ({ ...one, measured: null, text })) });
  assert.ok(!page("").includes('data-head="How"') && !page("").includes('data-head="Measured"'));
  assert.ok(page("seen").includes('data-head="How"'));
  assert.match(renderRunReport(record), /class="num none" data-head="Measured">–</);
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
