/**
 * The dialog before a change and its receipt in a real Chromium, over a real broker: its effect, the rows that
 * fill in, the signed receipt, and what happens when the answer is lost.
 */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import type { Browser } from "playwright-core";
import { html, texts } from "../../../src/console/index.ts";
import { actButton, actScripts } from "../../../src/console/views/components/act.ts";
import { receiptPanel, receiptScript } from "../../../src/console/views/components/receipt-panel.ts";
import { dataTable } from "../../../src/console/views/components/table.ts";
import { receiptsView } from "../../../src/console/views/receipts/receipts-view.ts";
import type { View } from "../../../src/console/views/view.ts";
import type { NodeId } from "../../../src/events/index.ts";
import { createLocalFanout } from "../../../src/replication/fanout/index.ts";
import type { Databroker } from "../../../src/replication/index.ts";
import { startReplica } from "../../../src/replication/node/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { BrokerUnavailableError } from "../../../src/replication/wire/index.ts";
import { quiet, secret, signIn, type World } from "../../auth/authenticate/support.ts";
import { startOperatorWorld } from "../api/operator-support.ts";
import { checkAxe, pictures } from "../browser-support.ts";
import { consoleUrl, openConsole, options, startBrowser } from "./console-support.ts";

let browser: Browser | undefined;
before(async () => {
  browser = await startBrowser();
});
after(() => browser?.close());

/** The sessions of everyone, with a button that revokes the selected ones. */
const sessionsView: View = {
  id: "test-sessions",
  path: "/test-sessions",
  menu: { group: "who", label: () => "Sessions", key: "s" },
  role: "viewer",
  scripts: [...actScripts],
  async render(context) {
    const answer = await context.call("GET /sessions");
    const sessions = answer.type === "answered" ? answer.body.sessions : [];
    const act = {
      title: "Revoke {} sessions",
      text: "Open connections on them close.",
      verb: "Revoke {} sessions",
      single: { title: "Revoke a session", text: "Open connections on it close.", verb: "Revoke 1 session" },
      look: "bad",
      path: "/sessions/revoke",
      body: {},
      selection: { table: "sessions", field: "sessionIds" },
    } as const;
    return {
      title: "Sessions",
      lead: `${sessions.length} active`,
      command: "cardea sessions",
      content: dataTable(
        {
          id: "sessions",
          caption: "Sessions",
          columns: [{ key: "person", label: "Person" }],
          rows: sessions.map(({ id, email }) => ({ id, href: null, cells: [email], select: { label: email } })),
          next: null,
          empty: html`<p>None</p>`,
          selection: actButton(act, "Revoke…", context, { role: "operator", primary: true }),
        },
        context,
      ),
    };
  },
};
const receiptView: View = {
  id: "test-receipt",
  path: "/receipts/:target",
  menu: null,
  role: "viewer",
  scripts: [receiptScript],
  async render(context) {
    const { target = "" } = context.params;
    const answer = await context.call("GET /receipts/:target", { params: { target } });
    const shown = answer.type === "answered" ? (answer.body as unknown as Parameters<typeof receiptPanel>[1]) : null;
    return { title: "Receipt", lead: "", command: null, content: receiptPanel(target, shown, context) };
  },
};
const groupView: View = {
  id: "test-group",
  path: "/test-group",
  menu: null,
  role: "viewer",
  scripts: [...actScripts],
  async render(context) {
    const act = {
      title: "Delete sales",
      text: "Its members lose what it opens.",
      verb: "Delete sales",
      look: "bad",
      path: "/groups/sales/remove",
      body: {},
      preview: { type: "removeGroup", group: "sales" },
    } as const;
    const content = actButton(act, "Delete…", context, { role: "administrator", primary: true });
    return { title: "Group", lead: "", command: null, content };
  },
};
const views = [sessionsView, receiptView, groupView, receiptsView];

test("selected sessions are revoked by keys, and the receipt fills in, here and after a reload", options, async (t) => {
  const world = await startOperatorWorld(t, { console: { views } });
  await signIn(world.world, world.world.visitor(), "bob");
  const { page } = await openConsole(t, browser, { world, path: "/test-sessions", context: { bypassCSP: true } });
  await page.locator("tr", { hasText: "bob@" }).waitFor();
  for (let row = 0; row < 2; row++) {
    await page.keyboard.press("j");
    if ((await page.evaluate("document.activeElement.textContent"))?.toString().includes("bob@")) break;
  }
  await page.keyboard.press("x");
  assert.equal(await page.locator(".selection output").textContent(), "1 selected");
  await page.keyboard.press("e");
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("heading", { name: "Revoke a session" }).waitFor();
  await dialog.getByRole("button", { name: "Revoke 1 session" }).click();
  await dialog.getByText(/Enforced everywhere/).waitFor();
  assert.equal(await dialog.locator('[data-part="figure"]').textContent(), "1/1");
  assert.equal(await dialog.locator('tr[data-node="node-1"]').getAttribute("data-status"), "applied");
  await checkAxe(page, "receipt in a dialog");
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, "receipt-dialog.png") });
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    dialog.getByRole("link", { name: "Download signed receipt" }).click(),
  ]);
  assert.match(readFileSync((await download.path()) ?? "", "utf8"), /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
  await dialog.getByRole("link", { name: "Open this receipt" }).click();
  await page.getByText(/Enforced everywhere/).waitFor();
  assert.equal(await page.locator('[data-part="figure"]').textContent(), "1/1");
  assert.equal(await page.locator("#running").count(), 0);
});

