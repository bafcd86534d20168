/** A route without a session while no sign-in can be recorded: the answer to each kind of caller. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";
import { findChromium } from "../support/chromium.ts";
import { renderPage } from "../support/pages.ts";
import { type Rig, routeTo, signedIn, startRig, startUpstream, type Upstream } from "./support.ts";

let rig: Rig;
let upstream: Upstream;
const gate = { open: false };
before(async () => {
  upstream = await startUpstream();
  rig = await startRig([routeTo(upstream.port)], {
    deps: { render: renderPage, signIns: { isOpen: () => gate.open } },
  });
  await rig.apply(signedIn(1));
});
after(async () => {
  await rig.close();
  await upstream.close();
});

const navigation = { accept: "text/html", "sec-fetch-mode": "navigate" };

describe("without a session, while no sign-in can be recorded", () => {
  test("a person gets a page at once: 503, when to retry, no redirect and no cookie", async () => {
    const answer = await rig.request({ path: "/reports?x=1", headers: navigation });
    assert.equal(answer.status, 503);
    assert.equal(answer.headers["retry-after"], "5");
    assert.deepEqual([answer.headers.location, answer.headers["set-cookie"]], [undefined, undefined]);
    assert.match(answer.body, /You can(?:'|&#39;)t sign in right now/);
    assert.ok(answer.body.includes('href="http://app.localhost/reports?x=1"'), "a retry leads to the same page");
    assert.match(answer.body, /Use existing sign-in/);
    assert.deepEqual([rig.records.at(-1)?.result, rig.records.at(-1)?.status], ["signin", 503]);
    assert.equal((await rig.request({ path: "/long?q=".padEnd(4_000, "x"), headers: navigation })).status, 503);
  });

  test("callers that would not be redirected get their 401 as always", async () => {
    const script = await rig.request({ headers: { "sec-fetch-mode": "cors", accept: "application/json" } });
    const program = await rig.request({ headers: { accept: "application/json" } });
    assert.deepEqual([script.status, program.status], [401, 401]);
    const grpc = await rig.request({ method: "POST", headers: { "content-type": "application/grpc" } });
    assert.equal(grpc.headers["grpc-status"], "16");
  });

  test("a session is served as always, and a redirect starts again with the leader", async (t) => {
    assert.equal((await rig.request({ session: 1 })).status, 200);
    gate.open = true;
    t.after(() => {
      gate.open = false;
    });
    assert.equal((await rig.request({ headers: navigation })).status, 302);
  });

  const executablePath = findChromium();
  const options = { skip: executablePath === undefined ? "Chromium is not installed" : false, timeout: 120_000 };
  test("a real browser shows the page whole at every width, in light and dark", options, async (t) => {
    const args = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];
    const chrome = await chromium.launch({ executablePath: executablePath ?? "", args });
    t.after(() => chrome.close());
    const page = await chrome.newPage();
    await page.goto(`http://app.localhost:${rig.port}/reports`);
    await page.getByRole("heading", { name: "You can't sign in right now" }).waitFor();
    await page.getByRole("link", { name: "Try again" }).waitFor();
    await page.getByRole("link", { name: "Use existing sign-in" }).waitFor();
    const folder = process.env["SCREENSHOTS"];
    for (const width of [320, 768, 1280]) {
      await page.setViewportSize({ width, height: 900 });
      for (const colorScheme of ["light", "dark"] as const) {
        await page.emulateMedia({ colorScheme });
        const overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
        assert.ok(Number(overflow) <= 0, `wider than ${width} px`);
        if (folder !== undefined)
          await page.screenshot({ path: `${folder}/no-sign-in-${width}-${colorScheme}.png`, fullPage: true });
      }
    }
    gate.open = true;
    t.after(() => {
      gate.open = false;
    });
    const followed = page.waitForRequest(/authenticate\.localhost/);
    await page.getByRole("link", { name: "Try again" }).click();
    await followed;
  });
});
