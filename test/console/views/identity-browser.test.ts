/**
 * Identity sources, held changes and settings in a real Chromium, over a real broker: what each role sees and may do,
 * the typed number of a release, the way to a fresh sign-in, and the page for a role that does not suffice.
 *
 * `SCREENSHOTS=<folder>` saves pictures at three sizes, in light and dark.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { consoleViews } from "../../../src/console/views/register-console.ts";
import type { View } from "../../../src/console/views/view.ts";
import {
  type Command,
  type CommandId,
  type GroupId,
  readsLevel,
  type UnixMs,
  userIdOf,
} from "../../../src/events/index.ts";
import { base, config, goodRoute } from "../../config/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type OperatorWorld, startOperatorWorld } from "../api/operator-support.ts";
import { checkAxe, pictures, sizes } from "../browser-support.ts";
import { consoleUrl, openConsole, options, startBrowser } from "./console-support.ts";

let browser: Browser | undefined;
before(async () => {
  browser = await startBrowser();
});
after(() => browser?.close());

const people = 30;
const providers = [
  { name: "default", title: "Example Workforce Identity", provider: "oidc", status: "up", idpId: "8f14e45fceea167a" },
  { name: "partners", title: "", provider: "okta", status: "down", idpId: "c9f0f895fb98ab91" },
];
const secrets = { planted: "planted-client-secret" };

/** Thirty people in a group that a provisioning client wants to empty: the change is held. */
async function holdChange(at: OperatorWorld): Promise<string> {
  const { replica, deps } = at.world;
  const submit = async (command: Command, actor: string) => {
    const result = await deps.databroker.submit({ commandId: randomUUID() as CommandId, actor, command });
    if (result.type === "done") await replica.waitFor(result.link, 2_000);
    return result;
  };
  await waitFor("the level", async () => (await at.post("/cluster/finalize", { level: readsLevel })).status === 200);
  const now = Date.now();
  const issuer = "https://other.example";
  const ids = Array.from({ length: people }, (_, n) => userIdOf(issuer, `person-${n}`));
  for (const [n, userId] of ids.entries())
    await submit(
      {
        type: "createSession",
        sessionId: randomUUID() as never,
        userId,
        idpId: "demo",
        issuedAt: now as UnixMs,
        expiresAt: (now + 3_600_000) as UnixMs,
        profile: {
          issuer,
          subject: `person-${n}`,
          email: `person-with-a-rather-long-name-${n}@subsidiary.example.com`,
          emailVerified: true,
          name: "",
          claims: {},
        },
        tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
        groupIds: null,
        maxSessionsPerUser: 10,
      },
      "service:test",
    );
  const added = await at.post("/groups/eng/members", { add: ids, wait: "all" });
  assert.equal(added.status, 200, added.body);
  const removed = await at.post("/groups/eng/members", { remove: ids });
  const held = JSON.parse(removed.body) as { code?: string; heldId?: string };
  assert.equal(held.code, "held", removed.body);
  await waitFor("the held change", () => [...replica.projection.massChanges.held()].length === 1);
  return held.heldId ?? assert.fail("no id");
}

async function start(t: Parameters<typeof startOperatorWorld>[0], views: readonly View[] = consoleViews) {
  const text = `${base}administrators: [group:admins]\noperators:\n  - {who: "group:helpdesk", route_groups: [hr]}\nviewers: [group:sales]\nsignout_redirect_url: https://x.example/?key=${secrets.planted}\n${goodRoute}`;
  const world = await startOperatorWorld(t, {
    console: { views },
    settings: config(text),
    deps: { signInProviders: () => providers },
  });
  world.roles.administrators.splice(0, 1, "group:admins");
  world.roles.viewers.push("group:sales");
  return world;
}

async function checkEverySize(page: Page, name: string): Promise<void> {
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    for (const [width, height] of sizes) {
      await page.setViewportSize({ width, height });
      await checkAxe(page, `${name}, ${width}, ${colorScheme}`);
      assert.ok(Number(await page.evaluate("document.documentElement.scrollWidth")) <= width, `${name} at ${width}`);
      if (pictures !== undefined)
        await page.screenshot({ path: join(pictures, `${name}-${width}-${colorScheme}.png`), fullPage: true });
    }
  }
}