test("a lost answer is not taken for a failure: asking again repeats the same command", options, async (t) => {
  const commandIds: string[] = [];
  const operator = (inner: Databroker): Databroker => ({
    ...inner,
    async submit(envelope) {
      commandIds.push(envelope.commandId);
      const answer = await inner.submit(envelope);
      if (commandIds.length === 1) throw new BrokerUnavailableError("the answer was lost");
      return answer;
    },
  });
  const world = await startOperatorWorld(t, { console: { views }, operator });
  await signIn(world.world, world.world.visitor(), "bob");
  const { page, complaints } = await openConsole(t, browser, { world, path: "/test-sessions" });
  await page.locator("tr", { hasText: "bob@" }).locator("input").check();
  await page.getByRole("button", { name: "Revoke…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Revoke 1 session" }).click();
  await dialog.getByText("Not known whether this was recorded.").waitFor();
  await dialog.getByRole("button", { name: "Ask again" }).click();
  await dialog.getByText(/Enforced everywhere/).waitFor();
  assert.equal(commandIds.length, 2);
  assert.equal(commandIds[0], commandIds[1]);
  assert.ok(complaints.every((each) => each.includes("503")));
  complaints.length = 0;
});

test("a session that ends under an open page says so, and nothing on it is lost", options, async (t) => {
  const world = await startOperatorWorld(t, { console: { views } });
  const { page, complaints } = await openConsole(t, browser, { world, path: "/test-sessions" });
  await page.locator('#live[data-state="live"]').waitFor();
  const [session] = [...world.world.replica.projection.sessions()];
  assert.ok(session !== undefined);
  await world.world.submit({ type: "revokeSession", sessionId: session.sessionId, reason: "operator" });
  await page.getByRole("dialog").getByRole("link", { name: "Sign in again" }).waitFor();
  assert.ok(complaints.every((each) => each.includes("401")));
  complaints.length = 0;
  await page.goto(consoleUrl(world, "/test-sessions"));
  await page.getByRole("button", { name: "Sign in as alice" }).waitFor();
});

test("what a change concerns is shown first, and a dangerous one waits for the typed name", options, async (t) => {
  const world = await startOperatorWorld(t, { console: { views } });
  await signIn(world.world, world.world.visitor(), "bob");
  const { page, complaints } = await openConsole(t, browser, {
    world,
    path: "/test-group",
    context: { bypassCSP: true },
  });
  await page.keyboard.press("e");
  const dialog = page.getByRole("dialog");
  await dialog.getByText("1 person is affected.").waitFor();
  const send = dialog.getByRole("button", { name: "Delete sales" });
  assert.equal(await send.isDisabled(), true);
  await dialog.getByLabel("Type sales to confirm").fill("sale");
  assert.equal(await send.isDisabled(), true);
  await checkAxe(page, "dialog before a change");
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, "confirm-dialog.png") });
  await dialog.getByLabel("Type sales to confirm").fill("sales");
  await send.click();
  await dialog.getByText(/Enforced everywhere/).waitFor();
  assert.deepEqual(
    [...world.world.replica.projection.groups()].map(({ groupId }) => String(groupId)).includes("sales"),
    false,
  );
  assert.ok(complaints.every((each) => each.includes("400")));
  complaints.length = 0;
});

/** A second node, which can fall silent as a frozen process does. */
async function startSecondNode(t: TestContext, world: World, windowMs = 5_000): Promise<{ isFrozen: boolean }> {
  const inner = world.broker.databroker("proxy");
  const state = { isFrozen: false };
  const unlessFrozen = <T>(run: () => Promise<T>): Promise<T> =>
    state.isFrozen ? Promise.reject(new BrokerUnavailableError("frozen")) : run();
  const fanout = createLocalFanout({ logger: quiet });
  const node = startReplica({
    name: "node-2" as NodeId,
    role: "proxy",
    region: "there",
    version: "test",
    configHash: () => "config",
    cluster: "test",
    secret,
    databroker: {
      ...inner,
      read: (after, options) => unlessFrozen(() => inner.read(after, options)),
      lease: (envelope) => unlessFrozen(() => inner.lease(envelope)),
    },
    fanout,
    clock: systemClock,
    randomBytes,
    logger: quiet,
    windowMs: () => windowMs,
    dataDir: null,
  });
  t.after(async () => {
    await node.stop();
    await fanout.close();
  });
  assert.ok(await node.whenReady(10_000));
  return state;
}

