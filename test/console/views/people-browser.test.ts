/**
 * Sessions, people, groups and receipts in a real Chromium, over a real broker: lists and their states, what each role
 * may do, previews before removals, and names of hostile people.
 *
 * `SCREENSHOTS=<folder>` saves pictures at three sizes, in light and dark.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import type { Browser, Locator, Page } from "playwright-core";
import { texts } from "../../../src/console/index.ts";
import {
  type CommandId,
  type GroupId,
  type Profile,
  readsLevel,
  type UnixMs,
  type UserId,
  userIdOf,
} from "../../../src/events/index.ts";
import type { Databroker } from "../../../src/replication/index.ts";
import { BrokerUnavailableError } from "../../../src/replication/wire/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type OperatorWorld, startOperatorWorld } from "../api/operator-support.ts";
import { checkAxe, pictures, pseudoText, sizes } from "../browser-support.ts";
import { consoleUrl, openConsole, options, startBrowser } from "./console-support.ts";

let browser: Browser | undefined;
before(async () => {
  browser = await startBrowser();
});
after(() => browser?.close());

const hostileName = '<img src=x onerror="document.title=1">‮gnp.evil';

async function addPerson(at: OperatorWorld, parts: Partial<Profile> & Pick<Profile, "subject">, groups: string[] = []) {
  const profile: Profile = { issuer: "https://idp", email: "", emailVerified: true, name: "", claims: {}, ...parts };
  const userId = userIdOf(profile.issuer, profile.subject);
  const now = Date.now();
  const answer = await at.world.deps.databroker.submit({
    commandId: randomUUID() as CommandId,
    actor: "service:authenticate",
    command: {
      type: "createSession",
      sessionId: randomUUID() as never,
      userId,
      idpId: "demo",
      issuedAt: now as UnixMs,
      expiresAt: (now + 3_600_000) as UnixMs,
      profile,
      tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
      groupIds: groups as GroupId[],
      maxSessionsPerUser: 10,
    },
  });
  assert.equal(answer.type, "done");
  if (answer.type === "done") await at.world.replica.waitFor(answer.link, 2_000);
  return userId;
}

async function startPeople(t: TestContext, parts: Parameters<typeof startOperatorWorld>[1] = {}) {
  const world = await startOperatorWorld(t, { console: {}, ...parts });
  world.stepUp.authTime = "if_sent";
  await waitFor("the level", async () => (await world.post("/cluster/finalize", { level: readsLevel })).status === 200);
  const bob = await addPerson(world, { subject: "bob2", email: "bob@example.com", name: "Bob Baker" }, [
    "sales",
    "ops",
  ]);
  await addPerson(world, { subject: "bob2", email: "bob@example.com", name: "Bob Baker" }, ["sales", "ops"]);
  const evil = await addPerson(world, { subject: "evil", email: "evil@example.com", name: hostileName }, ["ops"]);
  const long = await addPerson(world, { subject: "long", email: "", name: "x".repeat(10_240) }, ["ops"]);
  return { world, bob, evil, long };
}

/** The receipt in the dialog is complete. */
async function untilEnforced(dialog: Locator): Promise<void> {
  await dialog
    .getByText(/Enforced everywhere/)
    .waitFor({ timeout: 15_000 })
    .catch(async () => assert.fail((await dialog.textContent()) ?? ""));
}

async function shoot(page: Page, name: string): Promise<void> {
  await page.locator('#live[data-state="live"]').waitFor();
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    for (const [width, height] of sizes) {
      await page.setViewportSize({ width, height });
      const isChecked = width === (colorScheme === "light" ? 375 : 1280);
      if (!isChecked && pictures === undefined) continue;
      if (isChecked) await checkAxe(page, `${name}, ${width}, ${colorScheme}`);
      const { scrollWidth } = (await page.evaluate("({ scrollWidth: document.documentElement.scrollWidth })")) as {
        scrollWidth: number;
      };
      assert.ok(scrollWidth <= width, `${name} scrolls to the side at ${width}: ${scrollWidth}`);
      if (pictures !== undefined)
        await page.screenshot({ path: join(pictures, `${name}-${width}-${colorScheme}.png`), fullPage: true });
    }
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.emulateMedia({ colorScheme: "light" });
}