test(
  "a held change shows which people it concerns, and is released by the typed number after a fresh sign-in",
  options,
  async (t) => {
    const world = await start(t);
    const id = await holdChange(world);
    const secretHash = "ab".repeat(32);
    for (const [client, tokenId] of [
      ["okta", "abcdef012345"],
      ["a-client-with-a-long-name", "0123456789ab"],
    ])
      assert.equal(
        (await world.post("/scim/tokens", { client, tokenId, secretHash, scopes: ["users:read"] })).status,
        200,
      );
    const { page, complaints } = await openConsole(t, browser, {
      world,
      path: "/directory",
      context: { bypassCSP: true },
    });
    await page.getByText("1 held change waits for you.").waitFor();
    await checkEverySize(page, "identity");
    await page.getByRole("link", { name: "Open held changes" }).click();
    await checkEverySize(page, "held");
    await page.locator(`tr[data-id="${id}"] a`).click();
    await page.getByRole("heading", { name: "What it would do now" }).waitFor();
    await checkEverySize(page, "held-change");

    const release = async (): Promise<void> => {
      await page.getByRole("button", { name: `Release for ${people} people…` }).click();
      await page.locator("dialog textarea").fill("checked with the team");
      const send = page.getByRole("button", { name: "Release the change" });
      assert.ok(await send.isDisabled(), "nothing is typed");
      await page.locator("dialog label input:visible").last().fill("29");
      assert.ok(await send.isDisabled(), "another number");
      await page.locator("dialog label input:visible").last().fill(String(people));
      await send.click();
    };
    await release();
    const again = page.locator("dialog a[href*='sign_in_again']");
    await again.waitFor();
    assert.equal(complaints.filter((each) => each.includes("403")).length, 1, "the refusal itself");
    complaints.length = 0;
    await again.click();
    await page.getByRole("button", { name: "Sign in as alice" }).click();
    await page.waitForURL(new RegExp(`/held/${id}$`));
    await release();
    await page.locator("dialog [data-receipt]").waitFor();
    const { projection } = world.world.replica;
    await waitFor(
      "the release",
      () =>
        !projection.groupsOf(userIdOf("https://other.example", "person-0"), Date.now() as UnixMs).has("eng" as GroupId),
    );
    await page.close();
    // The dialog learns from a refusal what the server wants typed.
    complaints.splice(0, complaints.length, ...complaints.filter((each) => !each.includes("status of 400")));
  },
);

test(
  "settings show what differs, who has access and no secret; the sign-in button leads there and back",
  options,
  async (t) => {
    const world = await start(t);
    const { page } = await openConsole(t, browser, { world, path: "/settings", context: { bypassCSP: true } });
    await page.getByRole("heading", { name: "Who has access" }).waitFor();
    const text = (await page.locator("main").textContent()) ?? "";
    assert.match(text, /group:helpdesk \(hr\)/);
    assert.ok(!text.includes(secrets.planted));
    assert.equal(await page.getByText("refresh_interval").count(), 0, "it has its default");
    await checkEverySize(page, "settings");
    await page.goto(consoleUrl(world, "/settings?q=refresh"));
    assert.equal(await page.getByText("refresh_interval").count(), 1);
    await page.goto(consoleUrl(world, "/settings?show=all"));
    await checkEverySize(page, "settings-all");
    await page.goto(consoleUrl(world, "/settings?q=no-such-key"));
    await page.getByText("Nothing matches these filters.").waitFor();
    await page.getByRole("link", { name: "Sign in again" }).click();
    await page.getByRole("button", { name: "Sign in as alice" }).click();
    await page.waitForURL(/\/admin\/settings$/);
    await page.getByText("Fresh sign-in until").waitFor();
    assert.equal(await page.getByText("Not fresh.").count(), 0);
  },
);

test("a viewer has no buttons, and a page for another role says which it needs and who has it", options, async (t) => {
  const view: View = {
    id: "test-admin",
    path: "/test-admin",
    menu: null,
    role: "administrator",
    render: async () => ({ title: "Secret", lead: "", content: "", command: null }),
  };
  const world = await start(t, [...consoleViews, view]);
  const id = await holdChange(world);
  const { page, complaints } = await openConsole(t, browser, { world, path: `/held/${id}`, person: "bob" });
  await page.getByRole("heading", { name: "What it would do now" }).waitFor();
  assert.equal(await page.locator("[data-act]").count(), 0);
  await page.goto(consoleUrl(world, "/test-admin"));
  await page.getByRole("heading", { name: "This page needs the role administrator" }).waitFor();
  await page.getByText("group:admins").waitFor();
  assert.ok(!((await page.locator("main").textContent()) ?? "").includes("helpdesk"));
  complaints.splice(0, complaints.length, ...complaints.filter((each) => !each.includes("403")));
});