test("a frozen node is waited for until it is fenced, and the receipt says after how long", options, async (t) => {
  const world = await startOperatorWorld(t, { console: { views } });
  const second = await startSecondNode(t, world.world);
  await signIn(world.world, world.world.visitor(), "bob");
  const { page } = await openConsole(t, browser, { world, path: "/test-sessions", context: { bypassCSP: true } });
  second.isFrozen = true;
  await page.locator("tr", { hasText: "bob@" }).locator("input").check();
  await page.getByRole("button", { name: "Revoke…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Revoke 1 session" }).click();
  await dialog.getByText("1 of 2 nodes have confirmed.").waitFor();
  assert.match(
    (await dialog.locator('tr[data-node="node-2"]').textContent()) ?? "",
    /Not confirmed\. Fenced by .* at the latest, in \d+ s\./,
  );
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, "receipt-waiting.png") });
  assert.equal(await page.locator("#running").textContent(), "1 receipt running");
  await dialog.getByText(/In force everywhere in \d+\.\d s: 1 applied, 1 fenced\./).waitFor({ timeout: 30_000 });
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, "receipt-fenced.png") });
  await dialog.getByRole("link", { name: "Open this receipt" }).click();
  await page.getByText("In force everywhere: 1 applied, 1 fenced.").waitFor();
  assert.equal(await page.locator("#running").count(), 0);
  assert.equal(await page.locator('tr[data-node="node-2"]').getAttribute("data-status"), "fenced");
  const { fencedText } = texts[0].console.receipt;
  assert.equal(await page.locator('tr[data-node="node-2"] .after').textContent(), fencedText, "no time is claimed");
  await page.goto(consoleUrl(world, "/receipts"));
  assert.equal(await page.locator("tbody tr td").last().textContent(), "", "nor in the list");
  await checkAxe(page, "a receipt with a fenced node");
});

test("a receipt that is left and opened again while a node waits is the same, and fills in", options, async (t) => {
  const world = await startOperatorWorld(t, { console: { views } });
  const second = await startSecondNode(t, world.world, 60_000);
  await signIn(world.world, world.world.visitor(), "bob");
  const { page } = await openConsole(t, browser, { world, path: "/test-sessions" });
  second.isFrozen = true;
  await page.locator("tr", { hasText: "bob@" }).locator("input").check();
  await page.getByRole("button", { name: "Revoke…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Revoke 1 session" }).click();
  const waits = async (): Promise<void> => {
    await page.getByText("1 of 2 nodes have confirmed.").waitFor();
    await page.locator('tr[data-node="node-2"]', { hasText: /Not confirmed\. Fenced by .* at the latest/ }).waitFor();
    assert.equal(await page.locator('[data-part="figure"]').textContent(), "1/2");
    assert.match((await page.locator('tr[data-node="node-1"] .after').textContent()) ?? "", /^\d+ m?s/);
  };
  await waits();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await page.getByRole("link", { name: "1 receipt running" }).click();
  await waits();
  await page.reload();
  await waits();
  second.isFrozen = false;
  await page.getByText(/Enforced everywhere in \d+\.?\d* m?s\./).waitFor({ timeout: 30_000 });
  assert.equal(await page.locator('[data-part="figure"]').textContent(), "2/2");
  assert.match((await page.locator('tr[data-node="node-2"] .after').textContent()) ?? "", /^\d+(?:\.\d)? m?s/);
  await page.locator("#running").waitFor({ state: "detached" });
});

type Node = Readonly<{ role?: string; status: "applied" | "fenced" | "unconfirmed" }>;

/** As the API answers. */
function answerOf(status: "complete" | "incomplete" | "lost", nodes: Readonly<Record<string, Node>>): string {
  const recordedAt = Date.now() - 60_000;
  const receipt = {
    ...{ status, complete: status === "complete", wait: "all", region: null, commandId: randomUUID(), epoch: 3 },
    link: status === "lost" ? null : { epoch: 3, position: 9, hash: "h" },
    nodes: Object.entries(nodes).map(([node, { role = "proxy", status: own }]) => ({
      ...{ node, boot: "b", region: "here", role, status: own, enforced: null, reason: "" },
      fencedInMs: own === "unconfirmed" ? 9_000 : own === "fenced" ? 0 : null,
      confirmedAt: own === "applied" ? recordedAt + 40 : null,
    })),
    ...{ completeInMs: 0, at: Date.now(), signed: null, recordedAt: new Date(recordedAt).toISOString() },
  };
  return `event: receipt\ndata: ${JSON.stringify(receipt)}\n\n`;
}
const receipts = "**/api/v1/receipts/**";
const stream = (body: string) => ({ contentType: "text/event-stream", body });

