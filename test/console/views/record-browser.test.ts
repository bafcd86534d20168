/**
 * The views of the record in a real Chromium, over a real broker: decisions live and why, changes with undo, access
 * at a time, audit; hostile texts in each; reading without scripts.
 *
 * `SCREENSHOTS=<folder>` saves pictures at three sizes, in light and dark.
 */
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import type { AuditRecord } from "../../../src/audit/index.ts";
import { texts } from "../../../src/console/index.ts";
import {
  type CommandId,
  type ConfigHash,
  type Link,
  type NodeId,
  packConfigBody,
  readsLevel,
  type UnixMs,
} from "../../../src/events/index.ts";
import { createRecordedRequestReader } from "../../../src/proxy/index.ts";
import { decision } from "../../audit/support.ts";
import { signIn, subjectId } from "../../auth/authenticate/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type OperatorWorld, pushRecords, startOperatorWorld } from "../api/operator-support.ts";
import { checkAxe, pictures, pseudoText, sizes } from "../browser-support.ts";
import { consoleUrl, openConsole, options, startBrowser } from "./console-support.ts";

let browser: Browser | undefined;
before(async () => {
  browser = await startBrowser();
});
after(() => browser?.close());

const hostile = '<img src=x onerror="window.hit=1">"\'`\u202e$';
const route = {
  ...{ id: "payroll", name: "Payroll", from: "https://payroll.example.com/", host: "payroll.example.com" },
  ...{ port: null, tunnel: null, match: { kind: "prefix", value: "/" }, bearer: null, sessionLifetimeMs: 0 },
  ...{ allowPublicUnauthenticatedAccess: false, corsAllowPreflight: false, allowAnyAuthenticatedUser: false },
  ...{ allowedUsers: [], allowedDomains: [], allowedIdpClaims: {}, clientCa: null, requiresClientCertificate: false },
  policy: [{ allow: { and: [{ groups: { has: "hr" } }] } }],
};

type RecordWorld = Readonly<{
  at: OperatorWorld;
  bob: string;
  /** The head of the log after the preparation. */
  link: Link;
  /** Bob is refused at Payroll. */
  refused(parts?: object): AuditRecord;
}>;

/** Bob was added to a group with a hostile name and removed from hr; a configuration is stored, and in force. */
async function startRecordWorld(t: Parameters<typeof startOperatorWorld>[0], more: object = {}): Promise<RecordWorld> {
  let running: string | null = null;
  const at = await startOperatorWorld(t, {
    console: {},
    feed: { entriesMax: 20_000, bytesMax: 50_000_000, watchersMax: 20 },
    deps: { recordReaderOf: createRecordedRequestReader },
    operator: (inner) => ({
      ...inner,
      status: async (given) => {
        const status = await inner.status(given);
        return { ...status, nodes: status.nodes.map((node) => ({ ...node, configHash: running })) };
      },
    }),
    ...more,
  });
  const { world } = at;
  await signIn(world, world.visitor(), "bob");
  const bob = subjectId(world, "bob");
  await at.post("/cluster/finalize", { level: readsLevel });
  const text = JSON.stringify({ routes: [route] });
  const configHash = createHash("sha256").update(text).digest("hex") as ConfigHash;
  const stored = await world.deps.databroker.submit({
    commandId: randomUUID() as CommandId,
    actor: "service:node-1",
    command: { type: "activateConfiguration", nodeId: "node-1" as NodeId, configHash, body: packConfigBody(text) },
  });
  assert.ok(stored.type === "done");
  running = configHash;
  await at.post("/groups/hr/members", { add: [bob] });
  const removed = await at.post("/groups/hr/members", { remove: [bob], reason: hostile });
  assert.equal(removed.status, 200, removed.body);
  const applied = (JSON.parse(removed.body) as { link: Link }).link;
  assert.equal(await world.replica.waitFor(applied, 5_000), "reached");
  const [sessionId = null] = world.replica.projection.sessionsOf(bob);
  let seq = 0;
  const refused = (parts: object = {}): AuditRecord => {
    seq += 1;
    return {
      ...{ kind: "decision", seq },
      ...decision("/june", {
        ...{ sessionId, userId: bob, configHash, applied, at: Date.now() as UnixMs, routeId: "payroll" },
        ...{ requestId: `request-${seq}`, routeName: "Payroll", host: "payroll.example.com", result: "deny" },
        ...{ status: 403, reasons: ["groups-unauthorized"] },
        ...{ allow: { met: false, reasons: ["groups-unauthorized"] }, deny: { met: false, reasons: [] }, ...parts },
        trace: {
          ...{ rule: null, rules: [], more: 0, factsMore: 0 },
          facts: [
            { fact: `user:${bob}`, criteria: [], position: null, exact: false },
            { fact: "group:hr", criteria: ["groups"], member: false, position: applied.position, exact: true },
          ],
        },
      }),
    } as AuditRecord;
  };
  return { at, bob, refused, link: applied };
}