test("every list and page reads well at three sizes, whatever people call themselves", options, async (t) => {
  const { world, bob, evil, long } = await startPeople(t);
  const { page, complaints } = await openConsole(t, browser, {
    ...{ world, path: "/sessions", context: { bypassCSP: true } },
  });
  assert.match((await page.locator("#lead").textContent()) ?? "", /^5 sessions match\.$/);
  await shoot(page, "sessions");
  await page.goto(consoleUrl(world, "/sessions?q=BOB&sort=person"));
  assert.equal(await page.locator("#sessions tbody tr").count(), 2);
  await page.locator("#sessions a.row").first().click();
  await page.getByRole("button", { name: "Revoke this session…" }).waitFor();
  await shoot(page, "session");

  await page.goto(consoleUrl(world, "/people"));
  const names = await page.locator("#people tbody a.row").allTextContents();
  assert.deepEqual(
    names.map((name) => name.slice(0, 8)),
    [hostileName.slice(0, 8), "Alice Ar", "Bob Bake", "xxxxxxxx"],
  );
  assert.notEqual(await page.title(), "1", "markup in a name is text");
  await shoot(page, "people");
  await page.goto(consoleUrl(world, "/people?q=bob"));
  const [file] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download CSV" }).click(),
  ]);
  assert.equal(file.suggestedFilename(), "people.csv");
  assert.match(readFileSync(await file.path(), "utf8"), /^"id",.*\r\n.*"Bob Baker","bob@example.com".*\r\n$/);
  for (const id of [evil, long]) {
    await page.goto(consoleUrl(world, `/people/${id}`));
    await page.getByRole("heading", { level: 1 }).waitFor();
  }
  for (const tab of ["", "/access", "/sessions", "/decisions", "/history"]) {
    await page.goto(consoleUrl(world, `/people/${bob}${tab}`));
    await page.getByRole("heading", { name: "Bob Baker" }).waitFor();
    assert.equal(await page.locator('.tabs a[aria-current="page"]').count(), 1);
    await shoot(page, `person${tab.replace("/", "-")}`);
  }
  await page.goto(consoleUrl(world, "/groups"));
  assert.deepEqual(await page.locator("#groups tbody a.row").allTextContents(), ["admins", "eng", "ops", "sales"]);
  await shoot(page, "groups");
  await page.locator("a.row", { hasText: "ops" }).click();
  await page.getByRole("button", { name: "Add people…" }).waitFor();
  await shoot(page, "group");
  await page.goto(consoleUrl(world, "/receipts"));
  await page.getByText("No revocations in the last 24 hours.").first().waitFor();
  for (const missing of ["/people/none", "/groups/none", "/sessions/none", "/receipts/command:none", "/receipts/odd"]) {
    const answer = await page.goto(consoleUrl(world, missing));
    assert.equal(answer?.status(), 404, missing);
  }
  assert.equal(complaints.splice(0).filter((each) => each.includes("404")).length, 5);
});

test(
  "a group is changed by its page: a removal is previewed, allowed again, and a deletion needs the name",
  options,
  async (t) => {
    const { world } = await startPeople(t);
    const { page, complaints } = await openConsole(t, browser, {
      ...{ world, path: "/groups/ops", context: { bypassCSP: true } },
    });
    const dialog = page.getByRole("dialog");
    await page.locator("tr", { hasText: "Bob Baker" }).locator("input").check();
    await page.getByRole("button", { name: "Remove…" }).click();
    await dialog.getByText("1 person is affected.").waitFor();
    await checkAxe(page, "the preview of a removal");
    if (pictures !== undefined) await page.screenshot({ path: join(pictures, "remove-preview.png") });
    await dialog.getByRole("button", { name: "Remove 1 people" }).click();
    await untilEnforced(dialog);
    await page.keyboard.press("Escape");
    const bob = page.locator("tr", { hasText: "Bob Baker" });
    await bob.getByText("excluded").waitFor();
    assert.equal(await bob.locator("input").count(), 0, "who is out cannot be removed again");
    await bob.getByRole("button", { name: "Allow again…" }).click();
    await dialog.getByRole("button", { name: "Allow Bob Baker again" }).click();
    await untilEnforced(dialog);
    await page.keyboard.press("Escape");

    await page.getByRole("button", { name: "Add people…" }).click();
    await dialog.getByLabel(/emails or IDs/).fill("unknown@example.com");
    await dialog.getByLabel("For").selectOption("3600000");
    await dialog.getByText(/Nothing was changed: no user matches/).waitFor();
    await dialog.getByLabel(/emails or IDs/).fill("alice@example.com");
    await dialog.getByLabel("For").selectOption("28800000");
    await dialog.getByText("1 person is affected.").waitFor();
    await dialog.getByLabel("Reason").fill("month end");
    await dialog.getByRole("button", { name: "Add these people" }).click();
    await untilEnforced(dialog);
    await page.keyboard.press("Escape");
    await page
      .locator("tr", { hasText: "Alice" })
      .getByText(/in (7|8) h/)
      .waitFor();

    await page.getByRole("button", { name: "Delete group…" }).click();
    const send = dialog.getByRole("button", { name: "Delete ops" });
    await dialog.getByLabel("Type ops to confirm").waitFor();
    assert.equal(await send.isDisabled(), true);
    await dialog.getByLabel("Type ops to confirm").fill("ops");
    await send.click();
    await untilEnforced(dialog);
    await page.goto(consoleUrl(world, "/receipts"));
    assert.equal(await page.locator("#receipts tbody tr").count(), 4);
    await shoot(page, "receipts");
    await page.locator("#receipts a.row").first().click();
    await page.getByRole("link", { name: "Download signed receipt" }).waitFor();
    await shoot(page, "receipt");
    assert.equal(complaints.splice(0).length, 1, "the name of no person");
  },
);

