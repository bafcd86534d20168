/**
 * Explaining a denial, in a real Chromium against a real `cardea dev`.
 *
 * The error page names the request, and `cardea audit explain` names the rule, the criterion, the fact, and the event
 * that set it. `SCREENSHOTS=<folder>` stores pictures.
 */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser } from "playwright-core";
import { waitFor } from "../support/wait-for.ts";
import { executablePath, startBrowser, startDev } from "./support.ts";

const options = { skip: executablePath === undefined ? "no Chromium on this machine" : false, timeout: 240_000 };
let browser: Browser;
before(async () => {
  if (executablePath !== undefined) browser = await startBrowser();
});
after(() => browser?.close());

type Explained = {
  record: { result: string; requestId: string; boot: string; seq: number; trace: { rule: string | null } };
  facts: {
    fact: string;
    member?: boolean;
    event: { type: string; actor: string; cause: string; says: string } | null;
  }[];
};

test(
  "a denial is explained down to the event behind it, and a record that contradicts the log is detected",
  options,
  async (t) => {
    const dev = await startDev(t);
    const context = await browser.newContext();
    t.after(() => context.close());
    const page = await context.newPage();
    await page.goto(dev.url("app"));
    await page.getByRole("button", { name: /bob/i }).click();
    await page.waitForSelector('[data-verdict="verified"]');
    assert.equal((await dev.cardea("groups", "add", "eng", "bob", "--wait")).code, 0);
    assert.equal((await dev.cardea("groups", "remove", "eng", "bob", "--wait")).code, 0);
    await page.goto(dev.url("eng"));
    await page.waitForSelector('body[data-page="error"]');
    const shown = (await page.locator("body").textContent()) ?? "";
    const requestId = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/.exec(shown)?.[0] ?? "";
    assert.notEqual(requestId, "", "the page names the request");

    const explanation = await waitFor("the record", async () => {
      const answer = await dev.cardea("audit", "explain", requestId, "--json");
      return answer.code === 0 ? answer : undefined;
    });
    const explained = JSON.parse(explanation.out) as Explained;
    assert.equal(explained.record.result, "deny");
    const membership = explained.facts.find(({ fact }) => fact === "group:eng");
    assert.equal(membership?.member, false);
    assert.match(membership?.event?.actor ?? "", /^operator:/);
    assert.equal(membership?.event?.says, "removed from the group by operator");
    assert.match(membership?.event?.cause ?? "", /^[0-9a-f-]{36}$/);

    const tail = await dev.cardea("audit", "tail", "--last", "200", "--no-follow", "--ids");
    assert.match(tail.out, /SIGN-IN +done .* service:authenticate {2}createSession session:\S+ user:\S+/);
    assert.match(tail.out, /OPERATOR +done .* token:\S+ {2}changeGroupMembers group:eng/);

    const text = await dev.cardea("audit", "explain", `${explained.record.boot}:${explained.record.seq}`);
    assert.equal(text.code, 0, text.err);
    assert.match(text.out, /rule: no rule allows the request/);
    assert.match(text.out, /made again from the whole log: the same result, reasons and rule/);
    assert.match(text.out, /-groups/);
    assert.match(text.out, /group:eng \(not a member\) .*removed from the group by operator/);

    assert.equal((await dev.cardea("audit", "explain", "no-such-request")).code, 1);
    assert.equal((await dev.cardea("audit", "explain")).code, 2);
    const recordFile = join(dev.dataDir, "audit", "decisions.jsonl");
    await waitFor("the record on disk", () => readFileSync(recordFile, "utf8").includes(requestId));
    const fromFile = await dev.cardea("audit", "explain", requestId, "--input", recordFile);
    assert.equal(fromFile.code, 0, fromFile.err);
    const search = ["audit", "query", "--input", recordFile, "--result", "deny", "--user"];
    const byMail = await dev.cardea(...search, "bob@example.com", "--names");
    assert.equal(byMail.code, 0, byMail.err);
    assert.match(byMail.out, /^\S+ {2}deny +403 {2}\S+ {2}bob@example\.com {2}GET eng\./);
    assert.equal((await dev.cardea(...search, "zoe@example.com")).code, 2);
    const line =
      readFileSync(recordFile, "utf8")
        .split("\n")
        .find((one) => one.includes(requestId)) ?? "";
    const forged = join(dev.dataDir, "forged.jsonl");
    const record = JSON.parse(line) as { applied: { hash: string } };
    writeFileSync(forged, "");
    appendFileSync(forged, JSON.stringify({ ...record, applied: { ...record.applied, hash: "0".repeat(64) } }));
    const broken = await dev.cardea("audit", "explain", requestId, "--input", forged);
    assert.equal(broken.code, 1);
    assert.match(broken.out, /BROKEN: the decision was made at/);

    await context.clearCookies();
    await page.goto(dev.url("app"));
    await page.getByRole("button", { name: /alice/i }).click();
    await page.waitForSelector('[data-verdict="verified"]');
    assert.equal((await dev.cardea("groups", "remove", "eng", "alice", "--wait")).code, 0);
    await page.goto(dev.url("eng"));
    await page.waitForSelector('body[data-page="error"]');
    const errorText = (await page.locator("body").textContent()) ?? "";
    assert.match(errorText, /Decided by/, "alice is an administrator");
    assert.match(errorText, /last set by event \d+/);
    const folder = process.env["SCREENSHOTS"];
    if (folder !== undefined) {
      await page
        .locator("details")
        .first()
        .evaluate((details) => details.setAttribute("open", ""));
      await page.screenshot({ path: join(folder, "refused-operator.png"), fullPage: true });
    }
  },
);