async function open(
  t: Parameters<typeof startOperatorWorld>[0],
  at: OperatorWorld,
  path: string,
  context: object = {},
) {
  return openConsole(t, browser, { world: at, path, context });
}

/** The browser complains about each page with such a status. */
function dropStatus(complaints: string[]): void {
  complaints.splice(0, complaints.length, ...complaints.filter((each) => !/status of (?:404|503)/.test(each)));
}

const hits = (page: Page): Promise<unknown> => page.evaluate("window.hit");

test(
  "decisions arrive live, pause, show gaps, and lead to why: the rule, the facts, their events, and now",
  options,
  async (t) => {
    const { at, refused, link } = await startRecordWorld(t);
    pushRecords(at.feed, refused({ path: `/${hostile}` }));
    const { page, complaints } = await open(t, at, "/decisions");
    await page.locator("#decisions tbody tr").first().waitFor();
    await page.getByText("Live", { exact: true }).waitFor();
    pushRecords(at.feed, refused({ requestId: "the-wanted-one", userAgent: hostile }));
    await waitFor("the live row", async () => (await page.locator("#decisions tbody tr").count()) === 2);
    assert.match(
      (await page.locator("#decisions tbody tr").first().textContent()) ?? "",
      /Denied.*bob@example\.com.*in no group/s,
    );
    await page.keyboard.press(".");
    await page.getByText("Paused", { exact: true }).waitFor();
    const gap = { kind: "gap", seq: 5, node: "node-1", boot: "boot-1", at: Date.now(), first: 3, last: 5, why: "x" };
    pushRecords(at.feed, gap as AuditRecord);
    await page.getByText("1 new").waitFor();
    assert.equal(await page.locator("tr.gap").count(), 0);
    await page.keyboard.press(".");
    await page.getByText("3 records of node-1 were not kept").waitFor();

    // Two clicks: the id into the search of decisions, and there is why.
    await page.getByPlaceholder("Request ID").fill("the-wanted-one");
    await page.getByPlaceholder("Request ID").press("Enter");
    await page.getByRole("heading", { name: /^Why\?/ }).waitFor();
    const lead = (await page.locator("#lead").textContent()) ?? "";
    assert.match(lead, /Denied: Bob Baker is in no group that has access\./);
    assert.match(lead, /tester: removed from the group by operator/);
    assert.match((await page.locator('[data-part="now"]').textContent()) ?? "", /would now be: denied/);
    assert.match((await page.locator(".policy").textContent()) ?? "", /groups:/);
    await page.getByText("The same result follows").waitFor();
    assert.equal(await hits(page), undefined);
    await page.getByRole("button", { name: "Revoke this session…" }).click();
    await page.getByRole("dialog").getByText("Open connections on it close.").waitFor();
    await page.keyboard.press("Escape");
    await page.locator("section[aria-labelledby=facts] tbody a").last().click();
    await page.getByRole("heading", { name: "One change" }).waitFor();
    assert.match((await page.locator("#lead").textContent()) ?? "", /^tester removed Bob Baker from hr/);
    pushRecords(at.feed, refused({ requestId: "of-a-lost-history", applied: { ...link, hash: "0".repeat(64) } }));
    await page.goto(consoleUrl(at, "/decisions/of-a-lost-history"));
    await page.getByText("The record and the log disagree; this explanation proves nothing.").waitFor();
    await page.goto(consoleUrl(at, "/decisions/no-such-request"));
    await page.getByRole("heading", { name: "No such decision" }).waitFor();
    await page.goto(consoleUrl(at, `/decisions/${encodeURIComponent(hostile)}`));
    await page.getByRole("heading", { name: "No such decision" }).waitFor();
    assert.equal(await hits(page), undefined);
    dropStatus(complaints);
  },
);