test("a person is suspended, restored and erased; what is erased has no name left", options, async (t) => {
  const { world, bob } = await startPeople(t);
  const { page } = await openConsole(t, browser, { world, path: `/people/${bob}` });
  const dialog = page.getByRole("dialog");
  const act = async (button: string, verb: string): Promise<void> => {
    await page.getByRole("button", { name: button }).click();
    await dialog.getByRole("button", { name: verb }).click();
    await untilEnforced(dialog);
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
  };
  await page.getByRole("button", { name: "Suspend…" }).click();
  await dialog.getByText("2 sessions end, and what is open on them closes.").waitFor();
  await page.keyboard.press("Escape");
  await act("Suspend…", "Suspend Bob Baker");
  await page.locator("#lead", { hasText: "Cannot sign in." }).waitFor();
  await act("Restore…", "Restore Bob Baker");
  await page.getByRole("button", { name: "Erase personal data…" }).click();
  await dialog.getByLabel("Type bob@example.com to confirm").fill("bob@example.com");
  await dialog.getByRole("button", { name: "Erase the personal data of Bob Baker" }).click();
  await untilEnforced(dialog);
  await page.keyboard.press("Escape");
  await page.getByRole("heading", { name: `Erased person ${bob.slice(0, 4)}` }).waitFor();
  assert.equal(await page.locator(".heading button").count(), 0);
  for (const path of [
    `/people/${bob}`,
    `/people/${bob}/history`,
    "/people",
    "/sessions?status=all",
    "/groups/ops",
    "/receipts",
  ]) {
    await page.goto(consoleUrl(world, path));
    assert.doesNotMatch(await page.content(), /Bob Baker|bob@example/, path);
  }
});

test("a viewer sees no buttons, and a hand-made request is refused", options, async (t) => {
  const { world, bob } = await startPeople(t);
  world.administrators.splice(0, 1, "none");
  world.roles.viewers.push("group:admins");
  const { page, complaints } = await openConsole(t, browser, { world, path: "/sessions" });
  for (const path of ["/sessions", `/people/${bob}`, "/groups/ops"]) {
    await page.goto(consoleUrl(world, path));
    assert.equal(await page.locator("button[data-act], input[data-select]").count(), 0, path);
  }
  const statuses = await page.evaluate(`Promise.all([
    ["/users/${bob}/suspend", {}], ["/groups/ops/remove", {}], ["/sessions/revoke", { filter: { all: true } }],
  ].map(async ([path, body]) => (await fetch("/.pomerium/admin/api/v1" + path, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  })).status))`);
  assert.deepEqual(statuses, [403, 403, 403]);
  assert.equal(world.world.replica.projection.user(bob as UserId)?.status, "active");
  complaints.splice(0);
});