test("a change that a failover lost is red, and is offered again", options, async (t) => {
  const world = await startOperatorWorld(t, { console: { views } });
  await signIn(world.world, world.world.visitor(), "bob");
  const { page } = await openConsole(t, browser, { world, path: "/test-sessions", context: { bypassCSP: true } });
  const sent: Readonly<{ commandId: string; sessionIds: unknown }>[] = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/sessions/revoke")) sent.push(request.postDataJSON());
  });
  await page.route(receipts, (route) => route.fulfill(stream(answerOf("lost", {}))));
  await page.locator("tr", { hasText: "bob@" }).locator("input").check();
  await page.getByRole("button", { name: "Revoke…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Revoke 1 session" }).click();
  const said = dialog.getByText("This change was lost in a failover.");
  await said.waitFor();
  const colorOf = (name: string): string =>
    `(() => { const one = document.createElement("i"); one.style.color = "var(--${name})"; document.body.append(one); return getComputedStyle(one).color; })()`;
  const shown = await page.evaluate('getComputedStyle(document.querySelector("dialog .receipt-said")).color');
  assert.equal(shown, await page.evaluate(colorOf("bad")));
  assert.equal(await page.locator("#running").count(), 0);
  await checkAxe(page, "a lost receipt");
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, "receipt-lost.png") });
  await page.unroute(receipts);
  await dialog.getByRole("button", { name: "Make the change again…" }).click();
  await dialog.getByRole("heading", { name: "Revoke a session" }).waitFor();
  await dialog.getByRole("button", { name: "Revoke 1 session" }).click();
  await dialog.getByText("Nothing had to change.").waitFor(); // the log of this test has lost nothing
  assert.equal(sent.length, 2);
  assert.deepEqual(sent[0]?.sessionIds, sent[1]?.sessionIds);
  assert.notEqual(sent[0]?.commandId, sent[1]?.commandId, "another command: the first one is gone");
});

test("a page of a lost change leads to where it was made, and notes of roles are true of each", options, async (t) => {
  const world = await startOperatorWorld(t, { console: { views } });
  const { page, complaints } = await openConsole(t, browser, { world, path: "/test-sessions?group=sales" });
  const target = `command:${randomUUID()}`;
  const path = `/receipts/${encodeURIComponent(target)}`;
  const kept = JSON.stringify([{ target, at: Date.now(), page: "/.pomerium/admin/test-sessions?group=sales" }]);
  await page.evaluate(`localStorage.setItem("cardea.console.receipts", ${JSON.stringify(kept)})`);
  const answers = [
    stream(answerOf("incomplete", { a: { status: "applied" }, b: { status: "unconfirmed" } })),
    stream(answerOf("complete", { a: { status: "applied" }, b: { status: "fenced" } })),
  ];
  await page.route(receipts, (route) => route.fulfill(answers.shift() ?? stream(answerOf("lost", {}))));
  await page.goto(consoleUrl(world, path));
  await page.getByText("In force everywhere: 1 applied, 1 fenced.").waitFor();
  assert.match(
    (await page.locator('tr[data-node="b"] .after').textContent()) ?? "",
    /^Silent/,
    "fenced between two reads",
  );
  await page.evaluate(`localStorage.setItem("cardea.console.receipts", ${JSON.stringify(kept)})`);
  await page.reload();
  await page.getByText("This change was lost in a failover.").waitFor();
  await page.getByRole("link", { name: "Go to the page of the change" }).click();
  await page.waitForURL(/test-sessions\?group=sales$/);
  const roles = {
    a: { role: "proxy", status: "applied" },
    b: { role: "decision-only", status: "applied" },
    c: { role: "broker", status: "applied" },
    d: { role: "constructor", status: "applied" },
  } as const;
  answers.push(stream(answerOf("complete", roles)));
  await page.goto(consoleUrl(world, path));
  await page.getByText(/Enforced everywhere/).waitFor();
  const note = async (node: string): Promise<string> =>
    (await page.locator(`tr[data-node="${node}"] .after small`).allTextContents()).join();
  assert.deepEqual([await note("a"), await note("d")], ["", ""]);
  assert.match(await note("b"), /signs people in, or decides for another proxy/);
  assert.match(await note("c"), /regional broker/);
  assert.ok(complaints.every((each) => each.includes("404")));
  complaints.length = 0;
});