test("a stream of a thousand decisions a second is sampled, holds 500 rows, and says so", options, async (t) => {
  const { at, refused } = await startRecordWorld(t);
  const { page } = await open(t, at, "/decisions?result=deny");
  await page.getByText("Live", { exact: true }).waitFor();
  for (let i = 0; i < 30; i++) {
    pushRecords(at.feed, ...Array.from({ length: 100 }, () => refused()));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await page.getByText(/decisions came too fast to show/).waitFor();
  const rows = await page.locator("#decisions tbody tr").count();
  assert.ok(rows > 50 && rows <= 500, `${rows} rows`);
  pushRecords(at.feed, refused({ requestId: "after-the-flood", host: "after-the-flood.example" }));
  await page.locator("#decisions").getByText("after-the-flood.example").waitFor();
});

test("a stream that breaks says so, resumes where it stopped, and shows what is gone as a gap", options, async (t) => {
  const { at, refused } = await startRecordWorld(t, { feed: { entriesMax: 20, bytesMax: 50_000_000 } });
  const { page, complaints } = await open(t, at, "/decisions");
  await page.getByText("Live", { exact: true }).waitFor();
  at.world.dropConnections();
  await page.locator("#feed-state").getByText("Live updates paused. Reconnecting…").waitFor();
  for (let i = 0; i < 60; i++) pushRecords(at.feed, refused({ host: `host-${i}.example` }));
  await page.locator("tr.gap").getByText("40 records were not kept here").waitFor();
  await page.locator("#decisions").getByText("host-59.example").waitFor();
  complaints.splice(
    0,
    complaints.length,
    ...complaints.filter((each) => !/ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION/.test(each)),
  );
});

test(
  "changes read as sentences by day, fold sign-ins, and an undo shows what it does before it is made",
  options,
  async (t) => {
    const { at, bob } = await startRecordWorld(t);
    await at.post(`/users/${bob}/suspend`, { reason: hostile });
    const { page, complaints } = await open(t, at, "/changes");
    const timeline = page.locator("[data-timeline]");
    await timeline.getByText(/tester suspended Bob Baker/).waitFor();
    await timeline.getByText("1 sign-in").first().waitFor();
    assert.equal(await timeline.locator("li.divider").count(), 1);
    await at.post("/groups/eng/members", { add: [bob] });
    await page.getByText("1 new change. Show it").waitFor();
    await page.getByText("1 new change. Show it").click();
    await timeline.getByText(/tester added Bob Baker to eng/).waitFor();
    await timeline.locator("li", { hasText: "suspended Bob Baker" }).getByRole("link", { name: "Undo…" }).click();
    await page.getByRole("button", { name: "Undo it…" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("They can sign in again; the sessions that the suspension ended stay ended.").waitFor();
    assert.equal(at.world.replica.projection.user(bob as never)?.status, "suspended");
    await dialog.getByRole("button", { name: "Undo it" }).click();
    await waitFor("the restored person", () => at.world.replica.projection.user(bob as never)?.status === "active");
    await page.goto(consoleUrl(at, `/changes?subject=${bob}&type=people`));
    assert.match((await timeline.textContent()) ?? "", /restored Bob Baker/);
    assert.equal(await hits(page), undefined);
    await page.goto(consoleUrl(at, "/changes?subject=stranger-here"));
    await page.getByText(/no user matches/).waitFor();
    await page.goto(consoleUrl(at, "/changes/999999999"));
    await page.getByRole("heading", { name: "No such change" }).waitFor();
    dropStatus(complaints);
  },
);

test("access answers for now and for a moment, compares two, and a copied link fixes the time", options, async (t) => {
  const { at, bob } = await startRecordWorld(t);
  const earlier = new Date(Date.now() - 3_600_000).toISOString();
  await at.post("/groups/hr/members", { add: [bob] });
  const { page, complaints } = await open(t, at, "/access?route=payroll");
  await page.getByRole("heading", { name: "Access at a time" }).waitFor();
  assert.match((await page.locator("#lead").textContent()) ?? "", /^1 could/);
  assert.match((await page.locator("table[data-csv] tbody").textContent()) ?? "", /Bob Baker.*Could.*hr/s);
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download CSV" }).click();
  assert.match((await download).suggestedFilename(), /^access-payroll\.csv$/);
  await page.goto(consoleUrl(at, `/access?person=bob@example.com`));
  assert.match((await page.locator("#lead").textContent()) ?? "", /could reach 1 of 1 routes/);
  await page.goto(consoleUrl(at, `/access?route=payroll&at=${earlier}`));
  await page.getByText(/names the configuration of a node at that time/).waitFor();
  await page.goto(consoleUrl(at, `/access?route=${encodeURIComponent(hostile)}&at=nonsense`));
  await page.getByText("nonsense is no time.").waitFor();
  assert.equal(await hits(page), undefined);
  dropStatus(complaints);
});

test("axe finds nothing at any size, nothing scrolls to the side, in two languages, and every view reads without scripts", {
  ...options,
  timeout: 240_000,
}, async (t) => {
  const auditStatus = [
    {
      ...{
        node: "proxy-1",
        boot: "b",
        region: "eu",
        atMs: Date.now(),
        spoolBytes: 10,
        spoolBytesMax: 100,
        refusal: null,
      },
      ...{ heardAgoMs: 100 },
      sinks: [
        {
          name: `file ${hostile}`,
          blind: 0,
          waiting: 0,
          lost: 0,
          deadLetters: 0,
          lagMs: 0,
          failing: false,
          written: 1_204_118,
          writtenAtMs: Date.now(),
        },
        { name: "nats", blind: 4_210, waiting: 4_210, lost: 0, deadLetters: 0, lagMs: 9_000, failing: false },
      ],
    },
  ];
  const { at, refused, bob } = await startRecordWorld(t, {
    auditStatus,
    console: { texts: [pseudoText(texts[0]), texts[0]] },
  });
  await at.post(`/users/${bob}/suspend`, { reason: "left the company" });
  pushRecords(
    at.feed,
    ...Array.from({ length: 12 }, (_, i) => refused(i % 3 === 0 ? { result: "permit", status: 200, reasons: [] } : {})),
  );
  const wanted = "boot-1:5";
  const suspended = at.world.replica.applied.position;
  const paths: Readonly<Record<string, string>> = {
    decisions: "/decisions",
    why: `/decisions/${wanted}`,
    changes: "/changes",
    change: `/changes/${suspended}`,
    access: "/access?route=payroll",
    audit: "/audit",
    empty: "/decisions?result=unavailable",
  };
  const { page } = await open(t, at, "/", { bypassCSP: true });
  for (const [name, path] of Object.entries(paths)) {
    await page.goto(consoleUrl(at, path));
    await page.locator('#live[data-state="live"]').waitFor();
    for (const [width, colorScheme] of [
      [1280, "light"],
      [375, "dark"],
    ] as const) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 900 });
      await checkAxe(page, `${name}, ${width}, ${colorScheme}`);
    }
    if (pictures !== undefined) await takePictures(page, name);
    await page.setViewportSize({ width: 320, height: 640 });
    assert.ok(Number(await page.evaluate("document.documentElement.scrollWidth")) <= 320, name);
  }
  // Longer words, right to left, and no scripts.
  const strange = { javaScriptEnabled: false, locale: "fr-FR" };
  const plain = await open(t, at, "/", { ...strange, viewport: { width: 375, height: 700 } });
  for (const [name, path] of Object.entries(paths)) {
    await plain.page.goto(consoleUrl(at, path));
    assert.equal(await plain.page.locator(".problem").count(), 0, name);
    assert.match((await plain.page.locator("h1").textContent()) ?? "", /^⟦/, name);
    assert.equal(await plain.page.getByRole("button", { name: /…/ }).filter({ visible: true }).count(), 0, name);
    assert.ok(Number(await plain.page.evaluate("document.documentElement.scrollWidth")) <= 375, name);
  }
});

async function takePictures(page: Page, name: string): Promise<void> {
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    for (const [width, height] of sizes) {
      await page.setViewportSize({ width, height });
      await page.screenshot({
        path: join(pictures ?? "", `record-${name}-${width}-${colorScheme}.png`),
        fullPage: true,
      });
    }
  }
}