test(
  "without brokers the lists stay, receipts say so, and a session that ended meanwhile is no error",
  options,
  async (t) => {
    let isAway = false;
    const operator = (inner: Databroker): Databroker => {
      const orAway = <T>(run: () => Promise<T>): Promise<T> =>
        isAway ? Promise.reject(new BrokerUnavailableError("no broker answers")) : run();
      return {
        ...inner,
        receipt: (target, wanted) => orAway(() => inner.receipt(target, wanted)),
        read: (from, wanted) => orAway(() => inner.read(from, wanted)),
        history: (request) => orAway(() => inner.history(request)),
      };
    };
    const { world, bob } = await startPeople(t, { operator });
    const { page } = await openConsole(t, browser, { world, path: "/sessions?q=bob", context: { bypassCSP: true } });
    await page.locator("input[data-select-all]").check();
    await world.post(`/users/${bob}/sessions/revoke`, { wait: "all" });
    await page.getByRole("button", { name: "Revoke…" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("The log has this already; nothing will change.").waitFor();
    await dialog.getByRole("button", { name: "Revoke 2 sessions" }).click();
    await dialog.getByText("Nothing had to change.").waitFor();
    await page.keyboard.press("Escape");
    await page.getByText("Nothing matches these filters.").waitFor();
    isAway = true;
    await page.goto(consoleUrl(world, "/groups/ops"));
    assert.equal(await page.locator("#members tbody tr").count(), 3, "the list is this node's own");
    await page.goto(consoleUrl(world, "/receipts"));
    await page.getByText("The brokers aren't answering; access decisions continue.").waitFor();
    await shoot(page, "receipts-away");
  },
);

test("in a language that is longer and runs the other way, nothing is cut or in English", options, async (t) => {
  const pseudo = pseudoText(texts[0]);
  const { world, bob } = await startPeople(t, { console: { texts: [pseudo] } });
  const { page } = await openConsole(t, browser, { world, path: "/sessions", context: { bypassCSP: true } });
  for (const path of ["/sessions", `/people/${bob}`, "/groups/ops"]) {
    await page.goto(consoleUrl(world, path));
    for (const [width, height] of sizes) {
      await page.setViewportSize({ width, height });
      assert.ok(Number(await page.evaluate("document.documentElement.scrollWidth")) <= width, `${path} at ${width}`);
    }
    const plain = (
      await page.locator("main button:visible, main th:visible, main dt:visible").allTextContents()
    ).filter((text) => text.trim() !== "" && !text.includes("⟦"));
    assert.deepEqual(plain, [], path);
    if (pictures !== undefined)
      await page.screenshot({ path: join(pictures, `pseudo${path.replaceAll("/", "-")}.png`) });
  }
});

test(
  "asking again repeats exactly what was sent, and a refused change is a new one when it is sent again",
  options,
  async (t) => {
    const { world } = await startPeople(t);
    const { page, complaints } = await openConsole(t, browser, { world, path: "/groups/ops" });
    const sent: Readonly<Record<string, unknown>>[] = [];
    const answers = [409, 503, 503];
    await page.route("**/groups/ops/members", async (route) => {
      sent.push(route.request().postDataJSON());
      const status = answers.shift();
      if (status === undefined) await route.continue();
      else await route.fulfill({ status, contentType: "application/json", body: '{"error":"not now"}' });
    });
    await page.getByRole("button", { name: /Add people/ }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel(/emails or IDs/).fill("alice@example.com");
    await dialog.getByLabel("For").selectOption("3600000");
    await dialog.getByLabel("Reason").fill("on call");
    await dialog.getByRole("button", { name: "Add these people" }).click();
    await dialog.getByText(/not now/).waitFor();
    await dialog.getByLabel("For").selectOption("28800000");
    await dialog.getByRole("button", { name: "Add these people" }).click();
    const again = dialog.getByRole("button", { name: "Ask again" });
    await again.waitFor();
    assert.ok(await dialog.getByLabel("For").isDisabled(), "what may be in the log cannot be changed any more");
    assert.ok(await dialog.getByLabel("Reason").isDisabled());
    await again.click();
    await waitFor("the third attempt", () => sent.length === 3);
    await again.click();
    await untilEnforced(dialog);
    const [refused, first, second, third] = sent;
    assert.notEqual(first?.["commandId"], refused?.["commandId"], "the leader remembers a refusal by its id");
    assert.equal(first?.["forMs"], 28_800_000);
    assert.deepEqual([second, third], [first, first]);
    await page.close();
    complaints.length = 0; // the answers above
  },
);
